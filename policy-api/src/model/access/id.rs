//! Ids of resources, roles and layers: words with slashes between them, so that one can be inside another's name.
//!
//! An id has one spelling. It stands in paths of URLs, where readers disagree about `//`, `.` and `..`, so none has them.

use std::{str::FromStr, sync::Arc};

use crate::model::invalid::{Invalid, text_type};

/// The id of a resource: what a gatekeeper stands before, like `production/release-bot`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceId(Arc<str>);

/// The name of a role, like `production/release-bot/publisher`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoleName(Arc<str>);

/// The name of a layer of machines and apps, like `ci`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LayerName(Arc<str>);

const LONGEST: usize = 128;

impl ResourceId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ResourceId {
    /// Whether the id, of whatever kind, is this one or below it: `shop/bot` is below `shop`, and `shopping` is not.
    pub fn covers(&self, id: &str) -> bool {
        id.strip_prefix(self.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl FromStr for ResourceId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        check(text, "the id of a resource")?;
        Ok(Self(text.into()))
    }
}

impl RoleName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RoleName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        check(text, "the name of a role")?;
        Ok(Self(text.into()))
    }
}

impl LayerName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LayerName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        check(text, "the name of a layer")?;
        Ok(Self(text.into()))
    }
}

text_type!(ResourceId);
text_type!(RoleName);
text_type!(LayerName);

fn check(text: &str, what: &str) -> Result<(), Invalid> {
    const REMEDY: &str =
        "use 1 to 128 letters, digits, `.`, `_`, `-` and single `/` between them, like `production/release-bot`";
    if text.is_empty() {
        return Err(Invalid::new(text, "is empty", REMEDY));
    }
    if text.len() > LONGEST {
        return Err(Invalid::new(text, format!("is too long for {what} ({} bytes)", text.len()), REMEDY));
    }
    if text.split('/').all(is_part) { Ok(()) } else { Err(Invalid::new(text, format!("is not {what}"), REMEDY)) }
}

fn is_part(part: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !matches!(part, "" | "." | "..") && part.bytes().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_covers_itself_and_what_is_below_it() {
        let shop: ResourceId = "shop".parse().expect("id");
        assert!(shop.covers("shop") && shop.covers("shop/bot") && shop.covers("shop/bot/publisher"));
        assert!(!shop.covers("shopping") && !shop.covers("sho") && !shop.covers("a/shop") && !shop.covers("Shop/bot"));
    }

    #[test]
    fn an_id_has_one_spelling() {
        for text in ["a", "production/release-bot", "v1.2/_x/-", "...", &"x".repeat(128)] {
            assert_eq!(text.parse::<ResourceId>().map(|id| id.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/.", "a b", "a%2fb", "ä", &"x".repeat(129)] {
            assert!(text.parse::<ResourceId>().is_err(), "{text} was taken");
            assert!(text.parse::<RoleName>().is_err() && text.parse::<LayerName>().is_err(), "{text} was taken");
        }
    }
}
