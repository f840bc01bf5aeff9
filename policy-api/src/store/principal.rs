//! Who asks.

use std::fmt;

use crate::model::{AppName, AppPattern, NodeName};

/// Who asks, proven by a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    Operator,
    Node(NodeGrant),
}

/// What a node's token is good for: one name, and these apps.
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
            Self::Node(grant) => write!(f, "node/{}", grant.name),
        }
    }
}
