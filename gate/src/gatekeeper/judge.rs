//! Whom a gatekeeper asks about a request: remembered verdicts first, then whoever knows.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;

use crate::{
    authority::{Credential, Outage, Question},
    report::{Noted, Reports},
    verdict_cache::{Verdict, VerdictCache},
};

/// Says who may do what. Asked on every request's way.
pub trait Judge: Send + Sync {
    /// The verdict, where it is known without waiting.
    fn known(&self, question: Question<'_>) -> Option<Verdict>;

    /// The verdict, waited for.
    fn ask<'a>(&'a self, question: Question<'a>) -> BoxFuture<'a, Verdict>;

    /// Hears what became of each request; whoever keeps no history does nothing about it.
    fn note(&self, _noted: &Noted<'_>) {}
}

/// Remembered verdicts, and authorities that are asked where their connections live: not on the workers, which may end before.
pub struct Authorities {
    cache: Arc<VerdictCache>,
    control: Handle,
    reports: Option<Reports>,
}

impl Authorities {
    pub fn new(cache: Arc<VerdictCache>, control: Handle) -> Self {
        Self { cache, control, reports: None }
    }

    /// The same, and what is decided is told there.
    pub fn telling(self, reports: Option<Reports>) -> Self {
        Self { reports, ..self }
    }
}

impl Judge for Authorities {
    fn known(&self, question: Question<'_>) -> Option<Verdict> {
        self.cache.known(question)
    }

    fn note(&self, noted: &Noted<'_>) {
        if let Some(reports) = &self.reports {
            reports.note(noted);
        }
    }

    fn ask<'a>(&'a self, question: Question<'a>) -> BoxFuture<'a, Verdict> {
        let cache = self.cache.clone();
        let (scheme, token) = (question.credential.scheme, question.credential.token.to_owned());
        let (privilege, resource) = (question.privilege.clone(), question.resource.clone());
        let asking = self.control.spawn(async move {
            let credential = Credential { scheme, token: &token };
            cache.ask(Question { credential, privilege: &privilege, resource: &resource }).await
        });
        // Whoever should have answered is gone: then it cannot be known.
        Box::pin(async { asking.await.unwrap_or(Verdict::Unavailable(Outage::Unreachable)) })
    }
}
