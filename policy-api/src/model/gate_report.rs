//! What gatekeepers report of their decisions, for the history. What callers of a gatekeeper chose (paths, methods) is cut to
//! what is kept for good.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    fields::Fields,
    invalid::{Invalid, InvalidField, text_serde},
    time::Timestamp,
};
use crate::model::{Privilege, ResourceId};

/// What a gatekeeper decided since its report before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GateReport {
    pub resource: ResourceId,
    pub decisions: Vec<Decision>,
    /// Decisions that it could not keep until now.
    pub lost: u64,
}

/// One decision, or several that are alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// By the gatekeeper's clock; of several, the last one.
    pub at: Timestamp,
    /// Who asked, as the authority that decided calls them; absent: nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Absent: it did not come to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privilege: Option<Privilege>,
    pub method: String,
    pub path: String,
    pub verdict: GateVerdict,
    pub reason: String,
    /// What the asker was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// How many it stands for.
    pub count: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GateVerdict {
    Allow,
    Deny,
}

/// What an entry of the history says of a gatekeeper: one decision, or how many were lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateNote {
    pub resource: ResourceId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// So much is kept of what a caller chose.
const LONGEST: usize = 256;
/// So many numbers that are exact wherever JSON is read.
const MOST: u64 = 1 << 53;

impl GateReport {
    /// Decisions in one report.
    pub const MOST_DECISIONS: usize = 100;

    /// Takes a request's body apart.
    pub fn from_json(value: Value) -> Result<Self, InvalidField> {
        let mut fields = Fields::of_body(value)?;
        let resource = fields.required("resource", "name the resource that the gatekeeper stands before")?;
        let path = fields.path("decisions");
        let items = fields.list("decisions")?.unwrap_or_default();
        let lost = fields.number("lost", MOST)?.unwrap_or(0);
        fields.finish()?;
        if items.len() > Self::MOST_DECISIONS {
            let remedy = format!("send at most {} at a time", Self::MOST_DECISIONS);
            return Err(Invalid::of("the list", "is too long", remedy).in_field(path));
        }
        let decision = |(i, item)| Decision::from_fields(Fields::at(format!("{path}[{i}]"), item)?);
        let decisions = items.into_iter().enumerate().map(decision).collect::<Result<_, _>>()?;
        Ok(Self { resource, decisions, lost })
    }

    /// What it becomes in the history, each a line.
    pub fn notes(&self) -> impl Iterator<Item = GateNote> {
        let note = |decision, lost| GateNote { resource: self.resource.clone(), decision, lost };
        let decisions = self.decisions.iter().map(move |decision| note(Some(decision.clone()), 0));
        decisions.chain((self.lost > 0).then(|| note(None, self.lost)))
    }
}

impl Decision {
    fn from_fields(mut fields: Fields) -> Result<Self, InvalidField> {
        let status = fields.number("status", 999)?;
        let text = |fields: &mut Fields, name| Ok(fields.text(name)?.map(|text| shown(&text)));
        let decision = Self {
            at: fields.required("at", "say when")?,
            subject: text(&mut fields, "subject")?,
            privilege: fields.parsed("privilege")?,
            method: text(&mut fields, "method")?.ok_or_else(|| fields.missing("method", "say what was asked"))?,
            path: text(&mut fields, "path")?.ok_or_else(|| fields.missing("path", "say what was asked"))?,
            verdict: fields.required("verdict", "use `allow` or `deny`")?,
            reason: text(&mut fields, "reason")?.unwrap_or_default(),
            status,
            request_id: text(&mut fields, "request_id")?,
            count: fields.number("count", MOST)?.unwrap_or(1).max(1),
        };
        fields.finish()?;
        Ok(decision)
    }
}

/// A text that callers chose, as it is kept: short, and without what a terminal would obey.
fn shown(text: &str) -> String {
    text.chars().take(LONGEST).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

impl GateNote {
    pub fn is_about(&self, subject: &str) -> bool {
        self.decision.as_ref().is_some_and(|decision| decision.subject.as_deref() == Some(subject))
    }
}

impl fmt::Display for GateNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(decision) = &self.decision else {
            return write!(f, "{}: {} decisions were not told", self.resource, self.lost);
        };
        let Decision { subject, privilege, method, path, verdict, reason, status, count, .. } = decision;
        let subject = subject.as_deref().unwrap_or("nobody known");
        let verdict = match verdict {
            GateVerdict::Allow => "allowed",
            GateVerdict::Deny => "denied",
        };
        write!(f, "{}: {method} {path} by {subject} {verdict}", self.resource)?;
        if let Some(privilege) = privilege {
            write!(f, ", privilege {privilege}")?;
        }
        if !reason.is_empty() {
            write!(f, ": {reason}")?;
        }
        if let Some(status) = status {
            write!(f, "; status {status}")?;
        }
        if *count > 1 { write!(f, "; {count} times") } else { Ok(()) }
    }
}

impl GateVerdict {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

impl fmt::Display for GateVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for GateVerdict {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "allow" => Ok(Self::Allow),
            "deny" => Ok(Self::Deny),
            _ => Err(Invalid::new(text, "is not a verdict", "use `allow` or `deny`")),
        }
    }
}

text_serde!(GateVerdict);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn decision() -> Value {
        json!({"at": "2026-01-31T12:00:00.000Z", "subject": "host:ci-1", "privilege": "delete", "method": "DELETE",
            "path": "/releases/7", "verdict": "deny", "reason": "no role gives it", "status": 403, "request_id": "a1",
            "count": 3})
    }

    #[test]
    fn a_report_is_told_line_by_line() {
        let report = json!({"resource": "production/release-bot", "decisions": [decision()], "lost": 2});
        let report = GateReport::from_json(report).expect("a report");
        let told: Vec<String> = report.notes().map(|note| note.to_string()).collect();
        assert_eq!(
            told,
            [
                "production/release-bot: DELETE /releases/7 by host:ci-1 denied, privilege delete: no role gives it; status 403; 3 times",
                "production/release-bot: 2 decisions were not told",
            ]
        );
        let again = GateReport::from_json(serde_json::to_value(&report).expect("json"));
        assert_eq!(again, Ok(report));
    }

    #[test]
    fn what_a_caller_chose_is_kept_short_and_harmless() {
        let mut decision = decision();
        decision["path"] = json!(format!("/\u{1b}[2J{}", "x".repeat(5_000)));
        let report = json!({"resource": "a", "decisions": [decision]});
        let report = GateReport::from_json(report).expect("a report");
        let path = &report.decisions[0].path;
        assert!(path.chars().count() == LONGEST && !path.contains('\u{1b}'), "{path}");
    }

    #[test]
    fn a_report_that_makes_no_sense_is_refused_naming_the_field() {
        let with = |name: &str, value: Value| {
            let mut decision = decision();
            decision[name] = value;
            json!({"resource": "a", "decisions": [decision]})
        };
        let many: Vec<Value> = (0..=GateReport::MOST_DECISIONS).map(|_| decision()).collect();
        let cases = [
            (json!({"decisions": []}), "resource"),
            (json!({"resource": "a", "decisions": many}), "decisions"),
            (json!({"resource": "a", "lost": -1}), "lost"),
            (with("verdict", json!("maybe")), "decisions[0].verdict"),
            (with("privilege", json!("READ")), "decisions[0].privilege"),
            (with("at", json!("yesterday")), "decisions[0].at"),
            (with("status", json!(1_000)), "decisions[0].status"),
            (with("token", json!("secret")), "decisions[0].token"),
        ];
        for (request, field) in cases {
            assert_eq!(GateReport::from_json(request).expect_err(field).field, field);
        }
    }
}
