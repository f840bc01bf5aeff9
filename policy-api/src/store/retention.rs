//! How much is kept of what was.

use std::time::Duration;

use super::chain::Tip;
use crate::model::Timestamp;

/// For how long, and up to how much, the store keeps what is past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Who had an address, after he gave it up.
    pub owners: Duration,
    /// Entries of the history.
    pub history: Duration,
    /// Bytes of entries of the history.
    pub history_bytes: u64,
}

impl Default for Retention {
    /// Longer than a year's audit asks for; in bytes, what etcd has room for.
    fn default() -> Self {
        const LONG: Duration = Duration::from_secs(400 * 24 * 3600);
        Self { owners: LONG, history: LONG, history_bytes: 512 << 20 }
    }
}

/// What of the history is too old, or too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    /// What was written before this is too old.
    pub(super) before: Timestamp,
    pub(super) most_bytes: u64,
}

impl Limit {
    /// Whether what lies between these places is to go; `end` is the end of the journal.
    pub(super) fn passes(&self, before: Tip, after: Tip, end: Tip) -> bool {
        let is_too_old = after.latest.is_some_and(|latest| latest < self.before);
        is_too_old || end.bytes.saturating_sub(before.bytes) > self.most_bytes
    }
}
