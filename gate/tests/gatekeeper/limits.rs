//! Who sends too much, or too slowly.

use std::time::{Duration, Instant};

use crate::world::{CI, World};

#[test]
fn a_head_that_is_too_large_is_refused() {
    let world = World::start();
    let long = "x".repeat(5_000);
    world.refuses(&format!("GET / HTTP/1.1\r\nHost: app\r\n{CI}\r\nX-A: {long}\r\n\r\n"), 431, "head-too-large");
    world.refuses(&format!("GET /{long} HTTP/1.1\r\nHost: app\r\n{CI}\r\n\r\n"), 431, "head-too-large");
    let many = "A: b\r\n".repeat(40);
    world.refuses(&format!("GET / HTTP/1.1\r\nHost: app\r\n{CI}\r\n{many}\r\n"), 431, "too-many-fields");
}

#[test]
fn a_body_that_is_too_large_is_refused_said_or_not() {
    let world = World::start();
    let said = format!("POST / HTTP/1.1\r\nHost: app\r\n{CI}\r\nContent-Length: 10001\r\n\r\n");
    world.refuses(&said, 413, "body-too-large");
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(4_096)).repeat(4);
    let unsaid = format!("POST / HTTP/1.1\r\nHost: app\r\n{CI}\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}0\r\n\r\n");
    let answer = world.ask(&unsaid);
    assert_eq!((answer.status, answer.reason().as_str()), (413, "body-too-large"));
}

#[test]
fn a_head_that_drips_is_given_up_however_it_drips() {
    let world = World::start();
    let mut connection = world.connect();
    connection.send("GET / HTTP/1.1\r\nHost: app\r\nX-A: ");
    let began = Instant::now();
    let answer = connection.answer();
    assert_eq!((answer.status, answer.reason().as_str()), (408, "head-timed-out"));
    answer.assert_is_problem();
    assert_eq!(connection.rest(), "");
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(world.app.requests(), 0);
}

#[test]
fn a_body_that_does_not_come_is_given_up() {
    let world = World::start();
    let mut connection = world.connect();
    connection.send(&format!("POST / HTTP/1.1\r\nHost: app\r\n{CI}\r\nContent-Length: 10\r\n\r\nabc"));
    let answer = connection.answer();
    assert_eq!((answer.status, answer.reason().as_str()), (408, "body-timed-out"));
    assert_eq!(connection.rest(), "");
}

#[test]
fn who_waits_to_be_told_to_continue_is_told_only_when_let_in() {
    let world = World::start();
    let post = |credential: &str| {
        format!("POST / HTTP/1.1\r\nHost: app\r\n{credential}\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    };
    let mut connection = world.connect();
    connection.send(&post(CI));
    assert_eq!(connection.answer().status, 100);
    connection.send("abc");
    let answer = connection.answer();
    assert!(answer.status == 200 && answer.body.ends_with("abc"), "{answer:?}");
    world.refuses(&post(crate::world::STRANGER), 401, "token-unknown");
    let other = post(CI).replace("100-continue", "200-ok");
    world.refuses(&other, 417, "expectation-unknown");
}

#[test]
fn an_app_that_is_silent_is_given_up_and_one_that_is_gone_is_said_to_be() {
    let world = World::start();
    let answer = world.ask(&format!("GET /silent HTTP/1.1\r\nHost: app\r\n{CI}\r\n\r\n"));
    assert_eq!((answer.status, answer.reason().as_str()), (504, "upstream-timed-out"));
    let gone = World::with(|settings| settings.upstream.address = "http://127.0.0.1:1".parse().expect("an address"));
    gone.refuses(&format!("GET / HTTP/1.1\r\nHost: app\r\n{CI}\r\n\r\n"), 502, "upstream-unreachable");
}
