//! Files against what stands: each promise of policy as files that needs no API.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::model::{
    Action, App, Layer, LayerSpec, Ports, Protocol, Reason, Resource, ResourceSpec, Role, RoleSpec, RuleView, Selector,
    Usage,
};

fn file(text: &str) -> File {
    File { name: "web.yaml".to_owned(), text: text.to_owned() }
}

fn policy(text: &str) -> Policy {
    read(&[file(text)]).expect("a policy")
}

fn refused(text: &str) -> String {
    read(&[file(text)]).expect_err(text).to_string()
}

fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

/// What stands once these rules are made, numbered from 2.
fn standing(rules: &[RuleSpec]) -> Standing {
    let view = |(spec, id): (&RuleSpec, u32)| {
        let mut rule = serde_json::to_value(spec).expect("json");
        let rest = json!({"id": format!("r{id}"), "revision": 1, "created_at": "2026-01-31T12:00:00Z", "created_by": "operator"});
        rule.as_object_mut().expect("object").extend(rest.as_object().expect("object").clone());
        RuleView { rule: serde_json::from_value(rule).expect("a rule"), usage: Usage::default() }
    };
    Standing {
        rules: rules.iter().zip(2..).map(view).collect(),
        apps: Vec::new(),
        groups: Vec::new(),
        access: StandingAccess::default(),
        now: time("2026-01-31T12:00:00Z"),
    }
}

const WEB: &str = "
apiVersion: netpol/v1
groups: [front]
apps:
  - name: web
    mode: audit
    groups: [front]
rules:
  - source: web
    destination: db
    ports: [5432]
    action: allow
    reason: CHG-118
  - {source: group:front, destination: any, protocol: icmp, action: deny, on_deny: drop, mode: audit}
---
rules:
  - source: host
    destination: web
    ports: [8080, 8000-8010]
    action: allow
    ttl: 2h
";

#[test]
fn files_and_documents_are_one_policy() {
    let more = File {
        name: "more.yaml".to_owned(),
        text: "rules:\n- {source: a, destination: b, action: allow}\n".to_owned(),
    };
    let policy = read(&[file(WEB), more, file("# nothing but a comment\n")]).expect("a policy");
    assert_eq!((policy.rules.len(), policy.apps.len(), policy.groups.len()), (4, 1, 1));
}

#[test]
fn what_is_wrong_is_named_by_file_line_and_field_with_what_would_be_right() {
    let rule = "rules:\n  - source: web\n    destination: db\n    action: allow\n";
    let cases = [
        (
            format!("{rule}    ports: [80, 70000]\n"),
            "web.yaml:5:17: field `rules[0].ports[1]`: `70000` is out of range; use",
        ),
        (
            format!("{rule}    prots: [80]\n"),
            "web.yaml:5:5: field `rules[0].prots`: `prots` is not a known member; known here are",
        ),
        (
            format!("{rule}    action: deny\n"),
            "web.yaml:5:5: field `rules[0].action`: it appears twice, first in line 4",
        ),
        (
            format!("{rule}    ports: 80\n"),
            "web.yaml:5:5: field `rules[0].ports`: a text is not what belongs here; use a list",
        ),
        (format!("{rule}    mode:\n"), "web.yaml:5:5: field `rules[0].mode`: null is not what belongs here"),
        (format!("{rule}    ttl: soon\n"), "web.yaml:5:5: field `rules[0].ttl`: `soon` is no lifetime; write 90s"),
        (format!("{rule}    ttl: 2h\n    expires_at: 2027-01-01T00:00:00Z\n"), "web.yaml:5:5: field `rules[0].ttl`"),
        (
            format!("{rule}  - {{source: web, action: allow, destination: db}}\n"),
            "is said already by web.yaml:2; say it once",
        ),
        ("rules:\n  - source: web\n    action: allow\n".to_owned(), "web.yaml:2:5: field `rules[0].destination`"),
        (
            "apps:\n  - name: web\n  - name: Web\n".to_owned(),
            "web.yaml:3:5: field `apps[1].name`: `Web` is said already by web.yaml:2",
        ),
        ("apps:\n  - name: any\n".to_owned(), "web.yaml:2:5: field `apps[0].name`"),
        (
            "apps:\n  - {name: web, add_groups: [a]}\n".to_owned(),
            "field `apps[0].add_groups`: `add_groups` is not a known member",
        ),
        ("groups: [a, 'b c']\n".to_owned(), "web.yaml:1:13: field `groups[1]`"),
        ("isolations: []\n".to_owned(), "web.yaml:1:1: field `isolations`"),
        ("apiVersion: netpol/v2\n".to_owned(), "web.yaml:1:1: field `apiVersion`: `netpol/v2`"),
        ("- a\n".to_owned(), "web.yaml:1:1: field `(body)`: a list is not what belongs here; use an object"),
        ("rules: [\n".to_owned(), "web.yaml:1:8: this is not YAML"),
    ];
    for (text, expected) in cases {
        let error = refused(&text);
        assert!(error.contains(expected), "{text}\nis refused by: {error}\nexpected: {expected}");
    }
}

#[test]
fn what_stands_as_files_say_is_no_difference_and_everything_else_is_said() {
    let wanted = policy(
        "rules:\n- {source: a, destination: b, ports: [80], action: allow, reason: one}\n- {source: a, destination: c, action: deny}\n",
    );
    let rule = |text: &str| policy(text).ordered()[0].spec.clone();
    let same = standing(&[
        rule("rules: [{source: a, destination: c, action: deny, on_deny: reset}]"),
        rule("rules: [{source: a, destination: b, ports: [80], action: allow, reason: one}]"),
    ]);
    let none = Difference::of(&wanted, &same, &Prune::Rules);
    assert!(none.is_empty() && none.unchanged == 2, "{none:?}");
    let other = standing(&[
        rule("rules: [{source: a, destination: b, ports: [80], action: allow, mode: audit}]"),
        rule("rules: [{source: x, destination: y, action: allow}]"),
    ]);
    let difference = Difference::of(&wanted, &other, &Prune::Nothing);
    assert_eq!((difference.created.len(), difference.updated.len(), difference.deleted.len()), (1, 1, 0));
    let pruned = |prune| {
        let difference = Difference::of(&wanted, &other, &prune);
        difference.change_set().delete.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(pruned(Prune::Rules), ["r3"]);
    assert_eq!(pruned(Prune::RulesOf("y".parse().expect("name"))), ["r3"]);
    assert!(pruned(Prune::RulesOf("a".parse().expect("name"))).is_empty());
}

#[test]
fn pruning_spares_the_rule_that_a_store_is_born_with() {
    let mut born = standing(&[policy("rules: [{source: host, destination: any, protocol: any, action: allow}]")
        .ordered()[0]
        .spec
        .clone()]);
    Rule::BUILT_IN.clone_into(&mut born.rules[0].rule.created_by);
    assert!(Difference::of(&Policy::default(), &born, &Prune::Rules).is_empty());
    assert_eq!(Difference::of(&Policy::default(), &born, &Prune::Everything).deleted.len(), 1);
}

#[test]
fn a_change_touches_the_flows_of_rules_that_go_or_change_and_those_that_a_new_deny_may_hit() {
    let mut stands = standing(
        &policy(
            "
rules:
- {source: a, destination: b, ports: [80], action: allow}
- {source: a, destination: b, ports: [443], action: allow}
- {source: x, destination: b, ports: [80], action: allow}
- {source: host, destination: b, ports: [80], action: allow}
",
        )
        .ordered()
        .iter()
        .map(|wanted| wanted.spec.clone())
        .collect::<Vec<_>>(),
    );
    // In their order: host 80, a 80, a 443, x 80.
    stands.rules.iter_mut().zip([1, 10, 100, 1_000]).for_each(|(view, live)| view.usage.live = live);
    let touched = |text: &str| Difference::of(&policy(text), &stands, &Prune::Nothing).live_flows;
    assert_eq!(touched("rules: [{source: a, destination: c, action: allow}]"), 0);
    assert_eq!(touched("rules: [{source: a, destination: b, ports: [80], action: allow, mode: audit}]"), 10);
    assert_eq!(touched("rules: [{source: any, destination: b, ports: [1-100], action: deny}]"), 1_010);
    assert_eq!(touched("rules: [{source: a, destination: b, protocol: any, action: deny}]"), 110);
    assert_eq!(touched("rules: [{source: a, destination: b, protocol: any, action: deny, mode: audit}]"), 0);
    assert_eq!(Difference::of(&Policy::default(), &stands, &Prune::Rules).live_flows, 1_111);
}

#[test]
fn a_rule_that_lasts_so_long_is_not_made_longer_each_time_and_one_that_is_over_is_not_made() {
    let lasting = policy("rules: [{source: a, destination: b, action: allow, ttl: 2h}]");
    let end = |text: &str| {
        let mut spec = lasting.ordered()[0].spec.clone();
        spec.expires_at = Some(time(text));
        spec
    };
    let difference = |standing: &Standing| Difference::of(&lasting, standing, &Prune::Nothing);
    assert_eq!(difference(&standing(&[])).created, [end("2026-01-31T14:00:00Z")]);
    assert!(difference(&standing(&[end("2026-01-31T13:00:00Z")])).is_empty());
    assert_eq!(difference(&standing(&[end("2026-01-31T15:00:00Z")])).updated.len(), 1);
    let over = policy("rules: [{source: a, destination: b, action: allow, expires_at: 2026-01-01T00:00:00Z}]");
    let past = Difference::of(&over, &standing(&[]), &Prune::Nothing);
    assert!(past.is_empty() && past.over.len() == 1);
}

#[test]
fn an_app_is_set_as_files_say_and_what_they_do_not_say_stays() {
    let mut stands = standing(&[]);
    let app = |json| serde_json::from_value::<App>(json).expect("an app");
    stands.apps = vec![app(json!({"name": "web", "identity": 256, "mode": "audit", "groups": ["a"], "revision": 1}))];
    let of = |text: &str| Difference::of(&policy(text), &stands, &Prune::Rules).apps;
    assert!(of("apps: [{name: web, mode: audit, groups: [a]}]").is_empty());
    assert!(of("apps: [{name: web}]").is_empty());
    let changed = of("apps: [{name: web, mode: enforce}]");
    assert_eq!((changed[0].mode, &changed[0].groups), (Some(Mode::Enforce), &None));
    assert_eq!(of("apps: [{name: web, groups: []}]")[0].groups, Some(BTreeSet::new()));
    assert!(of("apps: [{name: db}]")[0].before.is_none());
}

const RELEASE: &str = "
layers:
  - name: ci
    members: [host:ci-2, host:ci-1]
roles:
  - {name: production/release-bot/publisher, members: [layer:ci, 'user:oidc/auth0|12']}
  - {name: ops, members: []}
resources:
  - id: production/release-bot
    permissions:
      - role: production/release-bot/publisher
        privileges: [read, create]
      - {role: ops, privileges: [delete]}
";

/// What stands once these files are applied, to what stood.
fn standing_of(policy: &Policy) -> Standing {
    let revision = crate::model::Revision(1);
    let AccessPolicy { layers, roles, resources } = policy.access.clone();
    let mut stands = standing(&[]);
    let layer = |LayerSpec { name, members }| Layer { name, members: members.into_iter().collect(), revision };
    stands.access.layers = layers.into_iter().flat_map(BTreeMap::into_values).map(layer).collect();
    let role = |RoleSpec { name, members }| Role { name, members: members.into_iter().collect(), revision };
    stands.access.roles = roles.into_iter().flat_map(BTreeMap::into_values).map(role).collect();
    let resource = |ResourceSpec { id, permissions }| Resource { id, permissions: permissions.into(), revision };
    stands.access.resources = resources.into_iter().flat_map(BTreeMap::into_values).map(resource).collect();
    stands
}

#[test]
fn roles_and_resources_that_stand_as_files_say_are_no_difference_and_an_export_reads_back() {
    let wanted = policy(RELEASE);
    let stands = standing_of(&wanted);
    assert!(Difference::of(&wanted, &stands, &Prune::Rules).is_empty());
    let text = write(&stands.policy());
    assert!(Difference::of(&policy(&text), &stands, &Prune::Rules).is_empty(), "{text}");
    assert_eq!(write(&policy(&text)), text, "the same policy is the same text");
    assert!(text.contains("    members: [host:ci-1, host:ci-2]\n"), "{text}");
    assert!(
        text.contains("      - role: production/release-bot/publisher\n        privileges: [create, read]\n"),
        "{text}"
    );
}

#[test]
fn who_is_left_out_of_a_role_of_a_file_is_out_of_it_and_only_kinds_that_files_speak_of_are_pruned() {
    let stands = standing_of(&policy(RELEASE));
    let of = |text: &str, prune: Prune| Difference::of(&policy(text), &stands, &prune).access.changes();
    let smaller = of("layers: [{name: ci, members: [host:ci-1]}]", Prune::Rules);
    assert_eq!((smaller.layers[0].members.len(), smaller.delete_layers.len(), smaller.delete_roles.len()), (1, 0, 0));
    assert!(of("rules: []", Prune::Rules).is_empty(), "who keeps rules in files alone loses no roles");
    let none = of("roles: []\nresources: []", Prune::Rules);
    assert_eq!((none.delete_roles.len(), none.delete_resources.len(), none.delete_layers.len()), (2, 1, 0));
    assert!(of("roles: []", Prune::Nothing).is_empty() && of("roles: []", Prune::Everything).is_empty());
    let more = of("roles: [{name: new, members: [role:ops]}]", Prune::Nothing);
    assert_eq!((more.roles.len(), more.delete_roles.len()), (1, 0));
}

#[test]
fn a_role_that_cannot_be_is_named_by_file_line_and_field() {
    let cases = [
        ("layers:\n  - name: ci\n", "web.yaml:2:5: field `layers[0].members`"),
        (
            "layers:\n  - name: ci\n    members: [host:a,\n      user:olga]\n",
            "web.yaml:4:7: field `layers[0].members[1]`",
        ),
        ("roles:\n  - {name: a//b, members: []}\n", "field `roles[0].name`: `a//b` is not the name of a role"),
        (
            "roles:\n  - {name: a, members: [web]}\n",
            "field `roles[0].members[0]`: `web` is nothing that a role can have",
        ),
        ("roles:\n- {name: a, members: []}\n- {name: a, members: []}\n", "`role a` is said already by web.yaml:2"),
        (
            "resources:\n- {id: a, permissions: [{role: b, privileges: [Read]}]}\n",
            "field `resources[0].permissions[0].privileges[0]`",
        ),
        ("resources:\n- {id: a, permissions: [{role: b, privilege: [read]}]}\n", "field `resources[0].permissions[0]."),
    ];
    for (text, expected) in cases {
        let error = refused(text);
        assert!(error.contains(expected), "{text}\nis refused by: {error}\nexpected: {expected}");
    }
}

#[test]
fn a_long_list_is_written_a_line_for_each_so_that_a_change_of_one_is_one_line() {
    let many: Vec<String> = (10..40).map(|number| format!("host:ci-{number}")).collect();
    let wanted = policy(&format!("layers: [{{name: ci, members: [{}]}}]", many.join(", ")));
    let text = write(&wanted);
    assert!(text.contains("    members:\n      - host:ci-10\n      - host:ci-11\n"), "{text}");
    assert!(Difference::of(&policy(&text), &standing_of(&wanted), &Prune::Rules).is_empty(), "{text}");
}

#[test]
fn the_same_policy_is_the_same_text_in_the_order_of_its_ends() {
    let text = write(&policy(WEB));
    assert_eq!(write(&policy(&text)), text);
    let order: Vec<usize> =
        ["host -> web", "group:front -> any", "web -> db"].iter().map(|pair| text.find(pair).expect("there")).collect();
    assert!(order.is_sorted(), "{text}");
}

fn selector() -> impl Strategy<Value = Selector> {
    prop_oneof![
        "[a-zA-Z0-9]([a-zA-Z0-9._-]{0,5}[a-zA-Z0-9])?",
        Just("null".to_owned()),
        Just("no".to_owned()),
        "group:[a-z0-9]{1,3}",
        Just("any".to_owned())
    ]
    .prop_filter_map("a reserved word", |text| text.parse().ok())
}

fn wanted() -> impl Strategy<Value = WantedRule> {
    let ports = prop_oneof![Just(None), proptest::collection::vec(1..=u16::MAX, 1..4).prop_map(Some)];
    let end = prop_oneof![
        Just(End::Never),
        (1..100_000_u64).prop_map(|seconds| End::After(Duration::from_secs(seconds))),
        (0..4_000_000_000_000_i64).prop_map(|ms| End::At(Timestamp::of_unix_milliseconds(ms).expect("a time"))),
    ];
    let reason = proptest::option::of("[^\\p{Cc}]{0,40}");
    (selector(), selector(), ports, any::<bool>(), any::<bool>(), end, reason).prop_map(
        |(source, destination, ports, is_deny, is_audited, end, reason)| {
            let ports = ports.map_or(Ports::All, |ports| {
                let entries: Vec<String> = ports.iter().map(ToString::to_string).collect();
                Ports::from_entries("ports", &entries).expect("ports")
            });
            let action = if is_deny { Action::Deny } else { Action::Allow };
            let mut spec = RuleSpec::new(source, destination, Protocol::Udp, ports, action);
            spec.mode = if is_audited { Mode::Audit } else { Mode::Enforce };
            spec.reason = reason.map(|reason| reason.parse::<Reason>().expect("a reason"));
            WantedRule { spec, end }
        },
    )
}

proptest! {
    #[test]
    fn every_policy_reads_back_as_itself(rules in proptest::collection::vec(wanted(), 0..12)) {
        let rules = rules.into_iter().map(|wanted| (wanted.spec.tuple(), wanted)).collect();
        let whole = Policy { rules, ..Policy::default() };
        prop_assert_eq!(policy(&write(&whole)), whole);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[-a-z:\\[\\]{}&*!#|>?'\"%@` \n\t0-9,~]{0,200}") {
        let _read = read(&[file(&text)]);
    }
}
