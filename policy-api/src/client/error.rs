//! What can go wrong between a client and the policy API.

use std::error::Error;

use crate::model::Problem;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// What the client was told cannot be used.
    #[error("{0}")]
    Config(String),
    /// No API answered. If the connection broke after the request was sent, it may have been done.
    #[error("cannot reach the policy API at {api}: {why}")]
    Unreachable { api: String, why: String },
    /// The API refused.
    #[error("{}", .0.detail)]
    Problem(Box<Problem>),
    /// The API answered something that this client does not understand, or stopped in the middle.
    #[error("the policy API does not answer as it should: {0}")]
    Protocol(String),
}

impl ClientError {
    pub(super) fn unreachable(api: &reqwest::Url, error: &reqwest::Error) -> Self {
        Self::Unreachable { api: api.as_str().trim_end_matches('/').to_owned(), why: cause(error) }
    }

    /// The refusal, if the API refused.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Problem(problem) => Some(problem),
            Self::Config(_) | Self::Unreachable { .. } | Self::Protocol(_) => None,
        }
    }

    /// The HTTP status of the refusal, if the API refused.
    pub fn status(&self) -> Option<u16> {
        self.problem().map(|problem| problem.status)
    }
}

/// An error with everything below it.
pub(super) fn whole(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(error) = below {
        text = format!("{text}: {error}");
        below = error.source();
    }
    text
}

/// What is at the bottom of an error: the layers above only say that there was one.
fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it does not answer".to_owned();
    }
    let mut deepest: &dyn Error = error;
    while let Some(below) = deepest.source() {
        deepest = below;
    }
    deepest.to_string()
}
