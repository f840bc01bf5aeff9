//! Requests that two readers would read as different requests.

use crate::world::{CI, World};

fn post(fields: &str, body: &str) -> String {
    format!("POST /a HTTP/1.1\r\nHost: app\r\n{CI}\r\n{fields}\r\n{body}")
}

#[test]
fn a_length_and_an_encoding_are_not_both_believed() {
    let world = World::start();
    let both = "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n";
    world.refuses(&post(both, "0\r\n\r\nGET /admin HTTP/1.1\r\n\r\n"), 400, "length-and-encoding");
    let other_order = "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n";
    world.refuses(&post(other_order, "0\r\n\r\n"), 400, "length-and-encoding");
}

#[test]
fn two_lengths_are_refused_equal_or_not() {
    let world = World::start();
    world.refuses(&post("Content-Length: 3\r\nContent-Length: 3\r\n", "abc"), 400, "length-twice");
    world.refuses(&post("Content-Length: 3\r\nContent-Length: 4\r\n", "abcd"), 400, "length-twice");
    world.refuses(&post("Content-Length: 3, 3\r\n", "abc"), 400, "length-malformed");
    world.refuses(&post("Content-Length: +3\r\n", "abc"), 400, "length-malformed");
    world.refuses(&post("Content-Length: 0x3\r\n", "abc"), 400, "length-malformed");
}

#[test]
fn no_encoding_but_chunked_is_taken() {
    let world = World::start();
    for encoding in ["gzip, chunked", "identity", "chunked, chunked", "xchunked", "chunked;q=1"] {
        let fields = format!("Transfer-Encoding: {encoding}\r\n");
        world.refuses(&post(&fields, "0\r\n\r\n"), 400, "encoding-unknown");
    }
    let twice = "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n";
    world.refuses(&post(twice, "0\r\n\r\n"), 400, "encoding-unknown");
    let old = format!("POST /a HTTP/1.0\r\nHost: app\r\n{CI}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    world.refuses(&old, 400, "encoding-unknown");
}

#[test]
fn an_encoding_spelled_for_others_never_arrives() {
    let world = World::start();
    world.refuses(&post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"), 400, "field-name");
    world.refuses(&post("Transfer\u{b}-Encoding: chunked\r\n", "0\r\n\r\n"), 400, "field-name");
    let answer = world.ask(&post("Transfer_Encoding: chunked\r\nContent_Length: 90\r\n", ""));
    assert_eq!(answer.status, 200);
    assert!(!answer.body.to_lowercase().contains("transfer_encoding"), "{answer:?}");
    assert!(!answer.body.to_lowercase().contains("content_length"), "{answer:?}");
}

#[test]
fn a_field_is_one_line() {
    let world = World::start();
    world.refuses(&post("X-A: b\r\n c: d\r\n", ""), 400, "folded-field");
    world.refuses(&post("X-A: b\r\n\tX-Netpol-Subject: user:root\r\n", ""), 400, "folded-field");
}

#[test]
fn lines_end_by_cr_lf_and_by_nothing_else() {
    let world = World::start();
    world.refuses(&format!("GET / HTTP/1.1\nHost: app\n{CI}\n\n"), 400, "bare-line-end");
    world.refuses(&post("X-A: b\nX-B: c\r\n", ""), 400, "bare-line-end");
    world.refuses(&post("X-A: b\rX-Netpol-Subject: user:root\r\n", ""), 400, "bare-line-end");
    world.refuses(&post("X-A: b\0c\r\n", ""), 400, "field-value");
    world.refuses("\r\nGET / HTTP/1.1\r\n\r\n", 400, "request-line");
}

#[test]
fn the_first_line_is_three_words() {
    let world = World::start();
    for line in ["GET  / HTTP/1.1", "GET / HTTP/1.1 ", "GET\t/ HTTP/1.1", "GET / HTTP/1.1 HTTP/1.1", "GET /"] {
        world.refuses(&format!("{line}\r\nHost: app\r\n{CI}\r\n\r\n"), 400, "request-line");
    }
    world.refuses(&format!("GET / HTTP/1.2\r\nHost: app\r\n{CI}\r\n\r\n"), 400, "version");
}

#[test]
fn chunks_are_plain() {
    let world = World::start();
    let chunked = |body: &str| post("Transfer-Encoding: chunked\r\n", body);
    for (body, reason) in [
        ("3;a=b\r\nabc\r\n0\r\n\r\n", "chunk-extension"),
        ("3 \r\nabc\r\n0\r\n\r\n", "chunk-extension"),
        ("0x3\r\nabc\r\n0\r\n\r\n", "chunk-malformed"),
        ("3\nabc\r\n0\r\n\r\n", "chunk-malformed"),
        ("3\r\nabcd\r\n0\r\n\r\n", "chunk-malformed"),
        ("fffffffffffffffff\r\nabc\r\n", "chunk-malformed"),
        ("-1\r\nabc\r\n", "chunk-malformed"),
    ] {
        let answer = world.ask(&chunked(body));
        assert_eq!((answer.status, answer.reason().as_str()), (400, reason), "{body:?}");
        answer.assert_is_problem();
    }
    let answer = world.ask(&chunked("3\r\nabc\r\n2\r\nde\r\n0\r\nX-Netpol-Subject: user:root\r\n\r\n"));
    assert_eq!(answer.status, 200);
    assert!(!answer.body.contains("user:root"), "{answer:?}");
}

#[test]
fn what_stands_behind_a_refused_request_is_never_read() {
    let world = World::start();
    let refused = post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "");
    let behind = format!("GET /behind HTTP/1.1\r\nHost: app\r\n{CI}\r\n\r\n");
    let mut connection = world.connect();
    connection.send(&format!("{refused}{behind}"));
    assert_eq!(connection.answer().status, 400);
    assert_eq!(connection.rest(), "");
    assert_eq!(world.app.requests(), 0);
}

#[test]
fn a_refusal_waits_for_its_turn() {
    let world = World::start();
    let mut connection = world.connect();
    let good = format!("GET /first HTTP/1.1\r\nHost: app\r\n{CI}\r\n\r\n");
    connection.send(&format!("{good}GET /second HTTP/1.1\nHost: app\n\n"));
    let first = connection.answer();
    assert_eq!(first.status, 200);
    assert!(first.body.starts_with("GET /first "), "{first:?}");
    assert_eq!(connection.answer().reason(), "bare-line-end");
    assert_eq!(connection.rest(), "");
}

#[test]
fn who_is_asked_is_said_once() {
    let world = World::start();
    world.refuses(&format!("GET / HTTP/1.1\r\n{CI}\r\n\r\n"), 400, "host-missing");
    world.refuses(&format!("GET / HTTP/1.1\r\nHost: app\r\nHost: app\r\n{CI}\r\n\r\n"), 400, "host-twice");
    world.refuses(&format!("GET http://other/ HTTP/1.1\r\nHost: app\r\n{CI}\r\n\r\n"), 400, "host-conflict");
    world.refuses(&format!("GET / HTTP/1.1\r\nHost: app/admin\r\n{CI}\r\n\r\n"), 400, "host-malformed");
    let whole = world.ask(&format!("GET http://app/a?b=c HTTP/1.1\r\nHost: app\r\n{CI}\r\n\r\n"));
    assert!(whole.body.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{whole:?}");
}

#[test]
fn fields_on_which_somebody_relies_cannot_be_named_away() {
    let world = World::start();
    for value in ["authorization", "close, x-netpol-subject", "x-forwarded-for", "Host", "Cookie"] {
        world.refuses(&post(&format!("Connection: {value}\r\n"), ""), 400, "connection-field");
    }
}

#[test]
fn methods_that_are_none_of_the_apps_are_refused() {
    let world = World::start();
    world.refuses(&format!("TRACE / HTTP/1.1\r\nHost: app\r\n{CI}\r\n\r\n"), 400, "method-forbidden");
    world.refuses(&format!("CONNECT app:80 HTTP/1.1\r\nHost: app:80\r\n{CI}\r\n\r\n"), 400, "target-malformed");
    world.refuses(&format!("PURGE / HTTP/1.1\r\nHost: app\r\n{CI}\r\n\r\n"), 403, "no-privilege");
    world.refuses(&format!("get / HTTP/1.1\r\nHost: app\r\n{CI}\r\n\r\n"), 403, "no-privilege");
}

#[test]
fn a_request_cannot_ask_to_be_another() {
    let world = World::start();
    for name in ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "x-http-method-override"] {
        world.refuses(&post(&format!("{name}: DELETE\r\n"), ""), 400, "method-overridden");
    }
    for name in ["X-Original-URL", "X-Rewrite-URL"] {
        world.refuses(&post(&format!("{name}: /admin\r\n"), ""), 400, "path-overridden");
    }
    for query in ["_method=DELETE", "a=b&_METHOD=put", "%5Fmethod=DELETE"] {
        let request = format!("POST /a?{query} HTTP/1.1\r\nHost: app\r\n{CI}\r\n\r\n");
        world.refuses(&request, 400, "method-overridden");
    }
}
