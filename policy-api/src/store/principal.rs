//! Who asks.

use std::fmt;

use crate::model::{AppName, AppPattern, Grants, NodeName, Timestamp, TokenHash, TokenId, TokenName};

/// Who asks, and how that is proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// By the token that `init` wrote, which is good for everything.
    Operator,
    /// A user or a machine.
    User(User),
    /// By its certificate.
    Node(NodeGrant),
    /// By its join token, which lets it register its key, once, and nothing else.
    Joining(NodeGrant, TokenId),
}

/// A user or a machine, and how that is proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum User {
    /// By a token. What it is good for, the state says, at the moment in which it matters.
    Token(TokenName, TokenHash),
    /// By the word of an OpenID provider, which holds until a time.
    Vouched { subject: String, grants: Grants, until: Timestamp },
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
            Self::User(User::Token(name, _)) => write!(f, "token/{name}"),
            Self::User(User::Vouched { subject, .. }) => write!(f, "oidc/{subject}"),
            Self::Node(grant) | Self::Joining(grant, _) => write!(f, "node/{}", grant.name),
        }
    }
}
