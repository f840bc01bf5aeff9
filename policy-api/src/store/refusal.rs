//! Why a request is not done. Nothing was changed when one of these comes back.

use super::error::DatabaseError;
use crate::model::{ETag, Invalid, InvalidField, NodeName};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request itself is wrong.
    #[error(transparent)]
    Invalid(#[from] InvalidField),
    /// What the field names does not exist.
    #[error("{}{}", .0, suggestion(.1.as_deref()))]
    NotFound(InvalidField, Option<String>),
    /// What the field asks for contradicts what stands.
    #[error(transparent)]
    Conflict(InvalidField),
    /// The asker's team has as much of it as it may have.
    #[error(transparent)]
    OverQuota(InvalidField),
    /// The asker has no right to what the field names.
    #[error(transparent)]
    Forbidden(InvalidField),
    /// The asker's roles do not reach so far.
    #[error(transparent)]
    Denied(Box<Denied>),
    /// The rules are not in the state that the asker wants to change.
    #[error("the rules have changed: their entity tag is {0} now; read them again and decide anew")]
    Precondition(ETag),
    /// The key was used for another request.
    #[error("field `Idempotency-Key`: the key was used for another request; use a new one")]
    KeyReused,
    /// The nodes have no room for it.
    #[error(
        "the rules would need {rows} rows but node {node} holds {capacity} at most; delete rules, use fewer port ranges, or \
         start its agent with a larger `--rows`"
    )]
    Full { rows: u64, node: NodeName, capacity: u64 },
    /// There are no more numbers to give out.
    #[error("all {0} are given out")]
    Exhausted(&'static str),
    /// What numbers there are stood for something that a node may remember.
    #[error(
        "all {0} were given out once, and none rests that every registered node is known to have forgotten; bring back nodes \
         that are away, or remove them: `netpol node remove NODE`"
    )]
    Resting(&'static str),
    /// It could not be stored. Whoever asked for the same batch of writes got the same answer.
    #[error("the store failed: {0}")]
    Store(String),
    /// It may have been stored, or may yet be: the one refusal that does not say that nothing was changed.
    #[error(
        "{0}; it may have been done all the same: look whether it stands, or send it again with the `Idempotency-Key` that \
         it had"
    )]
    Unsure(String),
}

/// Who may not do what, why, and who could.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{who}` may not {what}: {why}; it takes {wanted}")]
pub struct Denied {
    pub who: String,
    /// Continues "may not": `write a rule from web to db`.
    pub what: String,
    pub why: String,
    /// Roles that would do.
    pub wanted: String,
    pub field: String,
}

impl From<DatabaseError> for Refusal {
    fn from(failure: DatabaseError) -> Self {
        match failure {
            DatabaseError::Unsure(_) => Self::Unsure(failure.to_string()),
            other => Self::Store(other.to_string()),
        }
    }
}

impl Refusal {
    /// `thing` of this value does not exist; `known` may hold what was meant.
    pub fn not_found<'a>(
        field: impl Into<String>,
        thing: &'static str,
        value: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let nearest = crate::model::nearest_name(value, known).map(str::to_owned);
        let remedy = format!("name {thing} that exists");
        Self::NotFound(Invalid::new(value, format!("is not {thing} that is known"), remedy).in_field(field), nearest)
    }

    pub fn conflict(field: impl Into<String>, value: impl ToString, problem: String, remedy: &'static str) -> Self {
        Self::Conflict(Invalid::new(value.to_string(), problem, remedy).in_field(field))
    }

    pub fn forbidden(field: impl Into<String>, value: impl ToString, problem: String, remedy: &'static str) -> Self {
        Self::Forbidden(Invalid::new(value.to_string(), problem, remedy).in_field(field))
    }

    /// The field of the request that is to blame, if one is.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Invalid(at)
            | Self::NotFound(at, _)
            | Self::Conflict(at)
            | Self::OverQuota(at)
            | Self::Forbidden(at) => Some(&at.field),
            Self::Denied(denied) => Some(&denied.field),
            Self::Precondition(_) => Some("If-Match"),
            Self::KeyReused => Some("Idempotency-Key"),
            Self::Full { .. } | Self::Exhausted(_) | Self::Resting(_) | Self::Store(_) | Self::Unsure(_) => None,
        }
    }
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}
