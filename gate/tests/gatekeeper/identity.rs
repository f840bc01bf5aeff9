//! What the app gets to see of who asks.

use crate::world::{CI, World};

#[test]
fn the_app_is_told_who_asks_by_us_alone() {
    let world = World::start();
    let forged = "X-Netpol-Subject: user:root\r\nx_netpol_subject: user:root\r\nX-NETPOL-SOURCE-APP: root\r\n\
                  X-Netpol_Subject: user:root\r\nX-Netpol-Anything: root\r\nX-Request-Id: root\r\nForwarded: for=root\r\n\
                  X-Forwarded-For: root\r\nX_Forwarded_For: root\r\nX-Real-IP: root\r\nX.Netpol.Subject: root\r\n";
    let answer = world.ask(&format!("GET / HTTP/1.1\r\nHost: app\r\nAuthorization: Bearer web-token\r\n{forged}\r\n"));
    assert_eq!(answer.status, 200);
    let seen = answer.body.to_lowercase();
    assert!(!seen.contains("root"), "{seen}");
    for line in [
        "x-netpol-subject: app:web",
        "x-netpol-source-app: web",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-proto: http",
        "x-forwarded-host: app",
        "host: app",
    ] {
        assert_eq!(seen.lines().filter(|found| *found == line).count(), 1, "{line}: {seen}");
    }
    let id = answer.field("x-request-id").expect("the client is told it too");
    assert!(seen.contains(&format!("x-request-id: {id}")), "{seen}");
}

#[test]
fn the_token_stays_here_unless_it_is_to_be_passed() {
    let world = World::start();
    let get = format!("GET / HTTP/1.1\r\nHost: app\r\n{CI}\r\n\r\n");
    assert!(!world.ask(&get).body.contains("ci-token"));
    let passing = World::with(|settings| settings.pass_authorization = true);
    assert!(passing.ask(&get).body.contains("Bearer ci-token"));
}

#[test]
fn a_trace_goes_on_or_begins() {
    let world = World::start();
    let parent = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let answer = world.ask(&format!("GET / HTTP/1.1\r\nHost: app\r\n{CI}\r\n{parent}\r\n\r\n"));
    assert!(answer.body.contains(parent), "{answer:?}");
    let answer = world.ask(&format!("GET / HTTP/1.1\r\nHost: app\r\n{CI}\r\ntraceparent: 00-0-0-00\r\n\r\n"));
    assert!(answer.body.contains("traceparent: 00-") && !answer.body.contains("00-0-0-00"), "{answer:?}");
}

#[test]
fn what_is_about_one_connection_does_not_cross_us() {
    let world = World::start();
    let fields = "Connection: keep-alive, te\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\nProxy-Authorization: Basic x\r\n\
                  Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nTrailer: x\r\n";
    let answer = world.ask(&format!("GET / HTTP/1.1\r\nHost: app\r\n{CI}\r\n{fields}\r\n"));
    let seen = answer.body.to_lowercase();
    for name in ["connection:", "keep-alive:", "te:", "proxy-authorization:", "upgrade:", "http2-settings:", "trailer:"]
    {
        assert!(!seen.lines().any(|line| line.starts_with(name)), "{name} {seen}");
    }
    let answer = world.ask(&format!("GET /hop HTTP/1.1\r\nHost: app\r\n{CI}\r\n\r\n"));
    assert_eq!((answer.field("x-inner"), answer.field("x-outer").as_deref()), (None, Some("2")));
    assert_eq!(answer.field("keep-alive"), None);
}

#[test]
fn connections_to_the_app_are_used_again() {
    let world = World::start();
    let mut connection = world.connect();
    for _ in 0..20 {
        connection.send(&format!("POST / HTTP/1.1\r\nHost: app\r\n{CI}\r\nContent-Length: 3\r\n\r\nabc"));
        let answer = connection.answer();
        assert!(answer.body.ends_with("\r\n\r\nabc"), "{answer:?}");
    }
    assert_eq!((world.app.requests(), world.app.connections()), (20, 1));
}

#[test]
fn a_large_answer_arrives_whole_though_the_connection_closes_behind_it() {
    let world = World::start();
    let mut connection = world.connect();
    connection.send(&format!("GET /large HTTP/1.1\r\nHost: app\r\n{CI}\r\nConnection: close\r\n\r\n"));
    assert_eq!(connection.answer().body.len(), 4 << 20);
    assert_eq!(connection.rest(), "");
}
