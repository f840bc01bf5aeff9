//! Where every refusal for want of a right is noted, whoever refused it: the gate, a handler or the store's planner.

use axum::{http::StatusCode, response::Response};
use tracing::info;

use crate::model::Problem;

/// A request that was refused.
pub(super) struct Refused<'a> {
    pub(super) who: &'a str,
    pub(super) method: &'static str,
    /// Of the table of endpoints, with its parameters' names.
    pub(super) path: &'static str,
    pub(super) request: &'a str,
}

/// Notes the refusal, if the answer is one.
pub(super) fn note(refused: &Refused<'_>, response: &Response) {
    if response.status() != StatusCode::FORBIDDEN {
        return;
    }
    let Some(problem) = response.extensions().get::<Problem>() else { return };
    let Refused { who, method, path, request } = refused;
    info!(request, who, method, path, why = problem.detail, "refused");
}
