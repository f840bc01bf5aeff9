//! Who asks.

use std::fmt;

use crate::model::{AppName, AppPattern, NodeName, TokenId};

/// Who asks, and how that is proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// By a token.
    Operator,
    /// By its certificate.
    Node(NodeGrant),
    /// By its join token, which lets it register its key, once, and nothing else.
    Joining(NodeGrant, TokenId),
}

/// What a node may do: speak for one name, and run these apps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeGrant {
    pub name: NodeName,
    pub apps: Vec<AppPattern>,
}

impl NodeGrant {
    pub fn may_run(&self, app: &AppName) -> bool {
        self.apps.iter().any(|pattern| pattern.matches(app))
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator => f.write_str("operator"),
            Self::Node(grant) | Self::Joining(grant, _) => write!(f, "node/{}", grant.name),
        }
    }
}
