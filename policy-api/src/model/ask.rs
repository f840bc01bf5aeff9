//! Requests: rules that one team asks another for.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{
    answer::Outcome,
    history::Revision,
    invalid::{Invalid, text_serde},
    name::TeamName,
    rule::RuleSpec,
    time::Timestamp,
};

/// The id of a request, `q12`: ascending, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u32);

/// A rule that somebody asked for and nobody has accepted yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleRequest {
    pub id: RequestId,
    pub rule: RuleSpec,
    /// Who asks.
    pub team: TeamName,
    /// Whose word is asked for; absent: an operator's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<TeamName>,
    pub created_at: Timestamp,
    pub created_by: String,
    /// When nobody waits for an answer any more.
    pub expires_at: Timestamp,
    /// The revision that last changed it.
    pub revision: Revision,
}

/// The answer to a rule that has to be asked for: nothing stands yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestAnswer {
    pub request: RuleRequest,
    pub outcome: Outcome,
    #[serde(default, skip_serializing_if = "super::answer::is_false")]
    pub dry_run: bool,
}

/// The answer to a request's end: what was asked for does not stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestDeleted {
    /// The revision without the request.
    pub revision: Revision,
    pub request: RuleRequest,
    #[serde(default, skip_serializing_if = "super::answer::is_false")]
    pub dry_run: bool,
}

/// The answer to a rule: that it stands, or that it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Written {
    Asked(Box<RequestAnswer>),
    Stands(Box<super::answer::RuleAnswer>),
}

/// Whether somebody may do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum May {
    Yes,
    /// Not by themselves: somebody else has to accept it.
    Ask,
    No,
}

/// The answer to "may I?".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MayAnswer {
    pub may: May,
    /// The answer as a sentence.
    pub text: String,
}

impl FromStr for RequestId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let digits = text
            .strip_prefix('q')
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0'));
        let remedy = "use an id as `netpol requests` shows it, like `q12`";
        let number = digits.and_then(|digits| digits.parse().ok());
        number.map(Self).ok_or_else(|| Invalid::new(text, "is not a request's id", remedy))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("q{}", self.0))
    }
}

text_serde!(RequestId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_written_as_it_is_read_and_nothing_else_is_one() {
        assert_eq!("q12".parse(), Ok(RequestId(12)));
        assert_eq!(RequestId(12).to_string(), "q12");
        for text in ["", "q", "12", "r12", "q0", "q01", "q-1", "q4294967296"] {
            assert!(text.parse::<RequestId>().is_err(), "{text} was taken");
        }
    }
}
