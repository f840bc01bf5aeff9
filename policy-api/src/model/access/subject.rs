//! Subjects: whom an identity token is for; and members: what a role can have in it.

use std::{fmt, str::FromStr, sync::Arc};

use super::id::{LayerName, RoleName};
use crate::model::{
    invalid::{Invalid, text_serde, text_type},
    name::{AppName, TokenName},
};

/// Who acts on a resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// An app's instances, wherever they run: proven by where that is.
    App(AppName),
    /// A machine outside: the name of its API token, which has the role `machine`.
    Host(TokenName),
    /// A person.
    User(UserName),
}

/// The name of a person: that of an API token, or `oidc/SUBJECT` of whom the OpenID provider vouches for. A token's name has
/// no slash, so neither can pose as the other.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserName(Arc<str>);

/// What a role has in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Member {
    Subject(Subject),
    /// All members of the layer.
    Layer(LayerName),
    /// All members of that role.
    Role(RoleName),
}

impl UserName {
    const LONGEST: usize = 160;
    const VOUCHED: &str = "oidc/";

    /// Who has this API token.
    pub fn of_token(name: &TokenName) -> Self {
        Self(name.as_str().into())
    }

    /// Whom the OpenID provider calls this.
    pub fn vouched(subject: &str) -> Result<Self, Invalid> {
        format!("{}{subject}", Self::VOUCHED).parse()
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UserName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let remedy = "use the name of an API token, or `oidc/SUBJECT` of whom the OpenID provider vouches for";
        let refuse = || Invalid::new(text, "is not the name of a user", remedy);
        let Some(subject) = text.strip_prefix(Self::VOUCHED) else {
            return text.parse::<TokenName>().map(|name| Self::of_token(&name)).map_err(|_| refuse());
        };
        let fits = text.len() <= Self::LONGEST && !subject.is_empty() && subject.bytes().all(|b| b.is_ascii_graphic());
        if fits { Ok(Self(text.into())) } else { Err(refuse()) }
    }
}

text_type!(UserName);

impl FromStr for Subject {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.split_once(':') {
            Some(("app", name)) => name.parse().map(Self::App),
            Some(("host", name)) => name.parse().map(Self::Host),
            Some(("user", name)) => name.parse().map(Self::User),
            Some(_) | None => Err(Invalid::new(text, "is not a subject", "use `app:NAME`, `host:NAME` or `user:NAME`")),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::App(name) => f.pad(&format!("app:{name}")),
            Self::Host(name) => f.pad(&format!("host:{name}")),
            Self::User(name) => f.pad(&format!("user:{name}")),
        }
    }
}

text_serde!(Subject);

impl FromStr for Member {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.split_once(':') {
            Some(("layer", name)) => name.parse().map(Self::Layer),
            Some(("role", name)) => name.parse().map(Self::Role),
            Some(("app" | "host" | "user", _)) => text.parse().map(Self::Subject),
            Some(_) | None => {
                let remedy = "use `app:NAME`, `host:NAME`, `user:NAME`, `layer:NAME` or `role:NAME`";
                Err(Invalid::new(text, "is nothing that a role can have in it", remedy))
            }
        }
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subject(subject) => subject.fmt(f),
            Self::Layer(name) => f.pad(&format!("layer:{name}")),
            Self::Role(name) => f.pad(&format!("role:{name}")),
        }
    }
}

text_serde!(Member);

impl Member {
    /// The role, if it is one.
    pub fn into_role(self) -> Option<RoleName> {
        match self {
            Self::Role(role) => Some(role),
            Self::Subject(_) | Self::Layer(_) => None,
        }
    }
}

impl From<Subject> for Member {
    fn from(subject: Subject) -> Self {
        Self::Subject(subject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_written_as_they_are_read_and_nothing_else_is_one() {
        let subjects = ["app:web", "host:ci-1", "user:alice", "user:oidc/auth0|12", "user:oidc/a:b@c"];
        for text in subjects.into_iter().chain(["layer:ci", "role:production/release-bot/publisher"]) {
            assert_eq!(text.parse::<Member>().map(|member| member.to_string()), Ok(text.to_owned()));
        }
        let none =
            ["", "web", "app:", "app:a/b", "app:any", "host:a/b", "user:", "user:a/b", "user:oidc/", "user:oidc/a b"];
        for text in none.into_iter().chain(["App:web", "group:x", "role:", "role:/a", "layer:a//b", "any", "*"]) {
            assert!(text.parse::<Member>().is_err(), "{text} was taken");
        }
        assert!("layer:ci".parse::<Subject>().is_err() && "role:ci".parse::<Subject>().is_err());
    }

    #[test]
    fn whom_a_provider_vouches_for_is_nobody_who_has_a_token() {
        let token = UserName::of_token(&"alice".parse().expect("name"));
        assert_ne!(UserName::vouched("alice"), Ok(token));
        assert!(UserName::vouched("").is_err() && UserName::vouched("a\u{1b}[2J").is_err());
    }
}
