//! Revocations: identity tokens that are good no longer, though they have not ended. Each ends by itself when there can be no
//! token left that it is about.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{
    history::Revision,
    identity_token::IdentityTokenId,
    invalid::{Invalid, text_serde},
    name::NodeName,
    time::Timestamp,
};
use crate::model::Subject;

/// What is revoked: `token:ID`; all tokens of a subject, like `host:ci-1`; or all that a node has asked for, `node:NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Revoked {
    Token(IdentityTokenId),
    Subject(Subject),
    Node(NodeName),
}

/// A revocation that stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Revocation {
    pub of: Revoked,
    /// Of a subject or a node, tokens are revoked that were issued before this.
    pub issued_before: Timestamp,
    /// When no token is left that it is about.
    pub expires_at: Timestamp,
    pub created_by: String,
    /// The revision that last changed it.
    pub revision: Revision,
}

/// The answer to a revocation that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct RevocationAnswer {
    #[serde(flatten)]
    pub revocation: Revocation,
    #[serde(default, skip_serializing_if = "super::answer::is_false")]
    pub dry_run: bool,
}

const TOKEN: &str = "token:";
const NODE: &str = "node:";

impl FromStr for Revoked {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match (text.strip_prefix(TOKEN), text.strip_prefix(NODE)) {
            (Some(id), _) => id.parse().map(Self::Token),
            (None, Some(node)) => node.parse().map(Self::Node),
            (None, None) => text.parse().map(Self::Subject),
        }
    }
}

impl fmt::Display for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(id) => write!(f, "{TOKEN}{id}"),
            Self::Subject(subject) => subject.fmt(f),
            Self::Node(node) => write!(f, "{NODE}{node}"),
        }
    }
}

text_serde!(Revoked);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_revoked_is_written_as_it_is_read() {
        for text in ["host:ci-1", "app:web", "user:alice", "node:a", "token:00112233445566778899aabbccddeeff"] {
            assert_eq!(text.parse::<Revoked>().map(|revoked| revoked.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "ci-1", "token:", "token:00", "host:", "node:", "role:publisher"] {
            assert!(text.parse::<Revoked>().is_err(), "{text} was taken");
        }
    }
}
