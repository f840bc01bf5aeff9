//! How answers and refusals leave: JSON as plain text, and an error's text escaped, which theirs is not.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::Value;

use crate::{http::failure::Told, store::Refusal};

/// A refusal in their words.
#[derive(Debug)]
pub(super) struct Refused {
    status: StatusCode,
    text: String,
    /// What our history says of it, where it knows more than they are told.
    detail: Option<String>,
}

pub(super) type Answer = Result<Response, Refused>;

impl Refused {
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), detail: None }
    }

    pub(super) fn bad(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    pub(super) fn failed(text: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    }

    fn forbidden(text: &str, refusal: &Refusal) -> Self {
        Self { detail: Some(refusal.to_string()), ..Self::new(StatusCode::FORBIDDEN, text) }
    }

    /// Of the store; `doing` is what theirs says where its database does not.
    pub(super) fn of_store(refusal: &Refusal, doing: &str) -> Self {
        match refusal {
            Refusal::Invalid(_) | Refusal::NotFound(..) | Refusal::Conflict(_) => {
                Self::bad(format!("mapper: validate policies: {refusal}"))
            }
            Refusal::Forbidden(_) | Refusal::Denied(_) => Self::forbidden(FOREIGN, refusal),
            Refusal::OverQuota(_) => Self::forbidden(OVER_QUOTA, refusal),
            Refusal::Precondition(_)
            | Refusal::KeyReused
            | Refusal::Full { .. }
            | Refusal::Exhausted(_)
            | Refusal::Resting(_)
            | Refusal::Store(_)
            | Refusal::Unsure(_) => Self::failed(doing),
        }
    }
}

const OVER_QUOTA: &str = "policy quota exceeded";
/// Of apps that are not the asker's.
const FOREIGN: &str = "one or more applications cannot be found or accessed";

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self { status, text, detail } = self;
        let told = (status == StatusCode::FORBIDDEN).then(|| Told(detail.unwrap_or_else(|| text.clone())));
        let mut response = (status, format!("{{\"error\": {}}}", Value::from(text))).into_response();
        if let Some(told) = told {
            response.extensions_mut().insert(told);
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// An answer, as plain text: who reads it looks at its body and not at its type.
pub(super) fn of(answer: &impl Serialize) -> Answer {
    let text = serde_json::to_string(answer).map_err(|_| Refused::failed("map policy as bytes failed"))?;
    Ok(text.into_response())
}
