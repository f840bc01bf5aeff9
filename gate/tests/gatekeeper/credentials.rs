//! Who asks, and what they may.

use crate::world::{CI, READER, STRANGER, World};

fn get(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: app\r\n{fields}\r\n")
}

#[test]
fn who_does_not_say_who_he_is_is_asked_to() {
    let world = World::start();
    world.refuses(&get(""), 401, "credential-missing");
    world.refuses(&get("Authorization: Basic dTpw\r\n"), 401, "scheme-unknown");
    world.refuses(&get("Authorization: Bearer\r\n"), 401, "credential-malformed");
    world.refuses(&get("Authorization: ci-token\r\n"), 401, "scheme-unknown");
    let answer = world.ask(&get(""));
    assert_eq!(answer.field("www-authenticate").as_deref(), Some("Bearer"));
}

#[test]
fn two_credentials_are_none() {
    let world = World::start();
    world.refuses(&get(&format!("{CI}\r\n{CI}\r\n")), 400, "credential-twice");
    world.refuses(&get(&format!("{STRANGER}\r\n{CI}\r\n")), 400, "credential-twice");
    world.refuses(&get(&format!("{CI}, Bearer reader-token\r\n")), 401, "credential-malformed");
    world.refuses(&get("Authorization: Bearer ci-token reader-token\r\n"), 401, "credential-malformed");
}

#[test]
fn both_spellings_let_in() {
    let world = World::start();
    for value in ["Bearer ci-token", "bearer ci-token", "Token token=\"ci-token\""] {
        assert_eq!(world.ask(&get(&format!("Authorization: {value}\r\n"))).status, 200, "{value}");
    }
}

#[test]
fn a_stranger_gets_401_and_who_may_not_403() {
    let world = World::start();
    world.refuses(&get(&format!("{STRANGER}\r\n")), 401, "token-unknown");
    assert_eq!(world.ask(&get(&format!("{READER}\r\n"))).status, 200);
    let delete = format!("DELETE / HTTP/1.1\r\nHost: app\r\n{READER}\r\n\r\n");
    world.refuses(&delete, 403, "not-permitted");
}

#[test]
fn a_verdict_is_for_one_token_on_a_connection_of_many() {
    let world = World::start();
    let mut connection = world.connect();
    for (credential, status) in [(CI, 200), (STRANGER, 401), (CI, 200), (READER, 403)] {
        connection.send(&format!("POST / HTTP/1.1\r\nHost: app\r\n{credential}\r\nContent-Length: 0\r\n\r\n"));
        assert_eq!(connection.answer().status, status, "{credential}");
    }
    assert_eq!(world.app.requests(), 2);
}

#[test]
fn refusals_are_counted_by_reason() {
    let world = World::start();
    world.refuses(&get(""), 401, "credential-missing");
    assert_eq!(world.ask(&get(&format!("{CI}\r\n"))).status, 200);
    let counted = || world.metrics.text();
    assert!(
        counted().contains("netpol_gate_requests_total{verdict=\"deny\",reason=\"credential-missing\"} 1"),
        "{}",
        counted()
    );
    assert!(counted().contains("netpol_gate_requests_total{verdict=\"allow\",reason=\"allowed\"} 1"), "{}", counted());
}
