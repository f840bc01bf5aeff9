//! Whom a gatekeeper asks about a request: remembered verdicts first, then whoever knows.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;

use crate::{
    authority::{Credential, Outage, Question},
    verdict_cache::{Verdict, VerdictCache},
};

/// Says who may do what. Asked on every request's way.
pub trait Judge: Send + Sync {
    /// The verdict, where it is known without waiting.
    fn known(&self, question: Question<'_>) -> Option<Verdict>;

    /// The verdict, waited for.
    fn ask<'a>(&'a self, question: Question<'a>) -> BoxFuture<'a, Verdict>;
}

/// Remembered verdicts, and authorities that are asked where their connections live: not on the workers, which may end before.
pub struct Authorities {
    cache: Arc<VerdictCache>,
    control: Handle,
}

impl Authorities {
    pub fn new(cache: Arc<VerdictCache>, control: Handle) -> Self {
        Self { cache, control }
    }
}

impl Judge for Authorities {
    fn known(&self, question: Question<'_>) -> Option<Verdict> {
        self.cache.known(question)
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
