//! Who asks.

use std::fmt;

use super::{refusal::Refusal, rights::Rights};
use crate::model::{
    AppName, AppPattern, Grant, Grants, NodeName, Subject, Timestamp, TokenHash, TokenId, TokenName, UserName,
};

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
    /// The policy API, in what it does unasked.
    Itself,
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

impl Principal {
    /// Whom identity tokens are for that they ask for; of a node, the instance says it.
    pub fn subject(&self, rights: &Rights) -> Result<Subject, Refusal> {
        match self {
            Self::Operator => Ok(Subject::User(operator())),
            Self::User(User::Token(name, _)) => match rights.sole() {
                Some(Grant::Machine) => Ok(Subject::Host(name.clone())),
                None => Ok(Subject::User(UserName::of_token(name))),
                Some(_) => Err(self.is_no_subject("its role is for another purpose")),
            },
            Self::User(User::Vouched { subject, .. }) => UserName::vouched(subject)
                .map(Subject::User)
                .map_err(|_| self.is_no_subject("the provider's name for it is none that can be written down")),
            Self::Node(_) | Self::Joining(..) | Self::Itself => {
                Err(self.is_no_subject("nodes have no identity of their own"))
            }
        }
    }

    fn is_no_subject(&self, why: &str) -> Refusal {
        let remedy = "use the token of a user or of a machine, or a node's certificate for one of its instances";
        Refusal::forbidden("Authorization", self, format!("is nobody whom identity tokens are for: {why}"), remedy)
    }
}

/// What the operator is called by whom he shows an identity token to. An admin who gives a token this name says that it is his.
fn operator() -> UserName {
    "operator".parse().expect("it is a name")
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator => f.write_str("operator"),
            Self::User(User::Token(name, _)) => write!(f, "token/{name}"),
            Self::User(User::Vouched { subject, .. }) => write!(f, "oidc/{subject}"),
            Self::Node(grant) | Self::Joining(grant, _) => write!(f, "node/{}", grant.name),
            Self::Itself => f.write_str("policy-api"),
        }
    }
}
