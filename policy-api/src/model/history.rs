//! The one order of changes, and which order it is.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::invalid::{Invalid, text_serde, text_type};

/// A place in the one order of all committed changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct Revision(pub u64);

impl Revision {
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Revision {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        text.parse()
            .map(Self)
            .map_err(|_| Invalid::new(text, "is not a revision", "use a whole number, as answers show it"))
    }
}

/// Which store's order it is: random, made with the store. Revisions of two histories cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct History(String);

impl History {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for History {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let fits = (8..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        fits.then(|| Self(text.to_owned()))
            .ok_or_else(|| Invalid::new(text, "is not a history", "use the `history` that answers show"))
    }
}

text_type!(History);

/// The state of the rules, for `ETag` and `If-Match`: a revision never goes without its history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ETag {
    pub history: History,
    /// The revision that last changed the rules.
    pub revision: Revision,
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}.{}\"", self.history, self.revision)
    }
}

impl FromStr for ETag {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let parse = || {
            let (history, revision) = text.strip_prefix('"')?.strip_suffix('"')?.split_once('.')?;
            Some(Self { history: history.parse().ok()?, revision: revision.parse().ok()? })
        };
        parse()
            .ok_or_else(|| Invalid::new(text, "is not an entity tag", "use the `ETag` of an answer, with its quotes"))
    }
}

text_serde!(ETag);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entity_tag_carries_its_history() {
        let tag = ETag { history: "00ff00ff00ff00ff".parse().expect("history"), revision: Revision(7) };
        assert_eq!(tag.to_string(), "\"00ff00ff00ff00ff.7\"");
        assert_eq!(tag.to_string().parse(), Ok(tag));
        assert!("\"7\"".parse::<ETag>().is_err() && "7".parse::<ETag>().is_err());
    }
}
