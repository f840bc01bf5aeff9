//! Privileges: what may be done on a resource, in one word.

use std::{str::FromStr, sync::Arc};

use crate::model::invalid::{Invalid, text_type};

/// What may be done: `read`, `create`, `update`, `delete`, `execute`, or a word of the resource's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Privilege(Arc<str>);

impl Privilege {
    const LONGEST: usize = 32;

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Privilege {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let fits = text.len() <= Self::LONGEST
            && text.bytes().next().is_some_and(|first| first.is_ascii_lowercase())
            && text.bytes().all(inner);
        if fits {
            return Ok(Self(text.into()));
        }
        let remedy =
            "use `read`, `create`, `update`, `delete`, `execute`, or another lower-case word of at most 32 letters";
        Err(Invalid::new(text, "is not a privilege", remedy))
    }
}

text_type!(Privilege);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_privilege_is_a_lower_case_word() {
        for text in ["read", "create", "x", "roll-back2", &"x".repeat(32)] {
            assert_eq!(text.parse::<Privilege>().map(|privilege| privilege.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "Read", "2x", "-x", "a b", "a_b", "*", "read,create", &"x".repeat(33)] {
            assert!(text.parse::<Privilege>().is_err(), "{text} was taken");
        }
    }
}
