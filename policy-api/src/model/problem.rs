//! How a refusal looks on the wire: `application/problem+json`.

use serde::{Deserialize, Serialize};

/// A refusal (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[error("{title}: {detail}")]
pub struct Problem {
    /// Names the kind of problem, for programs.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem in a few words, for people.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened here, and what would be right.
    pub detail: String,
    /// The field of the request that is to blame, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

impl Problem {
    /// The media type.
    pub const MEDIA_TYPE: &'static str = "application/problem+json";
    /// What all kinds begin with.
    pub const KIND: &'static str = "urn:netpol:problem:";
    /// The kind that a node is told which has to prove first that it is at its underlay address.
    pub const UNPROVEN: &'static str = "underlay-unproven";

    /// Whether it is of this kind.
    pub fn is_of(&self, kind: &str) -> bool {
        self.kind.strip_prefix(Self::KIND) == Some(kind)
    }
}
