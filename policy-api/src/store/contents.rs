//! Everything that a store holds, to be put into one of another kind.

use super::{
    chain::{Line, Tip},
    state::Head,
    usage::Count,
};
use crate::model::{Change, History, NodeName, Overlay, Owned, RuleId};

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
    /// What is kept of the journal, and where that begins.
    pub(super) anchor: Tip,
    pub(super) journal: Vec<Line>,
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
