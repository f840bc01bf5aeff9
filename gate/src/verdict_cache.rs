//! Answers that are remembered for a while, so that an authority is asked once for many requests.

use std::sync::Arc;

use crate::authority::{Answer, Authority, Denial, Outage, Permit, Question, Stack};

/// What a gatekeeper does with a request. `NotMine` is no verdict: the stack turned it into a denial.
#[derive(Clone, Debug)]
#[must_use]
pub enum Verdict {
    Allow(Arc<Permit>),
    Deny(Denial),
    Unavailable(Outage),
}

/// Remembered answers of a stack of authorities; shared by all workers.
pub struct VerdictCache {
    stack: Arc<Stack>,
}

impl VerdictCache {
    pub fn new(stack: Arc<Stack>) -> Self {
        Self { stack }
    }

    /// The verdict, where it is known without waiting. On every request's way: no locks that others hold for long, and no
    /// allocation.
    pub fn known(&self, _question: Question<'_>) -> Option<Verdict> {
        None
    }

    /// Asks the stack; one asks for all who want to know the same.
    pub async fn ask(&self, question: Question<'_>) -> Verdict {
        match self.stack.check(question).await {
            Answer::Allow(permit) => Verdict::Allow(permit),
            Answer::Deny(denial) => Verdict::Deny(denial),
            Answer::NotMine => Verdict::Deny(Denial::Unknown),
            Answer::Unavailable(outage) => Verdict::Unavailable(outage),
        }
    }
}
