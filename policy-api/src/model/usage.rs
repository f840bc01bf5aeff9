//! What rules are used for: counts that nodes keep and the API sums.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    fields::Fields,
    invalid::{Invalid, InvalidField},
    rule::{Rule, RuleId},
    time::Timestamp,
};

/// What passed, or was refused, by a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Usage {
    pub packets: u64,
    pub bytes: u64,
    /// Flows that it decided about.
    pub flows: u64,
    /// Flows that live by it, as connected nodes counted them in the last ten seconds.
    #[serde(default, skip_serializing_if = "is_none")]
    pub live: u64,
    /// When it last decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_hit: Option<Timestamp>,
}

impl Usage {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            packets: self.packets.saturating_add(other.packets),
            bytes: self.bytes.saturating_add(other.bytes),
            flows: self.flows.saturating_add(other.flows),
            live: self.live.saturating_add(other.live),
            last_hit: self.last_hit.max(other.last_hit),
        }
    }

    /// The later of two counts of the same thing, which is the other one: counts never fall, but what lives ends.
    #[must_use]
    pub fn later(self, other: Self) -> Self {
        Self {
            packets: self.packets.max(other.packets),
            bytes: self.bytes.max(other.bytes),
            flows: self.flows.max(other.flows),
            live: other.live,
            last_hit: self.last_hit.max(other.last_hit),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_none(count: &u64) -> bool {
    *count == 0
}

/// A rule and what it is used for, summed over all nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct RuleView {
    #[serde(flatten)]
    pub rule: Rule,
    #[serde(default)]
    pub usage: Usage,
}

/// What one node has counted, of rules that it began to count at one time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UsageReport {
    /// Since when it has been counting these. What it counted before a later `since` is added to what it counts from then on.
    pub since: Timestamp,
    /// The totals since then. A rule that is left out stays as it was.
    pub rules: Vec<RuleUsage>,
}

/// One rule's part of a [`UsageReport`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RuleUsage {
    pub id: RuleId,
    #[serde(flatten)]
    pub usage: Usage,
}

impl UsageReport {
    /// Takes a request's body apart.
    pub fn from_json(value: Value) -> Result<Self, InvalidField> {
        let mut fields = Fields::of_body(value)?;
        let since = fields.required("since", "say since when the node has counted, like `2026-01-31T12:00:00Z`")?;
        let list = fields.list("rules")?.ok_or_else(|| fields.missing("rules", "list what the node has counted"))?;
        fields.finish()?;
        let rule = |(i, value)| RuleUsage::from_fields(Fields::at(format!("rules[{i}]"), value)?);
        let rules: Vec<RuleUsage> = list.into_iter().enumerate().map(rule).collect::<Result<_, _>>()?;
        let mut ids: Vec<RuleId> = rules.iter().map(|rule| rule.id).collect();
        ids.sort_unstable();
        match ids.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(twice) => {
                Err(Invalid::new(twice[0], "appears twice", "give one total for each rule").in_field("rules"))
            }
            None => Ok(Self { since, rules }),
        }
    }
}

impl RuleUsage {
    fn from_fields(mut fields: Fields) -> Result<Self, InvalidField> {
        let id = fields.required("id", "name the rule, like `r12`")?;
        let [packets, bytes, flows] = ["packets", "bytes", "flows"].map(|name| count(&mut fields, name));
        let live = fields.number("live", MOST)?.unwrap_or(0);
        let last_hit = fields.parsed("last_hit")?;
        let usage = Usage { packets: packets?, bytes: bytes?, flows: flows?, live, last_hit };
        fields.finish()?;
        Ok(Self { id, usage })
    }
}

/// What a column of a database and a number of JavaScript can both hold is more than anybody counts.
const MOST: u64 = (1 << 53) - 1;

fn count(fields: &mut Fields, name: &'static str) -> Result<u64, InvalidField> {
    fields.number(name, MOST)?.ok_or_else(|| fields.missing(name, "give a whole number"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_report_reads_back_what_it_wrote() {
        let usage = Usage { packets: 3, bytes: 180, flows: 1, live: 1, last_hit: Some(Timestamp::now()) };
        let report = UsageReport { since: Timestamp::now(), rules: vec![RuleUsage { id: RuleId(7), usage }] };
        assert_eq!(UsageReport::from_json(serde_json::to_value(&report).expect("json")), Ok(report));
    }

    #[test]
    fn a_report_that_makes_no_sense_is_refused_naming_the_field() {
        let since = "2026-01-31T12:00:00Z";
        let good = json!({"id": "r1", "packets": 1, "bytes": 2, "flows": 1});
        let with = |member: &str, value: Value| {
            let mut rule = good.clone();
            rule[member] = value;
            rule
        };
        let cases = [
            (json!({"rules": []}), "since"),
            (json!({"since": since}), "rules"),
            (json!({"since": since, "rules": [good, good]}), "rules"),
            (json!({"since": since, "rules": [with("id", json!("7"))]}), "rules[0].id"),
            (json!({"since": since, "rules": [good, with("bytes", json!(-1))]}), "rules[1].bytes"),
            (json!({"since": since, "rules": [with("last_hit", json!(7))]}), "rules[0].last_hit"),
            (json!({"since": since, "rules": [with("hits", json!(7))]}), "rules[0].hits"),
            (json!({"since": since, "rules": [{"id": "r1", "packets": 1, "bytes": 2}]}), "rules[0].flows"),
        ];
        for (request, field) in cases {
            assert_eq!(UsageReport::from_json(request).expect_err(field).field, field);
        }
    }
}
