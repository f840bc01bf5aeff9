//! A service that decides by its status, in both shapes, over real connections.

use std::path::Path;

use serde_json::json;

use super::*;
use crate::authority::config::client;
use crate::authority::testing::{RESOURCE, Said, Server, asked};

fn remote(server: &Server, shape: Shape) -> Remote {
    let http = client(Path::new("/nonexistent"), "http", Duration::from_millis(500)).expect("a client");
    let url = server.url.parse().expect("a URL");
    Remote::new(RemoteSettings { url, shape, remember: Duration::from_secs(30) }, http)
}

fn conjur() -> Shape {
    Shape::Conjur { account: "acme".to_owned(), kind: "webservice".to_owned() }
}

/// A token as Conjur makes them.
fn conjur_token(subject: &str) -> String {
    let part = |value: serde_json::Value| STANDARD.encode(value.to_string());
    let payload = part(json!({"sub": subject, "iat": 1}));
    part(json!({"protected": part(json!({"alg": "conjur.org/slosilo/v2"})), "payload": payload, "signature": "x"}))
}

#[tokio::test]
async fn conjur_is_asked_as_its_clients_ask_it() {
    let server =
        Server::plain(|head| if head.contains("privilege=read") { (204, String::new()) } else { (403, String::new()) })
            .await;
    let authority = remote(&server, conjur());
    let token = conjur_token("host/ci/release");
    assert_eq!(
        asked(&authority, Scheme::Token, &token, "read").await,
        Said::Allowed("host:conjur/ci/release".to_owned())
    );
    let asked_for =
        format!("GET /resources/acme/webservice/{}?check=true&privilege=read HTTP/1.1", RESOURCE.replace('/', "%2F"));
    assert!(server.last().starts_with(&asked_for), "{}", server.last());
    assert!(server.last().contains(&format!("authorization: Token token=\"{token}\"\r\n")), "{}", server.last());
    assert_eq!(asked(&authority, Scheme::Bearer, &token, "update").await, Said::Denied(Denial::NotPermitted));
    assert!(server.last().contains("authorization: Token token="), "a bearer's in its own form");
    let person = asked(&authority, Scheme::Token, &conjur_token("alice"), "read").await;
    assert_eq!(person, Said::Allowed("user:conjur/alice".to_owned()));
}

#[tokio::test]
async fn a_service_is_asked_with_what_the_client_sent_and_may_name_him() {
    let server = Server::plain(|_| (200, String::new())).await;
    let authority = remote(&server, Shape::AuthRequest { subject: Some(HeaderName::from_static("connection")) });
    assert_eq!(
        asked(&authority, Scheme::Bearer, "opaque", "create").await,
        Said::Allowed("user:remote/close".to_owned())
    );
    let head = server.last();
    for line in
        ["authorization: Bearer opaque", "x-netpol-privilege: create", "x-netpol-resource: production/release-bot"]
    {
        assert!(head.contains(&format!("{line}\r\n")), "{head}");
    }
    let unnamed = remote(&server, Shape::AuthRequest { subject: None });
    let Said::Allowed(subject) = asked(&unnamed, Scheme::Bearer, "opaque", "create").await else { panic!("refused") };
    assert!(subject.starts_with("token:") && !subject.contains("opaque"), "{subject}");
}

#[tokio::test]
async fn its_status_decides_and_doubt_allows_nothing() {
    for (status, said) in [
        (200, None),
        (204, None),
        (401, Some(Said::Denied(Denial::Unknown))),
        (403, Some(Said::Denied(Denial::NotPermitted))),
        (404, Some(Said::Denied(Denial::NotPermitted))),
        (302, Some(Said::Unavailable(Outage::Unintelligible))),
        (400, Some(Said::Unavailable(Outage::Unintelligible))),
        (500, Some(Said::Unavailable(Outage::Unintelligible))),
        (503, Some(Said::Unavailable(Outage::Busy))),
        (0, Some(Said::Unavailable(Outage::Unreachable))),
    ] {
        let server = Server::plain(move |_| (status, "{\"allow\":true}".to_owned())).await;
        let answer = asked(&remote(&server, conjur()), Scheme::Token, &conjur_token("host/ci"), "read").await;
        assert_eq!(answer, said.unwrap_or(Said::Allowed("host:conjur/ci".to_owned())), "status {status}");
    }
}

#[tokio::test]
async fn one_that_hangs_is_not_waited_for() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let server = Server::plain(|_| (204, String::new())).await;
    let mut authority = remote(&server, conjur());
    authority.settings.url = format!("http://{}", listener.local_addr().expect("an address")).parse().expect("a URL");
    let answer = asked(&authority, Scheme::Token, "token", "read").await;
    assert_eq!(answer, Said::Unavailable(Outage::TimedOut));
}

#[tokio::test]
async fn a_token_cannot_end_the_header_that_it_is_sent_in() {
    let server = Server::plain(|_| (204, String::new())).await;
    let authority = remote(&server, conjur());
    for token in ["a\", x=\"b", "a\\", "a\r\nX-Admin: 1"] {
        assert_eq!(asked(&authority, Scheme::Token, token, "read").await, Said::Denied(Denial::Malformed), "{token:?}");
    }
    assert_eq!(server.count(), 0);
}
