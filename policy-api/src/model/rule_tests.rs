//! What a rule in a request may say.

use super::*;
use serde_json::{Value, json};

fn rule_with(member: &str, value: Value) -> Value {
    let mut rule =
        json!({"source": "appA", "destination": "appB", "protocol": "tcp", "ports": ["8080"], "action": "allow"});
    rule[member] = value;
    rule
}

fn refused(request: Value) -> (String, String) {
    let error = RuleSpec::from_json(request).expect_err("must be refused");
    (error.field.clone(), error.to_string())
}

#[test]
fn the_contracts_example_is_taken() {
    let spec = RuleSpec::from_json(json!({
        "source": "appA", "destination": "appB", "protocol": "tcp", "ports": ["8000-8010", "8080"],
        "action": "allow", "mode": "enforce", "reason": "ticket 12"
    }))
    .expect("valid");
    assert_eq!((spec.ports.to_string().as_str(), spec.action), ("8000-8010,8080", Action::Allow));
    let sent = serde_json::to_value(&spec).expect("json");
    assert_eq!(RuleSpec::from_json(sent), Ok(spec));
}

#[test]
fn the_short_form_means_enforced_tcp_on_all_ports() {
    let spec = RuleSpec::from_json(json!({"source": "host", "destination": "appB", "action": "deny"})).expect("valid");
    let expected =
        RuleSpec::new(Selector::Host, "appB".parse().expect("name"), Protocol::Tcp, Ports::All, Action::Deny);
    assert_eq!(spec, expected);
}

#[test]
fn bad_input_is_refused_naming_the_field() {
    let cases = [
        ("source", json!(""), "source"),
        ("source", json!("x".repeat(300)), "source"),
        ("source", json!("world"), "source"),
        ("source", json!("ANY"), "source"),
        ("destination", json!("cidr:10.0.0.0/8"), "destination"),
        ("destination", json!("group:"), "destination"),
        ("destination", json!(7), "destination"),
        ("protocol", json!("tpc"), "protocol"),
        ("protocol", json!("icmp"), "ports"),
        ("protocol", json!("any"), "ports"),
        ("ports", json!(["70000"]), "ports[0]"),
        ("ports", json!(["80", "8010-8000"]), "ports[1]"),
        ("ports", json!([]), "ports"),
        ("ports", json!([80]), "ports[0]"),
        ("ports", json!("80"), "ports"),
        ("action", json!("permit"), "action"),
        ("mode", json!("dry"), "mode"),
        ("expires_at", json!("tomorrow"), "expires_at"),
        ("expires_at", json!(7), "expires_at"),
        ("on_deny", json!("reset"), "on_deny"),
        ("on_deny", json!("reject"), "on_deny"),
        ("reason", json!("x".repeat(257)), "reason"),
        ("reason", json!("two\nlines"), "reason"),
        ("port", json!(8080), "port"),
    ];
    for (member, value, field) in cases {
        let (named, message) = refused(rule_with(member, value));
        assert_eq!(named, field, "{message}");
        assert!(message.contains(&format!("`{field}`")) && message.contains("; "), "{message}");
    }
}

#[test]
fn what_must_be_said_is_asked_for() {
    for member in ["source", "destination", "action"] {
        let mut rule = rule_with("mode", json!("enforce"));
        rule.as_object_mut().expect("object").remove(member);
        assert_eq!(refused(rule).0, member);
    }
}

#[test]
fn one_side_of_a_rule_is_an_app_a_group_or_any() {
    let (field, message) = refused(json!({"source": "host", "destination": "host", "action": "allow"}));
    assert_eq!(field, "destination");
    assert!(message.contains("name an app, `group:NAME` or `any` on one side"), "{message}");
}

#[test]
fn an_id_is_written_in_one_way_only() {
    assert_eq!("r12".parse(), Ok(RuleId(12)));
    for text in ["12", "r", "r012", "r+1", "R1", "r4294967296"] {
        assert!(text.parse::<RuleId>().is_err(), "{text} was taken");
    }
}

#[test]
fn a_reader_ignores_members_it_does_not_know() {
    let rule = json!({
        "id": "r1", "source": "a", "destination": "b", "protocol": "udp", "action": "allow", "mode": "enforce", "revision": 3,
        "created_at": "2026-01-31T12:00:00Z", "created_by": "operator", "colour": "blue"
    });
    let rule: Rule = serde_json::from_value(rule).expect("readable");
    assert_eq!((rule.id, rule.ports), (RuleId(1), Ports::All));
}

#[test]
fn any_and_groups_may_stand_on_both_sides() {
    for (source, destination) in
        [("any", "any"), ("host", "any"), ("any", "host"), ("group:a", "group:a"), ("group:a", "host"), ("a", "any")]
    {
        let rule = json!({"source": source, "destination": destination, "protocol": "any", "action": "allow"});
        let spec = RuleSpec::from_json(rule).expect("legal");
        assert_eq!((spec.source.to_string().as_str(), spec.destination.to_string().as_str()), (source, destination));
    }
}

#[test]
fn mode_end_and_way_to_deny_are_taken() {
    let spec = RuleSpec::from_json(json!({
        "source": "a", "destination": "b", "protocol": "sctp", "action": "deny", "mode": "audit", "on_deny": "drop",
        "expires_at": "2026-01-31T12:00:00Z"
    }))
    .expect("valid");
    assert_eq!((spec.mode, spec.on_deny), (Mode::Audit, Some(OnDeny::Drop)));
    let sent = serde_json::to_value(&spec).expect("json");
    assert_eq!(RuleSpec::from_json(sent), Ok(spec));
}

#[test]
fn a_rule_costs_a_row_per_protocol_and_prefix() {
    let rows = |protocol: &str, ports: Value| {
        let mut rule = json!({
            "id": "r1", "source": "any", "destination": "group:b", "protocol": protocol, "action": "allow", "revision": 3,
            "created_at": "2026-01-31T12:00:00Z", "created_by": "operator"
        });
        rule["ports"] = ports;
        serde_json::from_value::<Rule>(rule).expect("readable").rows()
    };
    let every = u64::try_from(Protocol::Any.wire().len()).expect("few");
    assert_eq!((rows("tcp", json!(["80", "8000-8010"])), rows("icmp", json!(null))), (4, 1));
    assert_eq!(rows("any", json!(null)), every);
}
