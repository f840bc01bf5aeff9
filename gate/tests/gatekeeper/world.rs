//! A gatekeeper with an app behind it, and a judge who knows three tokens.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use gate::{
    authority::{Denial, Permit, Question},
    gatekeeper::{
        Gatekeeper, Judge, Limits, ListeningSocket, LogTarget, LongestBody, Metrics, Patience, PrivilegeTable,
        Settings, UpstreamAddress, UpstreamSettings,
    },
    verdict_cache::Verdict,
};

use crate::{app::App, raw::Raw};

/// Who may do everything.
pub(crate) const CI: &str = "Authorization: Bearer ci-token";
/// Who may read.
pub(crate) const READER: &str = "Authorization: Bearer reader-token";
/// Whom nobody knows.
pub(crate) const STRANGER: &str = "Authorization: Bearer stranger-token";

pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) app: App,
    pub(crate) gatekeeper: Option<Gatekeeper>,
    pub(crate) metrics: Metrics,
    judge: Arc<Tokens>,
}

/// Knows tokens, and who may what.
#[derive(Default)]
pub(crate) struct Tokens(Mutex<HashMap<String, Known>>);

struct Known {
    permit: Arc<Permit>,
    reads_only: bool,
    revoked: bool,
}

impl Tokens {
    pub(crate) fn known() -> Self {
        let tokens = Self::default();
        tokens.add("ci-token", "host:ci-1", false);
        tokens.add("web-token", "app:web", false);
        tokens.add("reader-token", "user:rita", true);
        tokens
    }

    fn add(&self, token: &str, subject: &str, reads_only: bool) {
        let until = Instant::now() + Duration::from_secs(300);
        let app = subject.strip_prefix("app:").map(|app| app.parse().expect("an app"));
        let permit = Arc::new(Permit::new(subject.parse().expect("a subject"), app, until));
        let known = Known { permit, reads_only, revoked: false };
        self.0.lock().expect("nobody panics").insert(token.into(), known);
    }

    fn verdict(&self, question: Question<'_>) -> Verdict {
        let known = self.0.lock().expect("nobody panics");
        match known.get(question.credential.token) {
            None => Verdict::Deny(Denial::Unknown),
            Some(known) if known.revoked => Verdict::Deny(Denial::Revoked),
            Some(known) if known.reads_only && question.privilege.as_str() != "read" => {
                Verdict::Deny(Denial::NotPermitted)
            }
            Some(known) => Verdict::Allow(known.permit.clone()),
        }
    }
}

impl Judge for Tokens {
    fn known(&self, question: Question<'_>) -> Option<Verdict> {
        Some(self.verdict(question))
    }

    fn ask<'a>(&'a self, question: Question<'a>) -> BoxFuture<'a, Verdict> {
        Box::pin(async move { self.verdict(question) })
    }
}

pub(crate) fn settings(upstream: UpstreamAddress) -> Settings {
    Settings {
        resource: "production/release-bot".parse().expect("a resource"),
        privileges: PrivilegeTable::new(Vec::new()),
        upstream: UpstreamSettings::of(upstream),
        limits: Limits { head: 4_096, fields: 32 },
        longest_body: LongestBody(10_000),
        patience: Patience {
            head: Duration::from_millis(300),
            idle: Duration::from_secs(20),
            body: Duration::from_millis(300),
            write: Duration::from_secs(2),
            answer: Duration::from_millis(500),
        },
        pass_authorization: false,
        access_log: LogTarget::Off,
        tls: None,
        threads: 1,
        ready: true,
    }
}

impl World {
    pub(crate) fn start() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let app = App::start();
        let mut settings = settings(UpstreamAddress::Tcp(app.address.to_string()));
        change(&mut settings);
        let judge = Arc::new(Tokens::known());
        let socket = ListeningSocket::bind(&"127.0.0.1:0".parse().expect("an address")).expect("it listens");
        let address = socket.address().expect("it has an address").expect("over TCP");
        let metrics = Metrics::new();
        let gatekeeper = Gatekeeper::start(Arc::new(settings), &socket, judge.clone(), &metrics).expect("it starts");
        Self { address, app, gatekeeper: Some(gatekeeper), metrics, judge }
    }

    pub(crate) fn connect(&self) -> Raw {
        Raw::connect(self.address)
    }

    /// Takes a token back, as a push of the policy API does.
    pub(crate) fn revoke(&self, token: &str) {
        let mut known = self.judge.0.lock().expect("nobody panics");
        let known = known.get_mut(token).expect("it was known");
        known.revoked = true;
        known.permit.revoke();
    }

    /// Sends bytes over a new connection and returns what is answered.
    pub(crate) fn ask(&self, request: &str) -> crate::raw::Answer {
        let mut connection = self.connect();
        connection.send(request);
        connection.answer()
    }

    /// Sends a request that has to be refused: with this status and reason, as problem+json, with a challenge where it is
    /// 401, and with nothing of it at the app.
    #[track_caller]
    pub(crate) fn refuses(&self, request: &str, status: u16, reason: &str) {
        let before = self.app.requests();
        let answer = self.ask(request);
        assert_eq!((answer.status, answer.reason().as_str()), (status, reason), "{request:?}\n{answer:?}");
        answer.assert_is_problem();
        assert_eq!(self.app.requests(), before, "the app has seen {request:?}");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(gatekeeper) = self.gatekeeper.take() {
            gatekeeper.end();
            gatekeeper.join();
        }
    }
}
