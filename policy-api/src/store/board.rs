//! What processes that serve one store tell each other about nodes: soft, gone with the process that told it, and no part
//! of what the store keeps.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::error::DatabaseError;
use crate::model::{InvalidField, NodeName, Report, Revision, Timestamp};

/// What one process knows of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sighting {
    /// Whether the node has a watch open there.
    pub connected: bool,
    /// What the node said there last, and when.
    pub report: Option<(Report, Timestamp)>,
    /// What the node was told there and has not acknowledged; unknown until it has acknowledged where its watch began.
    pub owes: Option<Owes>,
    /// What a revision changes for whom is known there up to this one. Of the process, and no part of what is put up for a node.
    pub planned: Revision,
}

/// What a node was told and has not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Owes {
    Nothing,
    /// This revision, and those after it that change something for it.
    From(Revision),
}

/// Where sightings are put up for other processes to see.
pub trait Board: Send + Sync {
    /// Puts up what we know of a node now, in place of what we knew. Returns at once; others see it soon.
    fn post(&self, node: &NodeName, sighting: Sighting);

    /// Puts up that it is known what this revision changes for whom, behind everything that was posted before.
    fn post_planned(&self, revision: Revision);

    /// What others know of a node.
    fn others(&self, node: &NodeName) -> Vec<Sighting>;

    /// Sent to when others' sightings change.
    fn changed(&self) -> watch::Sender<()>;
}

impl Sighting {
    /// Whether it tells more than the time at which a node said again what it had said before.
    pub(super) fn is_news_after(&self, before: &Self) -> bool {
        let said = |sighting: &Self| sighting.report.as_ref().map(|(report, _)| report.clone());
        self.connected != before.connected || self.owes != before.owes || said(self) != said(before)
    }

    /// The last revision that is in force on the node, as far as the process knows.
    pub fn in_force(&self) -> Option<Revision> {
        let reported = self.report.as_ref()?.0.applied;
        Some(reported.max(match self.owes {
            None => reported,
            Some(Owes::Nothing) => self.planned,
            Some(Owes::From(first)) => Revision(first.0.saturating_sub(1)),
        }))
    }

    pub(super) fn to_json(&self) -> Result<Vec<u8>, DatabaseError> {
        let report = self.report.as_ref().map(|(report, at)| json!({ "said": report, "at": at }));
        Ok(serde_json::to_vec(&json!({ "connected": self.connected, "report": report, "owes": self.owes }))?)
    }

    pub(super) fn of_json(bytes: &[u8]) -> Result<Self, DatabaseError> {
        let value: Value = serde_json::from_slice(bytes)?;
        let damaged = |invalid: InvalidField| DatabaseError::Damaged(invalid.to_string());
        let report = match &value["report"] {
            Value::Null => None,
            report => {
                let said = Report::from_json(report["said"].clone()).map_err(damaged)?;
                Some((said, serde_json::from_value(report["at"].clone())?))
            }
        };
        let owes = serde_json::from_value(value["owes"].clone())?;
        Ok(Self { connected: value["connected"] == true, report, owes, planned: Revision::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Cut;

    fn sighting(connected: bool) -> Sighting {
        let cut = Cut { after: Revision(3), applied: Revision(7), flows: 2 };
        let report = Report {
            history: "00ff00ff00ff00ff".parse().expect("history"),
            applied: Revision(7),
            ready: true,
            rows_used: 1,
            rows_capacity: 9,
            detail: Some("well".to_owned()),
            clock: None,
            cuts: vec![cut],
        };
        let owes = Some(Owes::From(Revision(9)));
        Sighting { connected, report: Some((report, Timestamp::now())), owes, planned: Revision::default() }
    }

    #[test]
    fn what_changes_nothing_for_a_node_is_in_force_there_as_soon_as_that_is_known() {
        let owing = sighting(true);
        assert_eq!(owing.in_force(), Some(Revision(8)));
        let nothing = Sighting { owes: Some(Owes::Nothing), planned: Revision(12), ..owing.clone() };
        assert_eq!(nothing.in_force(), Some(Revision(12)));
        let unknown = Sighting { owes: None, planned: Revision(12), ..owing };
        assert_eq!(unknown.in_force(), Some(Revision(7)), "only what it says itself");
        assert_eq!(Sighting { owes: Some(Owes::Nothing), report: None, ..unknown }.in_force(), None);
    }

    #[test]
    fn a_sighting_is_read_as_it_was_written() {
        for sighting in [sighting(true), sighting(false), Sighting::default()] {
            let read = Sighting::of_json(&sighting.to_json().expect("JSON")).expect("a sighting");
            assert!(!read.is_news_after(&sighting) && read.connected == sighting.connected);
        }
        assert!(sighting(true).is_news_after(&sighting(false)));
        assert!(Sighting::of_json(b"{\"report\":{}}").is_err());
    }
}
