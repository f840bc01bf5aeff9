//! What can go wrong between a client and the policy API.

use std::{error::Error, time::Duration};

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
    /// The API cannot answer now (429, 503), for a reason that passes by itself.
    #[error("{}", .problem.detail)]
    Busy { problem: Box<Problem>, retry_after: Option<Duration> },
    /// The API answered something that this client does not understand, or stopped in the middle.
    #[error("the policy API does not answer as it should: {0}")]
    Protocol(String),
}

impl ClientError {
    pub(super) fn unreachable(api: &reqwest::Url, error: &reqwest::Error) -> Self {
        Self::Unreachable { api: api.as_str().trim_end_matches('/').to_owned(), why: cause(error) }
    }

    /// What the API says against the request, if it says anything.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Problem(problem) | Self::Busy { problem, .. } => Some(problem),
            Self::Config(_) | Self::Unreachable { .. } | Self::Protocol(_) => None,
        }
    }

    /// Whether the API has decided against the request, so that asking again gets the same answer.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Problem(_))
    }

    /// How long not to ask again, if the API says so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after, .. } => *retry_after,
            Self::Config(_) | Self::Unreachable { .. } | Self::Problem(_) | Self::Protocol(_) => None,
        }
    }

    /// The HTTP status of the problem, if there is one.
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
