//! WebSocket, and answers that do not end: bound to the permit that let them in.

use std::time::{Duration, Instant};

use crate::world::{CI, STRANGER, World};

fn upgrade(path: &str, credential: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: app\r\n{credential}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

#[test]
fn an_upgrade_that_is_granted_is_a_tunnel_both_ways() {
    let world = World::start();
    let mut connection = world.connect();
    connection.send(&format!("{}early ", upgrade("/ws", CI)));
    let answer = connection.answer();
    assert_eq!((answer.status, answer.field("upgrade").as_deref()), (101, Some("websocket")));
    assert_eq!(connection.bytes(12), "hello early ");
    connection.send("GET / HTTP/1.1\n\n");
    assert_eq!(connection.bytes(16), "GET / HTTP/1.1\n\n");
    assert_eq!(world.app.requests(), 1);
}

#[test]
fn nothing_is_passed_on_behind_an_upgrade_that_is_denied_here_or_by_the_app() {
    let world = World::start();
    let behind = format!("GET /behind HTTP/1.1\r\nHost: app\r\n{CI}\r\n\r\n");
    for (request, status, seen) in [
        (upgrade("/ws", STRANGER), 401, 0),
        (upgrade("/ws-denied", CI), 403, 1),
        (upgrade("/not-an-upgrade", CI), 200, 2),
    ] {
        let mut connection = world.connect();
        connection.send(&format!("{request}{behind}"));
        assert_eq!(connection.answer().status, status);
        assert_eq!(connection.rest(), "", "{request}");
        assert_eq!(world.app.requests(), seen, "{request}");
    }
}

#[test]
fn half_an_upgrade_is_refused() {
    let world = World::start();
    let whole = upgrade("/ws", CI);
    world.refuses(&whole.replace("Connection: Upgrade\r\n", ""), 400, "upgrade-malformed");
    world.refuses(&whole.replace("GET", "POST"), 400, "upgrade-malformed");
    world.refuses(&whole.replace("Sec-WebSocket-Version: 13", "Content-Length: 3"), 400, "upgrade-malformed");
}

#[test]
fn a_tunnel_and_an_answer_are_cut_when_the_token_is_taken_back() {
    let world = World::start();
    let mut tunnel = world.connect();
    tunnel.send(&upgrade("/ws", CI));
    assert_eq!(tunnel.answer().status, 101);
    let mut drip = world.connect();
    drip.send(&format!("GET /drip HTTP/1.1\r\nHost: app\r\n{CI}\r\n\r\n"));
    assert_eq!(drip.answer().status, 200);
    let other = "Authorization: Bearer web-token";
    let mut untouched = world.connect();
    untouched.send(&upgrade("/ws", other));
    assert_eq!(untouched.answer().status, 101);

    let began = Instant::now();
    world.revoke("ci-token");
    tunnel.rest();
    drip.rest();
    assert!(began.elapsed() < Duration::from_secs(1), "cut only after {:?}", began.elapsed());
    untouched.send("still here");
    assert_eq!(untouched.bytes(16), "hello still here");
    world.refuses(&format!("GET / HTTP/1.1\r\nHost: app\r\n{CI}\r\n\r\n"), 401, "token-revoked");
}
