//! What was refused for want of a right, whoever refused it: the gate, a handler or the store's planner. All of it passes
//! here on its way to the history.

use axum::{
    extract::Request,
    http::{Method, Uri},
};

use super::{
    Context,
    gate::{RequestId, address},
};
use crate::model::{Attempt, Origin};

/// What is asked for, for the history if the asker has no right to it.
pub(super) struct Attempted {
    origin: Origin,
    method: Method,
    uri: Uri,
}

impl Attempted {
    pub(super) fn of(request: &Request) -> Self {
        let id = request.extensions().get::<RequestId>().map(|id| id.0.clone());
        let origin = Origin { from: address(request.extensions()), request: id, reason: None };
        Self { origin, method: request.method().clone(), uri: request.uri().clone() }
    }

    pub(super) async fn note(self, context: &Context, who: &str, detail: String) {
        let (method, path) = (self.method.to_string(), shown(self.uri.path()));
        let attempt = Attempt { method, path, detail: shown(&detail), count: 1 };
        context.store.note_refusal(who, self.origin, attempt).await;
    }
}

/// So much of what a caller chose as is kept for good.
fn shown(text: &str) -> String {
    const LONGEST: usize = 512;
    text.chars().take(LONGEST).collect()
}
