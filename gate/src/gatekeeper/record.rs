//! What is remembered of a request until its answer has ended: then it becomes a line of the access log and counts.

use std::{rc::Rc, sync::Arc, time::Instant};

use http::{Method, Uri, Version};

use super::{
    access_log::Line,
    identity_headers::{Peer, RequestId},
    refusal::Refusal,
    worker::Worker,
};
use crate::{
    authority::{Permit, Privilege},
    report::{Noted, NotedVerdict},
};

/// A request that is being served; told of when it is dropped.
pub(crate) struct Record {
    worker: Rc<Worker>,
    peer: Rc<Peer>,
    began: Instant,
    method: Method,
    uri: Uri,
    version: Version,
    request_id: RequestId,
    permit: Option<Arc<Permit>>,
    privilege: Option<Privilege>,
    outcome: Outcome,
    bytes: u64,
}

#[derive(Clone, Copy)]
enum Outcome {
    /// Its client left before anything was answered.
    Abandoned,
    Refused(Refusal),
    Passed(u16),
    /// The answer had begun.
    Cut(u16, Refusal),
    Broken(u16),
}

/// What stands for "the client left" in logs of others too.
const CLIENT_CLOSED: u16 = 499;

impl Record {
    pub(crate) fn begin(
        worker: &Rc<Worker>,
        peer: &Rc<Peer>,
        head: &http::request::Parts,
        request_id: RequestId,
    ) -> Self {
        Self {
            worker: worker.clone(),
            peer: peer.clone(),
            began: Instant::now(),
            method: head.method.clone(),
            uri: head.uri.clone(),
            version: head.version,
            request_id,
            permit: None,
            privilege: None,
            outcome: Outcome::Abandoned,
            bytes: 0,
        }
    }

    pub(crate) fn request_id(&self) -> &RequestId {
        &self.request_id
    }

    pub(crate) fn asked_for(&mut self, privilege: &Privilege) {
        self.privilege = Some(privilege.clone());
    }

    /// Whose it is, let in or not.
    pub(crate) fn is_of(&mut self, permit: &Arc<Permit>) {
        self.permit = Some(permit.clone());
    }

    pub(crate) fn refuse(&mut self, refusal: Refusal) {
        self.outcome = Outcome::Refused(refusal);
    }

    pub(crate) fn pass(&mut self, status: u16) {
        self.outcome = Outcome::Passed(status);
    }

    pub(crate) fn count(&mut self, bytes: usize) {
        self.bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
    }

    pub(crate) fn cut(&mut self, refusal: Refusal) {
        self.outcome = Outcome::Cut(self.status(), refusal);
    }

    pub(crate) fn broke_off(&mut self) {
        self.outcome = Outcome::Broken(self.status());
    }

    /// What the history may want to know.
    fn noted(&self) -> Noted<'_> {
        let first = || self.permit.as_ref().is_some_and(|permit| permit.is_new());
        let verdict = match self.outcome {
            Outcome::Refused(_) => NotedVerdict::Denied,
            Outcome::Abandoned | Outcome::Passed(_) | Outcome::Cut(..) | Outcome::Broken(_) if first() => {
                NotedVerdict::AllowedFirst
            }
            Outcome::Abandoned | Outcome::Passed(_) | Outcome::Cut(..) | Outcome::Broken(_) => NotedVerdict::Allowed,
        };
        Noted {
            subject: self.permit.as_ref().map(|permit| permit.subject.as_str()),
            privilege: self.privilege.as_ref(),
            method: self.method.as_str(),
            path: self.uri.path(),
            verdict,
            reason: self.reason(),
            status: self.status(),
            request_id: self.request_id.0.to_str().unwrap_or_default(),
        }
    }

    fn status(&self) -> u16 {
        match self.outcome {
            Outcome::Abandoned => CLIENT_CLOSED,
            Outcome::Refused(refusal) => refusal.status().as_u16(),
            Outcome::Passed(status) | Outcome::Cut(status, _) | Outcome::Broken(status) => status,
        }
    }

    fn reason(&self) -> &'static str {
        match self.outcome {
            Outcome::Abandoned => "abandoned",
            Outcome::Refused(refusal) | Outcome::Cut(_, refusal) => refusal.word(),
            Outcome::Passed(_) => "allowed",
            Outcome::Broken(_) => "broken-off",
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let took = self.began.elapsed();
        match self.outcome {
            Outcome::Refused(refusal) | Outcome::Cut(_, refusal) => self.worker.metrics.refused(refusal),
            Outcome::Passed(status) | Outcome::Broken(status) => self.worker.metrics.passed(status, took),
            Outcome::Abandoned => self.worker.metrics.abandoned(),
        }
        self.worker.judge.note(&self.noted());
        if !self.worker.log.is_on() {
            return;
        }
        self.worker.log.write(&Line {
            client: self.peer.address.to_str().unwrap_or_default(),
            protocol: if self.version == Version::HTTP_2 { "http/2" } else { "http/1" },
            method: &self.method,
            uri: &self.uri,
            subject: self.permit.as_ref().map(|permit| permit.subject.as_str()),
            source_app: self.permit.as_ref().and_then(|permit| permit.source_app.as_ref()).map(|app| app.as_str()),
            privilege: self.privilege.as_ref().map(Privilege::as_str),
            reason: self.reason(),
            status: self.status(),
            bytes: self.bytes,
            microseconds: took.as_micros(),
            request_id: self.request_id.0.to_str().unwrap_or_default(),
        });
    }
}
