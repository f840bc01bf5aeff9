//! HTTP/2 towards clients and towards the app, and what must not become HTTP/1.1 on the way between.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use gate::gatekeeper::UpstreamProtocol;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::body::Incoming;
use tokio::sync::mpsc;

use crate::{grpc, world::World};

/// A client that writes frames itself.
struct Frames(TcpStream);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

impl Frames {
    fn connect(address: SocketAddr) -> Self {
        let mut socket = TcpStream::connect(address).expect("it listens");
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a limit");
        socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("taken");
        let mut frames = Self(socket);
        frames.write(SETTINGS, 0, 0, &[]);
        frames
    }

    fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        self.0.write_all(&frame).expect("taken");
    }

    /// A whole request without a body, its fields written out letter by letter.
    fn request(&mut self, fields: &[(&str, &str)]) {
        let mut block = Vec::new();
        for (name, value) in fields {
            block.push(0);
            for text in [name, value] {
                let length = u8::try_from(text.len()).expect("short");
                assert!(length < 127, "longer than one byte says");
                block.push(length);
                block.extend_from_slice(text.as_bytes());
            }
        }
        self.write(HEADERS, 0x5, 1, &block);
    }

    /// The kind of the frame that answers the request: headers, a reset, or the end of it all; with what it holds.
    fn answer(&mut self) -> (u8, Vec<u8>) {
        loop {
            let mut head = [0; 9];
            if self.0.read_exact(&mut head).is_err() {
                return (GOAWAY, Vec::new());
            }
            let length = (usize::from(head[0]) << 16) | (usize::from(head[1]) << 8) | usize::from(head[2]);
            let mut payload = vec![0; length];
            self.0.read_exact(&mut payload).expect("the rest of a frame");
            if matches!(head[3], DATA | HEADERS | RESET | GOAWAY) {
                return (head[3], payload);
            }
        }
    }
}

const PLAIN: [(&str, &str); 5] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":authority", "app"),
    (":path", "/a"),
    ("authorization", "Bearer ci-token"),
];

/// Changes a pseudo-field, or adds a field.
fn with<'a>(name: &'a str, value: &'a str) -> Vec<(&'a str, &'a str)> {
    let mut fields: Vec<_> = PLAIN.into_iter().filter(|(found, _)| *found != name).collect();
    match name.starts_with(':') {
        true => fields.insert(0, (name, value)),
        false => fields.push((name, value)),
    }
    fields
}

#[test]
fn a_plain_request_becomes_a_plain_request() {
    let world = World::start();
    let mut client = Frames::connect(world.address);
    client.request(&PLAIN);
    assert_eq!(client.answer().0, HEADERS);
    let (kind, body) = client.answer();
    assert_eq!(kind, DATA);
    let seen = String::from_utf8_lossy(&body);
    assert!(seen.starts_with("GET /a HTTP/1.1\r\n") && seen.contains("host: app\r\n"), "{seen}");
}

#[test]
fn what_would_be_two_requests_over_http1_is_none() {
    let world = World::start();
    let fields = [
        ("x-a", "b\r\nX-Netpol-Subject: user:root"),
        ("x-a", "b\r\n\r\nGET /admin HTTP/1.1"),
        ("x-a", "b\nc"),
        ("x-a", "b\0c"),
        ("x\r\na", "b"),
        ("x a", "b"),
        ("X-A", "b"),
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        ("upgrade", "websocket"),
        ("proxy-connection", "keep-alive"),
        (":path", "/a HTTP/1.1\r\nX-A: b"),
        (":path", "/a b"),
        (":method", "GET /b HTTP/1.1\r\nX-A: b\r\n\r\nGET"),
        (":authority", "app\r\nX-A: b"),
    ];
    for (name, value) in fields {
        let mut client = Frames::connect(world.address);
        client.request(&with(name, value));
        let (kind, _) = client.answer();
        assert!(matches!(kind, RESET | GOAWAY), "{name:?}: {value:?} was answered by frame {kind}");
    }
    assert_eq!(world.app.requests(), 0);
}

#[test]
fn what_is_odd_is_refused_as_over_http1() {
    let world = World::start();
    for (name, value, reason) in [
        (":path", "//a", "path-not-normal"),
        (":path", "/a/../b", "path-not-normal"),
        (":path", "/a%2fb", "path-not-normal"),
        ("host", "other", "host-conflict"),
        ("x-http-method-override", "DELETE", "method-overridden"),
        ("authorization", "Bearer reader-token", "credential-twice"),
        (":method", "TRACE", "method-forbidden"),
    ] {
        let mut fields = with(name, value);
        if name == "authorization" {
            fields.push(PLAIN[4]);
        }
        let mut client = Frames::connect(world.address);
        client.request(&fields);
        assert_eq!(client.answer().0, HEADERS, "{name}: {value}");
        let (_, body) = client.answer();
        let problem: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(problem["reason"], reason, "{name}: {value}");
    }
    assert_eq!(world.app.requests(), 0);
}

/// A service behind a gatekeeper, and a call to it that has said "one".
async fn open_stream() -> (World, mpsc::Sender<&'static str>, Response<Incoming>) {
    let service = grpc::echo_service().await;
    let world = World::with(|settings| {
        settings.upstream.address = format!("http://{service}").parse().expect("an address");
        settings.upstream.protocol = UpstreamProtocol::Http2;
    });
    let (pieces, body) = grpc::stream();
    pieces.send("one").await.expect("it flows");
    let mut client = grpc::connect(world.address).await;
    let answer = client.send_request(grpc::call(world.address, body)).await.expect("an answer");
    (world, pieces, answer)
}

#[tokio::test]
async fn a_grpc_stream_flows_both_ways_at_once_and_ends_with_its_status() {
    let (_world, pieces, answer) = open_stream().await;
    assert_eq!(answer.headers()["seen-te"], "trailers");
    let mut answered = answer.into_body();
    for piece in ["one", "two", "three"] {
        if piece != "one" {
            pieces.send(piece).await.expect("it flows");
        }
        let frame = answered.frame().await.expect("a piece").expect("whole");
        assert_eq!(frame.into_data().expect("data"), piece);
    }
    drop(pieces);
    let last = answered.frame().await.expect("a trailer").expect("whole");
    assert_eq!(last.into_trailers().expect("a trailer")["grpc-status"], "0");
}

#[tokio::test]
async fn a_grpc_stream_is_cut_when_the_token_is_taken_back() {
    let (world, _pieces, answer) = open_stream().await;
    let mut answered = answer.into_body();
    assert!(answered.frame().await.expect("a piece").is_ok());
    world.revoke("ci-token");
    let cut = tokio::time::timeout(Duration::from_secs(1), answered.frame()).await.expect("within a second");
    assert!(cut.expect("not as if it had ended").is_err());
}

#[tokio::test]
async fn many_requests_share_a_connection() {
    let world = World::start();
    let client = grpc::connect(world.address).await;
    let asking = (0..100).map(|number| {
        let mut client = client.clone();
        let request = Request::post(format!("http://app/{number}")).header("authorization", "Bearer ci-token");
        let request = request.header("cookie", "a=1").header("cookie", "b=2");
        let request = request.body(BoxBody::new(Full::from(format!("body {number}")))).expect("a request");
        async move {
            let answer = client.send_request(request).await.expect("an answer");
            let seen = answer.into_body().collect().await.expect("whole").to_bytes();
            let seen = String::from_utf8_lossy(&seen).into_owned();
            assert!(
                seen.starts_with(&format!("POST /{number} ")) && seen.contains(&format!("body {number}")),
                "{seen}"
            );
            assert!(seen.contains("cookie: a=1; b=2\r\n"), "{seen}");
        }
    });
    futures_util::future::join_all(asking).await;
    assert_eq!(world.app.requests(), 100);
}
