//! How old tokens are that are let in, as far as whoever judged them knows.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use gate::{
    authority::{Permit, Question},
    gatekeeper::{Gatekeeper, Judge, ListeningSocket, Metrics, UpstreamAddress},
    verdict_cache::Verdict,
};
use policy_api::model::Timestamp;

use crate::{app::App, raw::Raw, world::settings};

/// Lets everybody in by one permit, and remembers it once it was asked for.
struct Remembering {
    permit: Arc<Permit>,
    asked: AtomicBool,
}

impl Remembering {
    fn of_age(age: Option<Duration>) -> Self {
        let until = Instant::now() + Duration::from_secs(60);
        let issued = age.map(|age| Timestamp::now().before(age).expect("a time"));
        let permit = Permit::new("host:ci-1".parse().expect("a subject"), None, until).issued_at(issued);
        Self { permit: Arc::new(permit), asked: AtomicBool::new(false) }
    }
}

impl Judge for Remembering {
    fn known(&self, _question: Question<'_>) -> Option<Verdict> {
        self.asked.load(Ordering::SeqCst).then(|| Verdict::Allow(self.permit.clone()))
    }

    fn ask<'a>(&'a self, _question: Question<'a>) -> BoxFuture<'a, Verdict> {
        self.asked.store(true, Ordering::SeqCst);
        Box::pin(async { Verdict::Allow(self.permit.clone()) })
    }
}

/// What is counted when a token of this age comes three times.
fn counted(age: Option<Duration>) -> String {
    let (app, metrics) = (App::start(), Metrics::new());
    let socket = ListeningSocket::bind(&"127.0.0.1:0".parse().expect("an address")).expect("it listens");
    let address = socket.address().expect("it has an address").expect("over TCP");
    let settings = Arc::new(settings(UpstreamAddress::Tcp(app.address.to_string())));
    let judge = Arc::new(Remembering::of_age(age));
    let gatekeeper = Gatekeeper::start(settings, &socket, judge, &metrics).expect("it starts");
    let mut client = Raw::connect(address);
    for _ in 0..3 {
        client.send("GET / HTTP/1.1\r\nHost: app\r\nAuthorization: Bearer any\r\n\r\n");
        assert_eq!(client.answer().status, 200);
    }
    gatekeeper.end();
    gatekeeper.join();
    metrics.text()
}

#[test]
fn a_tokens_age_is_counted_by_worker_when_an_authority_is_asked_and_not_when_it_is_remembered() {
    let text = counted(Some(Duration::from_secs(100)));
    let bucket = |bound: &str| format!("netpol_gate_token_age_seconds_bucket{{le=\"{bound}\",worker=\"0\"}}");
    assert!(text.contains(&format!("{} 0\n", bucket("60.0"))), "{text}");
    assert!(text.contains(&format!("{} 1\n", bucket("120.0"))), "{text}");
    assert!(text.contains("netpol_gate_token_age_seconds_count{worker=\"0\"} 1\n"), "{text}");
}

#[test]
fn a_token_of_which_nobody_knows_the_age_is_not_counted() {
    let text = counted(None);
    assert!(text.contains("netpol_gate_token_age_seconds_count{worker=\"0\"} 0\n"), "{text}");
}
