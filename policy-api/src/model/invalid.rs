//! What is said about a value that cannot be taken.

use std::{borrow::Cow, fmt, marker::PhantomData, str::FromStr};

use serde::de::{Error, Visitor};

/// A value that cannot be taken: the value, what is wrong with it, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value} {problem}; {remedy}")]
pub struct Invalid {
    value: Shown,
    problem: Cow<'static, str>,
    remedy: Cow<'static, str>,
}

impl Invalid {
    /// `value` is quoted; `problem` continues the sentence ("is not a port"), `remedy` says what would be right.
    pub fn new(
        value: impl fmt::Display,
        problem: impl Into<Cow<'static, str>>,
        remedy: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { value: Shown::quoted(&value.to_string()), problem: problem.into(), remedy: remedy.into() }
    }

    /// As [`Invalid::new`], about something that has no text to quote.
    pub fn of(thing: &str, problem: impl Into<Cow<'static, str>>, remedy: impl Into<Cow<'static, str>>) -> Self {
        Self { value: Shown(thing.to_owned()), problem: problem.into(), remedy: remedy.into() }
    }

    /// The same, naming the field it was found in.
    pub fn in_field(self, field: impl Into<String>) -> InvalidField {
        InvalidField { field: field.into(), invalid: self }
    }
}

/// A request that cannot be taken because of one of its fields.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field `{field}`: {invalid}")]
pub struct InvalidField {
    /// The path of the field: `ports[1]`, `create[3].source`.
    pub field: String,
    /// What is wrong with it.
    pub invalid: Invalid,
}

/// A value as an error message shows it: short, and without control characters that a terminal would obey.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shown(String);

impl Shown {
    const LONGEST: usize = 80;

    fn quoted(value: &str) -> Self {
        let mut shown: String =
            value.chars().take(Self::LONGEST).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        if value.chars().nth(Self::LONGEST).is_some() {
            shown.push('…');
        }
        Self(format!("`{shown}`"))
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads a text where it stands.
pub(super) struct Parsed<T>(PhantomData<T>);

impl<T> Default for Parsed<T> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: FromStr<Err = Invalid>> Visitor<'_> for Parsed<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

/// Implements `Display`, serde and `TryFrom<String>` through `FromStr` and `as_str`.
macro_rules! text_type {
    ($name:ty) => {
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
        $crate::model::invalid::text_serde!($name);
    };
}

/// Implements serde through `FromStr` and `Display`.
macro_rules! text_serde {
    ($name:ty) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        #[cfg(feature = "server")]
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                <String as utoipa::PartialSchema>::schema()
            }
        }
        #[cfg(feature = "server")]
        impl utoipa::ToSchema for $name {}
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str($crate::model::invalid::Parsed::default())
            }
        }
    };
}
pub(super) use {text_serde, text_type};

#[cfg(test)]
mod tests {
    use super::Invalid;

    #[test]
    fn a_message_names_field_value_and_remedy() {
        let error = Invalid::new("70000", "is not a port", "use 1 to 65535").in_field("ports[0]");
        assert_eq!(error.to_string(), "field `ports[0]`: `70000` is not a port; use 1 to 65535");
    }

    #[test]
    fn a_long_or_hostile_value_is_shown_short_and_harmless() {
        let error = Invalid::new("\u{1b}[2J".to_owned() + &"x".repeat(300), "is too long", "use less").to_string();
        assert!(error.len() < 130 && !error.contains('\u{1b}'), "{error}");
    }
}
