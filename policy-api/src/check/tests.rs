//! The API's answer is the engine's, and reads like a sentence.

use std::sync::Arc;

use common::{Layer, Party, PortRange, Ruling, Term, Terms};
use proptest::prelude::*;

use super::*;
use crate::model::{
    Action, App, AppName, Change, Group, Mode, Overlay, Ports, Prefix, Protocol, Revision, Rule, RuleId, Selector,
    Timestamp, Tuple,
};

const APPS: [&str; 3] = ["web", "db", "cache"];

fn app(name: &str) -> AppName {
    name.parse().expect("name")
}

fn state(rules: Vec<Rule>) -> State {
    state_with(rules, &[false; 3])
}

/// With these of the apps in audit.
fn state_with(rules: Vec<Rule>, audited: &[bool; 3]) -> State {
    let prefix = |text: &str| text.parse::<Prefix>().expect("prefix");
    let overlay = Overlay { v4: prefix("10.255.0.0/16"), v6: prefix("fd00:1:2::/48") };
    let mut state = State::empty("00ff00ff00ff00ff".parse().expect("history"), overlay);
    let groups = GROUPS.iter().zip(1..).map(|(name, number)| {
        let name = name.parse().expect("name");
        Change::PutGroup { group: Arc::new(Group { name, number, revision: Revision(1) }) }
    });
    let apps = APPS.iter().zip(256..).zip(audited).map(|((name, number), audited)| {
        let identity = Identity::new(number).expect("24 bits");
        let groups = groups_of(name).iter().map(|group| group.parse().expect("name")).collect();
        let mode = if *audited { Mode::Audit } else { Mode::Enforce };
        Change::PutApp { app: Arc::new(App { mode, groups, ..App::new(app(name), identity, Revision(1)) }) }
    });
    let rules = rules.into_iter().map(|rule| Change::PutRule { rule: Arc::new(rule) });
    state.apply(Revision(1), &groups.chain(apps).chain(rules).collect::<Vec<_>>());
    state
}

fn rule(id: u32, tuple: Tuple) -> Rule {
    Rule {
        id: RuleId(id),
        source: tuple.source,
        destination: tuple.destination,
        protocol: tuple.protocol,
        ports: tuple.ports,
        action: tuple.action,
        mode: Mode::Enforce,
        expires_at: None,
        on_deny: None,
        reason: None,
        revision: Revision(1),
        created_at: Timestamp::now(),
        created_by: "operator".to_owned(),
        team: None,
    }
}

/// `allow web db tcp 80`
fn rules(texts: &[&str]) -> Vec<Rule> {
    let parse = |(text, id): (&&str, u32)| {
        let words: Vec<&str> = text.split(' ').collect();
        let ports = words.get(4).map_or(Ports::All, |ports| ports.parse().expect("ports"));
        let selector = |word: &str| word.parse().expect("selector");
        let (action, protocol) = (words[0].parse().expect("action"), words[3].parse().expect("protocol"));
        rule(id, Tuple { source: selector(words[1]), destination: selector(words[2]), protocol, ports, action })
    };
    texts.iter().zip(1..).map(parse).collect()
}

fn ask(texts: &[&str], source: &str, destination: &str, port: Option<u16>) -> Result<CheckAnswer, Refusal> {
    let selector = |word: &str| word.parse().expect("selector");
    let query =
        CheckQuery { source: selector(source), destination: selector(destination), protocol: Protocol::Tcp, port };
    check(&state(rules(texts)), &query)
}

#[test]
fn the_answer_names_the_deciding_rule_or_the_nearest() {
    let standing = ["allow web db tcp 80,8000-8010", "deny web db tcp 8005", "allow db cache tcp"];
    let allowed = ask(&standing, "web", "db", Some(8000)).expect("answer");
    assert_eq!(allowed.text, "web -> db tcp/8000 is allowed by r1 (allow web -> db tcp/80,8000-8010)");
    let denied = ask(&standing, "web", "db", Some(8005)).expect("answer");
    assert_eq!((denied.cause, denied.rule.expect("rule").id), (Cause::DenyRule, RuleId(2)));
    let none = ask(&standing, "web", "db", Some(443)).expect("answer");
    assert_eq!((none.cause, none.nearest.expect("nearest").id), (Cause::NoRule, RuleId(1)));
    let reversed = ask(&standing, "cache", "db", Some(80)).expect("answer");
    assert_eq!(
        reversed.text,
        "cache -> db tcp/80 is denied: no rule allows it; the nearest is r3 (allow db -> cache tcp)"
    );
    assert_eq!(ask(&standing, "cache", "web", Some(80)).expect("answer").nearest, None);
}

#[test]
fn the_host_is_a_source_like_any_other() {
    let answer = ask(&["allow host db tcp 80"], "host", "db", Some(80)).expect("answer");
    assert_eq!(answer.verdict, VerdictWord::Allow);
}

#[test]
fn without_a_port_the_answer_holds_for_every_port_or_is_refused() {
    let all = ask(&["allow web db tcp", "allow web db tcp 80"], "web", "db", None).expect("one answer");
    assert_eq!((all.verdict, all.text.contains("on all ports")), (VerdictWord::Allow, true));
    let whole = ask(&["allow web db tcp 1-100", "allow web db tcp 101-65535"], "web", "db", None).expect("one answer");
    assert_eq!(whole.verdict, VerdictWord::Allow);
    assert_eq!(ask(&[], "web", "db", None).expect("default deny").verdict, VerdictWord::Deny);
    for standing in [["allow web db tcp", "deny web db tcp 65535"], ["allow web db tcp 1", "allow db web tcp"]] {
        let refused = ask(&standing, "web", "db", None).expect_err("no one answer");
        assert_eq!(refused.field(), Some("port"), "{refused}");
    }
}

#[test]
fn an_unknown_app_is_named_with_what_was_meant() {
    let refused = ask(&[], "web", "cahce", Some(80)).expect_err("unknown");
    assert_eq!(refused.field(), Some("destination"));
    assert!(refused.to_string().contains("did you mean `cache`?"), "{refused}");
}

fn tuple() -> impl Strategy<Value = Tuple> {
    let port = prop_oneof![1_u16..40, 8000_u16..8020, Just(u16::MAX)];
    let range = (port, 0_u16..20).prop_map(|(first, length)| PortRange::new(first, first.saturating_add(length)));
    let ports = prop::option::of(prop::collection::vec(range, 1..4)).prop_map(|ranges| {
        ranges.map_or(Ports::All, |ranges| Ports::list(ranges.into_iter().flatten()).expect("not empty"))
    });
    (0..2_usize, 0..2_usize, ports, any::<bool>()).prop_map(|(source, destination, ports, deny)| Tuple {
        source: Selector::App(app(APPS[source])),
        destination: Selector::App(app(APPS[destination])),
        protocol: Protocol::Tcp,
        ports,
        action: if deny { Action::Deny } else { Action::Allow },
    })
}

/// The groups of the apps by name: `web` is in one, `cache` in both, `db` in none.
const GROUPS: [&str; 2] = ["front", "back"];

fn groups_of(name: &str) -> &'static [&'static str] {
    match name {
        "web" => &GROUPS[..1],
        "cache" => &GROUPS,
        _ => &[],
    }
}

/// The same rules as terms, which the engine can ask without any help of ours.
fn terms(state: &State) -> (Vec<Term>, Vec<(Identity, Party)>) {
    let party = |side: &Selector| match side {
        Selector::Host => Party::HOST,
        Selector::Any => Party::ANY,
        Selector::Group(name) => Party::group(state.group(name).expect("known").number).expect("24 bits"),
        Selector::App(name) => Party::one(state.app(name).expect("known").identity),
    };
    let mut terms = Vec::new();
    for rule in state.replica().rules.values() {
        let layer = if rule.mode == Mode::Audit { Layer::Audited } else { Layer::Enforced };
        let ruling = Ruling { action: rule.action.into(), rule: rule.id.into() };
        let (source, destination) = (party(&rule.source), party(&rule.destination));
        for protocol in rule.protocol.wire() {
            let term =
                |ports: &PortRange| Term { source, destination, protocol: *protocol, ports: *ports, layer, ruling };
            terms.extend(rule.ports.ranges().iter().map(term));
        }
    }
    let apps = state.replica().apps.values();
    let members = apps.flat_map(|app| app.groups.iter().map(move |group| (app, group)));
    let members = members.map(|(app, group)| (app.identity, party(&Selector::Group(group.clone()))));
    (terms, members.collect())
}

fn side() -> impl Strategy<Value = Selector> {
    prop_oneof![
        4 => (0..3_usize).prop_map(|at| Selector::App(app(APPS[at]))),
        2 => (0..2_usize).prop_map(|at| Selector::Group(GROUPS[at].parse().expect("name"))),
        1 => Just(Selector::Any),
        1 => Just(Selector::Host),
    ]
}

fn any_rule() -> impl Strategy<Value = (Tuple, Mode)> {
    let protocol = prop::sample::select(Protocol::ALL.to_vec());
    let modes = prop::sample::select(vec![Mode::Enforce, Mode::Enforce, Mode::Audit]);
    (side(), side(), protocol, tuple(), modes).prop_map(|(source, destination, protocol, tuple, mode)| {
        let ports = if protocol.has_ports() { tuple.ports } else { Ports::All };
        (Tuple { source, destination, protocol, ports, action: tuple.action }, mode)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn check_says_what_the_engine_says_over_the_same_rules(
        tuples in prop::collection::vec(any_rule(), 0..8), probe in 1_u16..,
        audited in any::<[bool; 3]>(), ends in (0..4_usize, 0..4_usize),
    ) {
        prop_assume!(ends != (3, 3));
        let rules = tuples.into_iter().zip(1..).map(|((tuple, mode), id)| Rule { mode, ..rule(id, tuple) }).collect();
        let state = state_with(rules, &audited);
        let (terms, members) = terms(&state);
        let name = |at: usize| APPS.get(at).copied();
        let selector = |at: usize| name(at).map_or(Selector::Host, |name| Selector::App(app(name)));
        let identity = |at: usize| name(at).map_or(Identity::HOST, |name| state.app(&app(name)).expect("known").identity);
        let is_soft = match ends {
            (3, _) => false,
            (from, 3) => audited[from],
            (from, to) => audited[from] && audited[to],
        };
        let ports = terms.iter().flat_map(|term| [term.ports.first().max(1), term.ports.last(), term.ports.last().saturating_add(1).max(1)]);
        for port in ports.chain([probe, 1, u16::MAX]).collect::<Vec<_>>() {
            for protocol in Protocol::ALL.into_iter().filter(|protocol| *protocol != Protocol::Any) {
                let port = protocol.has_ports().then_some(port);
                let query = CheckQuery { source: selector(ends.0), destination: selector(ends.1), protocol, port };
                let answer = check(&state, &query).expect("known apps");
                let question = Question {
                    source: identity(ends.0), destination: identity(ends.1), protocol: protocol.wire()[0], port: port.unwrap_or(0),
                };
                let engine = Terms { terms: &terms, members: &members };
                let expected = decide(&engine, &question);
                let with_audit = decide_with_audit(&engine, &question, expected);
                let cause = match (expected.answer, is_soft) {
                    (Answer::Allow, _) => Cause::AllowRule,
                    (_, true) => Cause::Audit,
                    (Answer::Deny | Answer::DenySilently, false) => Cause::DenyRule,
                    (Answer::NoRule, false) => Cause::NoRule,
                };
                prop_assert_eq!(answer.cause, cause);
                prop_assert_eq!(answer.verdict == VerdictWord::Allow, expected.is_allow() || is_soft);
                let would = match expected.is_allow() {
                    false if is_soft => Some(expected),
                    _ => Some(with_audit).filter(|with_audit| with_audit.is_allow() != expected.is_allow()),
                };
                let said = answer.would.map(|would| (would.verdict == VerdictWord::Allow, would.rule.map(|rule| rule.id.0)));
                let expected_would = would.map(|would| (would.is_allow(), Some(would.rule.0).filter(|id| *id > 0)));
                prop_assert_eq!(said, expected_would);
                if matches!(cause, Cause::AllowRule | Cause::DenyRule) {
                    prop_assert_eq!(answer.rule.map(|rule| rule.id.0), Some(expected.rule.0));
                }
            }
        }
    }

    /// A question about many flows is answered only if each of them has that answer.
    #[test]
    fn one_answer_for_many_is_the_answer_for_each(
        tuples in prop::collection::vec(any_rule(), 0..5), audited in any::<[bool; 3]>(),
        source in side(), destination in side(), protocol in prop::sample::select(Protocol::ALL.to_vec()),
    ) {
        prop_assume!(source != Selector::Host || destination != Selector::Host);
        let rules = tuples.into_iter().zip(1..).map(|((tuple, mode), id)| Rule { mode, ..rule(id, tuple) }).collect();
        let state = state_with(rules, &audited);
        let stands_for = |selector: &Selector| -> Vec<Selector> {
            let apps = state.replica().apps.values();
            match selector {
                Selector::Any => apps.map(|app| Selector::App(app.name.clone())).collect(),
                Selector::Group(group) => {
                    apps.filter(|app| app.groups.contains(group)).map(|app| Selector::App(app.name.clone())).collect()
                }
                Selector::App(_) | Selector::Host => vec![selector.clone()],
            }
        };
        let query = CheckQuery { source: source.clone(), destination: destination.clone(), protocol, port: None };
        let Ok(answer) = check(&state, &query) else { return Ok(()) };
        for from in stands_for(&source) {
            for to in stands_for(&destination) {
                for port in [1, 20, 8_010, u16::MAX] {
                    let port = protocol.has_ports().then_some(port);
                    let one = CheckQuery { source: from.clone(), destination: to.clone(), protocol, port };
                    prop_assert_eq!(check(&state, &one).expect("part of the answer").verdict, answer.verdict);
                }
            }
        }
    }
}

#[test]
fn a_wildcard_and_a_group_decide_as_the_apps_own_rules_do() {
    let standing = ["allow group:front db tcp 80", "allow any cache tcp", "deny cache any tcp 80"];
    let by = |source: &str, destination: &str| {
        let answer = ask(&standing, source, destination, Some(80)).expect("answer");
        (answer.verdict, answer.rule.map(|rule| rule.id.0))
    };
    assert_eq!(by("web", "db"), (VerdictWord::Allow, Some(1)));
    assert_eq!(by("cache", "db"), (VerdictWord::Deny, Some(3)));
    assert_eq!(by("db", "cache"), (VerdictWord::Allow, Some(2)));
    assert_eq!(by("host", "cache"), (VerdictWord::Deny, None), "any is apps only");
}

#[test]
fn a_question_about_many_that_fare_differently_names_two_of_them() {
    let standing = ["allow web db any", "allow group:back db tcp"];
    let refused = |source: &str, protocol: Protocol| {
        let selector = |word: &str| word.parse().expect("selector");
        let query = CheckQuery { source: selector(source), destination: selector("db"), protocol, port: None };
        let refused = check(&state(rules(&standing)), &query).expect_err("no one answer");
        (refused.field().map(str::to_owned), refused.to_string())
    };
    let (field, text) = refused("any", Protocol::Tcp);
    assert_eq!(field.as_deref(), Some("source"));
    assert!(text.contains("is allowed, db is denied") || text.contains("is denied"), "{text}");
    let (field, text) = refused("cache", Protocol::Any);
    assert_eq!(field.as_deref(), Some("protocol"));
    assert!(text.contains("tcp is allowed, udp is denied"), "{text}");
    assert_eq!(ask(&standing, "group:back", "db", None).expect("all of them").verdict, VerdictWord::Allow);
}

#[test]
fn what_is_in_audit_is_told_beside_the_verdict() {
    let audited_rule = |text: &str| Rule { mode: Mode::Audit, ..rules(&[text]).remove(0) };
    let ask = |rules: Vec<Rule>, audited: [bool; 3], source: &str, destination: &str| {
        let selector = |word: &str| word.parse().expect("selector");
        let query = CheckQuery {
            source: selector(source),
            destination: selector(destination),
            protocol: Protocol::Tcp,
            port: Some(80),
        };
        check(&state_with(rules, &audited), &query).expect("answer")
    };
    let off = [false; 3];
    let would_allow = ask(vec![audited_rule("allow web db tcp")], off, "web", "db");
    assert_eq!(
        (would_allow.verdict, would_allow.would.expect("otherwise").verdict),
        (VerdictWord::Deny, VerdictWord::Allow)
    );
    let both = ask(vec![], [true, true, false], "web", "db");
    assert_eq!((both.verdict, both.cause), (VerdictWord::Allow, Cause::Audit));
    assert_eq!(both.would.map(|would| would.cause), Some(Cause::NoRule));
    assert!(both.text.contains("in audit; it would be denied"), "{}", both.text);
    assert_eq!(ask(vec![], [true, false, false], "web", "db").verdict, VerdictWord::Deny, "the other end denies");
    assert_eq!(ask(vec![], [true, false, false], "web", "host").verdict, VerdictWord::Allow, "outwards");
    assert_eq!(ask(vec![], [true, false, false], "host", "web").verdict, VerdictWord::Deny, "not inwards");
}

#[test]
fn isolation_is_ahead_of_every_rule_and_of_audit() {
    let mut state = state_with(rules(&["allow any any any"]), &[true; 3]);
    let isolate = |instance| {
        let json = serde_json::json!({
            "app": "web", "instance": instance, "created_at": "2026-01-31T12:00:00Z", "created_by": "operator", "revision": 2,
        });
        Change::PutIsolation { isolation: Arc::new(serde_json::from_value(json).expect("isolation")) }
    };
    let selector = |word: &str| word.parse().expect("selector");
    let ask = |state: &State, source: &str, destination: &str| {
        let query = CheckQuery {
            source: selector(source),
            destination: selector(destination),
            protocol: Protocol::Tcp,
            port: None,
        };
        check(state, &query).expect("answer")
    };
    state.apply(Revision(2), &[isolate(Some(0))]);
    let partly = ask(&state, "web", "db");
    assert_eq!((partly.verdict, partly.isolated_by.len()), (VerdictWord::Allow, 1));
    assert!(partly.text.contains("but isolated are web/0"), "{}", partly.text);
    state.apply(Revision(3), &[isolate(None)]);
    for (source, destination) in [("web", "db"), ("db", "web"), ("web", "web")] {
        let answer = ask(&state, source, destination);
        assert_eq!((answer.verdict, answer.cause), (VerdictWord::Deny, Cause::Isolated));
    }
    assert_eq!(ask(&state, "db", "cache").verdict, VerdictWord::Allow);
}
