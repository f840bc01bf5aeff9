//! The API's answer is the engine's, and reads like a sentence.

use common::{Term, Terms};
use proptest::prelude::*;

use super::*;
use crate::model::{Action, App, AppName, Change, Mode, Overlay, Prefix, Protocol, Revision, RuleId, Timestamp, Tuple};

const APPS: [&str; 3] = ["web", "db", "cache"];

fn app(name: &str) -> AppName {
    name.parse().expect("name")
}

fn state(rules: Vec<Rule>) -> State {
    let prefix = |text: &str| text.parse::<Prefix>().expect("prefix");
    let overlay = Overlay { v4: prefix("10.255.0.0/16"), v6: prefix("fd00:1:2::/48") };
    let mut state = State::empty("00ff00ff00ff00ff".parse().expect("history"), overlay);
    let apps = APPS.iter().zip(256..).map(|(name, number)| {
        let identity = Identity::new(number).expect("24 bits");
        Change::PutApp { app: Arc::new(App::new(app(name), identity, Revision(1))) }
    });
    let rules = rules.into_iter().map(|rule| Change::PutRule { rule: Arc::new(rule) });
    state.apply(Revision(1), &apps.chain(rules).collect::<Vec<_>>());
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

fn terms(state: &State) -> Vec<Term> {
    let of_rule = |rule: &Arc<Rule>| {
        let identity = |side: &Selector| Party::one(super::identity(state, side, "source").expect("known"));
        let (source, destination) = (identity(&rule.source), identity(&rule.destination));
        let ruling = Ruling { action: rule.action.into(), rule: rule.id.into() };
        let protocol = rule.protocol.wire()[0];
        let term = move |ports: &PortRange| Term {
            source,
            destination,
            protocol,
            ports: *ports,
            layer: Layer::Enforced,
            ruling,
        };
        rule.ports.ranges().iter().map(term).collect::<Vec<_>>()
    };
    state.replica().rules.values().flat_map(of_rule).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn check_says_what_the_engine_says_over_the_same_rules(tuples in prop::collection::vec(tuple(), 0..8), probe in 1_u16..) {
        let rules = tuples.into_iter().zip(1..).map(|(tuple, id)| rule(id, tuple)).collect();
        let state = state(rules);
        let terms = terms(&state);
        let ends = terms.iter().flat_map(|term| [term.ports.first().max(1), term.ports.last(), term.ports.last().saturating_add(1)]);
        for port in ends.chain([probe, 1, u16::MAX]).collect::<Vec<_>>() {
            let side = |name: &str| Selector::App(app(name));
            let query = CheckQuery { source: side("web"), destination: side("db"), protocol: Protocol::Tcp, port: Some(port) };
            let answer = check(&state, &query).expect("known apps");
            let (source, destination) = (Identity::FIRST_APP, Identity::new(257).expect("24 bits"));
            let question = Question { source, destination, protocol: common::Protocol::Tcp, port };
            let expected = decide(&Terms { terms: &terms, members: &[] }, &question);
            let (cause, id) = match expected.answer {
                Answer::Allow => (Cause::AllowRule, Some(expected.rule.0)),
                Answer::Deny | Answer::DenySilently => (Cause::DenyRule, Some(expected.rule.0)),
                Answer::NoRule => (Cause::NoRule, None),
            };
            prop_assert_eq!((answer.cause, answer.rule.map(|rule| rule.id.0)), (cause, id));
        }
    }
}
