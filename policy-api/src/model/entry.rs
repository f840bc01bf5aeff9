//! An entry of the history: what happened, who did it, from where and why, in an order that cannot be changed unseen.
//!
//! An entry is written once, as one line of JSON, and sealed ([`super::Seal`]).

use std::{collections::HashMap, fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{
    change::Change,
    digest::Digest,
    gate_report::GateNote,
    history::{History, Revision},
    invalid::Invalid,
    name::NodeName,
    rule::Reason,
    time::Timestamp,
};

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryKind {
    /// Rules, apps, groups, isolations, roles, resources: what people want.
    Intent,
    /// Nodes that joined, drain, or were removed.
    Node,
    /// Instances that began and ended.
    Placement,
    /// What somebody had no right to.
    Refused,
    /// Up to which revision everything was in force on every registered node.
    InForce,
    /// The store was put back from a copy.
    Restored,
    /// Keys of the signer that came and went, and revocations that were over.
    Signer,
    /// What gatekeepers decided.
    Gate,
}

impl EntryKind {
    pub const ALL: [Self; 8] = [
        Self::Intent,
        Self::Node,
        Self::Placement,
        Self::Refused,
        Self::InForce,
        Self::Restored,
        Self::Signer,
        Self::Gate,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Node => "node",
            Self::Placement => "placement",
            Self::Refused => "refused",
            Self::InForce => "in-force",
            Self::Restored => "restored",
            Self::Signer => "signer",
            Self::Gate => "gate",
        }
    }

    /// Whether it is shown where nobody says what to show. What the machines do by themselves would drown the rest.
    pub fn is_shown_unasked(self) -> bool {
        match self {
            Self::Intent | Self::Node | Self::Refused | Self::Restored | Self::Gate => true,
            Self::Placement | Self::InForce | Self::Signer => false,
        }
    }

    /// Of the changes of one revision.
    pub fn of(changes: &[Change]) -> Self {
        let any = |is: fn(&Change) -> bool| changes.iter().any(is);
        if any(is_intent) {
            return Self::Intent;
        }
        if any(|change| matches!(change, Change::PutNode { .. } | Change::DeleteNode { .. })) {
            return Self::Node;
        }
        // An app comes to be with its first instance, too.
        if any(|change| matches!(change, Change::PutBinding { .. } | Change::DeleteBinding { .. })) {
            return Self::Placement;
        }
        let is_of_signer = |change: &Change| {
            matches!(
                change,
                Change::PutSignerKey { .. } | Change::DeleteSignerKey { .. } | Change::DeleteRevocation { .. }
            )
        };
        if any(is_of_signer) { Self::Signer } else { Self::Intent }
    }
}

fn is_intent(change: &Change) -> bool {
    match change {
        Change::PutRule { .. }
        | Change::DeleteRule { .. }
        | Change::PutGroup { .. }
        | Change::DeleteGroup { .. }
        | Change::PutIsolation { .. }
        | Change::DeleteIsolation { .. }
        | Change::PutTeam { .. }
        | Change::DeleteTeam { .. }
        | Change::PutToken { .. }
        | Change::DeleteToken { .. }
        | Change::PutRequest { .. }
        | Change::DeleteRequest { .. }
        | Change::PutLayer { .. }
        | Change::DeleteLayer { .. }
        | Change::PutRole { .. }
        | Change::DeleteRole { .. }
        | Change::PutResource { .. }
        | Change::DeleteResource { .. }
        | Change::PutRevocation { .. }
        | Change::DeleteApp { .. } => true,
        Change::PutApp { .. }
        | Change::PutNode { .. }
        | Change::DeleteNode { .. }
        | Change::PutBinding { .. }
        | Change::DeleteBinding { .. }
        | Change::PutSignerKey { .. }
        | Change::DeleteSignerKey { .. }
        // It ends by itself and changes nothing by that.
        | Change::DeleteRevocation { .. } => false,
    }
}

impl fmt::Display for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for EntryKind {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let remedy = "use `intent`, `node`, `placement`, `refused`, `in-force`, `restored`, `signer` or `gate`";
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| Invalid::new(text, "is not a kind of entry", remedy))
    }
}

/// Where a request came from, and why it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    pub from: Option<IpAddr>,
    /// What the request is called in logs.
    pub request: Option<String>,
    pub reason: Option<Reason>,
}

/// One entry, as it is written and sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// Its place: ascending, without gaps, never used again.
    pub number: u64,
    pub time: Timestamp,
    /// The latest time of an entry before it, where its own is earlier: the clock was set back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest: Option<Timestamp>,
    pub kind: EntryKind,
    /// The revision that it made, or that was the last one when it was written.
    pub revision: Revision,
    pub who: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
    /// What the changed items were before, of those that were.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<Change>,
    /// Of everything that stands after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Attempt>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_force: Option<Spread>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<Restored>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<GateNote>,
}

/// What somebody tried and had no right to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub method: String,
    pub path: String,
    /// What the asker was told.
    pub detail: String,
    /// How often that caller was refused since its entry before; where it is more than once, the rest says what came last.
    pub count: u64,
}

/// Everything up to a revision was in force on every registered node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    pub revision: Revision,
    /// How many nodes were registered.
    pub nodes: u64,
    /// What single nodes took, of those for which it changed something, as far as no entry before says it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken: Vec<Taken>,
}

/// A node had what certain revisions change for it in force by some time, of the policy API's clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    pub node: NodeName,
    pub first: Revision,
    pub last: Revision,
    pub at: Timestamp,
}

/// Which history goes on as which.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    pub from: History,
    pub to: History,
}

impl HistoryEntry {
    /// An empty entry of this kind, to be filled, numbered and sealed.
    pub fn new(kind: EntryKind, who: &str, time: Timestamp, revision: Revision) -> Self {
        Self {
            number: 0,
            time,
            latest: None,
            kind,
            revision,
            who: who.to_owned(),
            from: None,
            request: None,
            reason: None,
            changes: Vec::new(),
            before: Vec::new(),
            digest: None,
            refused: None,
            in_force: None,
            restored: None,
            gate: None,
        }
    }

    /// The same, of a request that came from there.
    #[must_use]
    pub fn by(self, origin: &Origin) -> Self {
        Self { from: origin.from, request: origin.request.clone(), reason: origin.reason.clone(), ..self }
    }

    /// Whether it made a revision.
    pub fn is_revision(&self) -> bool {
        !self.changes.is_empty()
    }

    /// The latest time of all entries up to this.
    pub fn latest(&self) -> Timestamp {
        self.latest.unwrap_or(self.time)
    }

    /// What others are told of it: hashes of tokens and keys are kept for whoever serves the store, and sealed with it.
    pub fn without_secrets(mut self) -> Self {
        for change in self.changes.iter_mut().chain(&mut self.before) {
            *change = change.without_secrets().into_owned();
        }
        self
    }

    /// What leads from after it to before it.
    pub fn undoing(&self) -> Vec<Change> {
        let before: HashMap<_, _> = self.before.iter().map(|before| (before.key(), before)).collect();
        let undo = |change: &Change| {
            let key = change.key();
            before.get(&key).map_or_else(|| key.deletion(), |before| Change::clone(before))
        };
        self.changes.iter().rev().map(undo).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_want_is_told_apart_from_what_machines_do() {
        let changes = |text: &str| serde_json::from_str::<Vec<Change>>(text).expect("changes");
        let app = r#"{"kind":"put_app","app":{"name":"web","identity":256,"revision":7}}"#;
        let gone = r#"{"kind":"delete_binding","address":"10.255.1.7"}"#;
        let node = r#"{"kind":"delete_node","name":"n1"}"#;
        let rule = r#"{"kind":"delete_rule","id":"r1"}"#;
        for (list, kind) in [
            (format!("[{app},{gone}]"), EntryKind::Placement),
            (format!("[{app}]"), EntryKind::Intent),
            (format!("[{gone},{node}]"), EntryKind::Node),
            (format!("[{app},{rule},{gone}]"), EntryKind::Intent),
        ] {
            assert_eq!(EntryKind::of(&changes(&list)), kind, "{list}");
        }
    }
}
