//! How refusals leave: `application/problem+json` with a kind for programs and a sentence for people.

use std::{io, net::IpAddr, time::Duration};

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use crate::{
    model::{CHALLENGE_PORT, InvalidField, NodeName, Problem},
    store::{AheadOfStore, Refusal},
};

/// A refusal on its way out.
#[derive(Debug)]
pub(super) struct Failure {
    problem: Box<Problem>,
    /// When to come back.
    retry_after: Option<Duration>,
}

/// What an answer says whoever was refused was told, for whoever writes it down.
#[derive(Clone, Debug)]
pub(super) struct Told(pub(super) String);

/// Kinds of problems: the last part of `type`, the title and the status.
type Kind = (&'static str, &'static str, StatusCode);

const BAD_INPUT: Kind = ("bad-input", "The request is wrong", StatusCode::BAD_REQUEST);
const MALFORMED: Kind = ("malformed", "The request is not JSON", StatusCode::BAD_REQUEST);
const TOO_LARGE: Kind = ("too-large", "The request is too large", StatusCode::PAYLOAD_TOO_LARGE);
const UNKNOWN_CALLER: Kind = ("unauthenticated", "Nobody knows who asks", StatusCode::UNAUTHORIZED);
const NOT_PERMITTED: Kind = ("not-permitted", "The asker has no right to this", StatusCode::FORBIDDEN);
const NOT_FOUND: Kind = ("not-found", "There is no such thing", StatusCode::NOT_FOUND);
const NO_PATH: Kind = ("no-such-path", "There is no such path", StatusCode::NOT_FOUND);
const NO_METHOD: Kind = ("no-such-method", "The path does not take this method", StatusCode::METHOD_NOT_ALLOWED);
const CONFLICT: Kind = ("conflict", "The request contradicts what stands", StatusCode::CONFLICT);
const AHEAD: Kind = ("ahead", "The store was put back to an earlier state", StatusCode::CONFLICT);
const UNPROVEN: Kind = (Problem::UNPROVEN, "The node may not be where it says", StatusCode::PRECONDITION_REQUIRED);
const PRECONDITION: Kind = ("changed", "The rules have changed", StatusCode::PRECONDITION_FAILED);
const KEY_REUSED: Kind = ("key-reused", "The key was used for another request", StatusCode::UNPROCESSABLE_ENTITY);
const FULL: Kind = ("full", "The nodes have no room for it", StatusCode::CONFLICT);
const EXHAUSTED: Kind = ("exhausted", "There are no more numbers to give out", StatusCode::CONFLICT);
const TOO_MANY: Kind = ("too-many", "Too many requests", StatusCode::TOO_MANY_REQUESTS);
const STORE: Kind = ("store", "The store failed", StatusCode::SERVICE_UNAVAILABLE);
const UNSURE: Kind = ("unsure", "Nobody knows whether it was done", StatusCode::SERVICE_UNAVAILABLE);

/// How long a store that failed is left in peace.
const STORE_PAUSE: Duration = Duration::from_secs(1);

impl Failure {
    fn new((kind, title, status): Kind, detail: impl Into<String>, field: Option<&str>) -> Self {
        let problem = Problem {
            kind: format!("{}{kind}", Problem::KIND),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            field: field.map(str::to_owned),
        };
        Self { problem: Box::new(problem), retry_after: None }
    }

    pub(super) fn malformed(error: &serde_json::Error) -> Self {
        Self::new(MALFORMED, format!("field `(body)`: {error}; send a JSON object"), Some("(body)"))
    }

    pub(super) fn interrupted(error: &axum::Error) -> Self {
        Self::new(MALFORMED, format!("field `(body)`: it did not arrive whole: {error}"), Some("(body)"))
    }

    pub(super) fn too_large(limit: usize) -> Self {
        Self::new(
            TOO_LARGE,
            format!("field `(body)`: it has more than {limit} bytes; send less at a time"),
            Some("(body)"),
        )
    }

    pub(super) fn unknown_caller() -> Self {
        let detail = "send `Authorization: Bearer TOKEN` with a token that is good; a node shows its certificate";
        Self::new(UNKNOWN_CALLER, detail, Some("Authorization"))
    }

    pub(super) fn certificate_over(node: &NodeName, why: &str) -> Self {
        let detail = format!("the certificate of node `{node}` {why}; renew it, or join again with a new token");
        Self::new(UNKNOWN_CALLER, detail, Some("certificate"))
    }

    pub(super) fn not_the_key(node: &NodeName) -> Self {
        let detail = format!("field `csr`: node `{node}` is not registered with this key; join with a token");
        Self::new(NOT_PERMITTED, detail, Some("csr"))
    }

    pub(super) fn not_permitted(who: &str, wanted: &str) -> Self {
        Self::new(NOT_PERMITTED, format!("`{who}` may not do this; use {wanted}"), Some("Authorization"))
    }

    pub(super) fn unproven(underlay: IpAddr) -> Self {
        let detail = format!(
            "field `underlay`: `{underlay}` is not proven; join again with what was sent to its UDP port {CHALLENGE_PORT} as `proof`"
        );
        Self::new(UNPROVEN, detail, Some("underlay"))
    }

    pub(super) fn beyond_reach(underlay: IpAddr, error: &io::Error) -> Self {
        let detail = format!(
            "field `underlay`: `{underlay}` cannot be proven, as the policy API cannot send to it ({error}); give its machine a route \
             there, or serve it with `--underlay believed`"
        );
        Self::new(CONFLICT, detail, Some("underlay"))
    }

    pub(super) fn too_many(wait: Duration) -> Self {
        let detail = format!("this caller asks too often; come back in {} ms", wait.as_millis().max(1));
        Self { retry_after: Some(wait), ..Self::new(TOO_MANY, detail, None) }
    }

    pub(super) fn no_such_path() -> Self {
        Self::new(NO_PATH, "`GET /openapi.json` describes what there is", None)
    }

    pub(super) fn no_such_method() -> Self {
        Self::new(NO_METHOD, "`GET /openapi.json` describes what there is", None)
    }

    pub(super) fn not_ready() -> Self {
        Self::of_store("the last write could not be stored; the log says why", None)
    }

    pub(super) fn not_following() -> Self {
        Self::of_store("what other APIs commit does not reach this one; ask another one", None)
    }

    fn of_store(detail: impl Into<String>, field: Option<&str>) -> Self {
        Self { retry_after: Some(STORE_PAUSE), ..Self::new(STORE, detail, field) }
    }

    pub(super) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let kind = match &refusal {
            Refusal::Invalid(_) => BAD_INPUT,
            Refusal::NotFound(..) => NOT_FOUND,
            Refusal::Conflict(_) | Refusal::OverQuota(_) => CONFLICT,
            Refusal::Forbidden(_) | Refusal::Denied(_) => NOT_PERMITTED,
            Refusal::Precondition(_) => PRECONDITION,
            Refusal::KeyReused => KEY_REUSED,
            Refusal::Full { .. } => FULL,
            Refusal::Exhausted(_) | Refusal::Resting(_) => EXHAUSTED,
            Refusal::Store(_) => return Self::of_store(refusal.to_string(), refusal.field()),
            Refusal::Unsure(_) => UNSURE,
        };
        Self::new(kind, refusal.to_string(), refusal.field())
    }
}

impl From<InvalidField> for Failure {
    fn from(invalid: InvalidField) -> Self {
        Refusal::from(invalid).into()
    }
}

impl From<AheadOfStore> for Failure {
    fn from(ahead: AheadOfStore) -> Self {
        Self::new(AHEAD, format!("field `since`: {ahead}"), Some("since"))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = self.status();
        let body = serde_json::to_vec(&self.problem).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, Problem::MEDIA_TYPE)], body).into_response();
        if status == StatusCode::FORBIDDEN {
            response.extensions_mut().insert(Told(self.problem.detail));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        }
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
