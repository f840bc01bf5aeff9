//! What an authority is asked: a credential, a privilege and a resource. Questions borrow everything, because one is put
//! together for each request.

use std::{fmt, str::FromStr, sync::Arc};

use thiserror::Error;

/// May whoever this credential is of do this here?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question<'a> {
    pub credential: Credential<'a>,
    pub privilege: &'a Privilege,
    pub resource: &'a Resource,
}

/// What a request carried in its one `Authorization` header.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Credential<'a> {
    pub scheme: Scheme,
    /// Visible ASCII without blanks; the token alone, without its quotes.
    pub token: &'a str,
}

/// How the token was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `Bearer TOKEN`
    Bearer,
    /// `Token token="TOKEN"`, as clients of Conjur write it
    Token,
}

/// What somebody wants to do: a lower-case word, `[a-z][a-z0-9-]{0,31}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Privilege(Arc<str>);

/// What a gatekeeper stands before: `[A-Za-z0-9._/-]{1,128}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resource(Arc<str>);

/// Why a word is no privilege, or no resource.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{word:?} is no {what}; {remedy}")]
pub struct Malformed {
    pub word: String,
    pub what: &'static str,
    pub remedy: &'static str,
}

const LONGEST_PRIVILEGE: usize = 32;
const LONGEST_RESOURCE: usize = 128;

/// Who reads a log must not be able to act as whom it tells of.
impl fmt::Debug for Credential<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Credential({:?}, {} characters)", self.scheme, self.token.len())
    }
}

impl Privilege {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Resource {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Privilege {
    type Err = Malformed;

    fn from_str(word: &str) -> Result<Self, Malformed> {
        let first = word.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
        let rest = word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if first && rest && word.len() <= LONGEST_PRIVILEGE {
            return Ok(Self(word.into()));
        }
        let remedy = "name one such as `read`, `create` or `publish`: lower-case letters, digits and `-`, 32 at most";
        Err(Malformed { word: word.into(), what: "privilege", remedy })
    }
}

impl FromStr for Resource {
    type Err = Malformed;

    fn from_str(word: &str) -> Result<Self, Malformed> {
        let fits = (1..=LONGEST_RESOURCE).contains(&word.len());
        if fits && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._/-".contains(&byte)) {
            return Ok(Self(word.into()));
        }
        let remedy = "name one such as `production/release-bot`: letters, digits, `.`, `_`, `-` and `/`, 128 at most";
        Err(Malformed { word: word.into(), what: "resource", remedy })
    }
}

impl fmt::Display for Privilege {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_privilege_is_a_short_lower_case_word() {
        assert!("read".parse::<Privilege>().is_ok());
        assert!("publish-2".parse::<Privilege>().is_ok());
        for word in ["", "Read", "2read", "-read", "re ad", "read\n", &"r".repeat(33)] {
            assert!(word.parse::<Privilege>().is_err(), "{word:?}");
        }
    }

    #[test]
    fn a_resource_has_no_letters_that_mean_something_in_a_url() {
        assert!("production/release-bot".parse::<Resource>().is_ok());
        for word in ["", "a b", "a?b", "a%2fb", "a#b", "a\r\nb", &"r".repeat(129)] {
            assert!(word.parse::<Resource>().is_err(), "{word:?}");
        }
    }

    #[test]
    fn a_credential_is_not_told_to_a_log() {
        let credential = Credential { scheme: Scheme::Bearer, token: "s3cret" };
        assert!(!format!("{credential:?}").contains("s3cret"));
    }
}
