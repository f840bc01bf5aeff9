//! Everything that a store holds, to be put into one of another kind.

use super::{state::Head, usage::Count};
use crate::model::{Change, History, NodeName, Overlay, Owned, Revision, RuleId, Timestamp};

pub(super) struct Contents {
    pub(super) history: History,
    pub(super) overlay: Overlay,
    pub(super) head: Head,
    pub(super) items: Vec<Change>,
    pub(super) capacities: Vec<(NodeName, u64)>,
    pub(super) usage: Vec<(NodeName, RuleId, Count)>,
    pub(super) names: Vec<String>,
    pub(super) tokens: Vec<Bearer>,
    pub(super) owners: Vec<Interval>,
    /// The last revisions; an engine may keep fewer of them than another one does.
    pub(super) journal: Vec<Written>,
    /// Histories whose followers may go over to this one, and those that it had before.
    pub(super) succeeds: Vec<History>,
    pub(super) came_from: Vec<History>,
}

/// Who has a token.
pub(super) struct Bearer {
    pub(super) hash: Vec<u8>,
    pub(super) name: String,
    pub(super) apps: Option<String>,
}

/// Who had an address, and the revision that began it.
pub(super) struct Interval {
    pub(super) owned: Owned,
    pub(super) revision: u64,
}

/// One revision, with its changes as JSON.
pub(super) struct Written {
    pub(super) revision: Revision,
    pub(super) time: Timestamp,
    pub(super) who: String,
    pub(super) json: String,
}
