//! What the store asks of whatever keeps it: one order of transactions, durable when they are answered.
//!
//! An engine keeps what it is given and tells what others gave it; what changes mean is the business of [`super::plan`]
//! and [`super::state`].

use std::{net::IpAddr, ops::RangeInclusive, sync::Arc};

use tokio::sync::Notify;

use super::{
    Owners,
    board::Board,
    chain::{Line, Tip},
    delta::Ring,
    error::DatabaseError,
    principal::Principal,
    retention::Limit,
    state::{Head, State},
    usage::{Count, Unwritten},
};
use crate::model::{AppPattern, Change, History, HistoryEntry, NodeName, Revision, RuleId, Timestamp};

/// An open store: what writes it, what looks things up beside the writer, and what it held.
pub(super) struct Opened {
    pub(super) engine: Box<dyn Engine>,
    pub(super) lookup: Arc<dyn Lookup>,
    /// Where other processes see what we see; none, where there are no others.
    pub(super) board: Option<Arc<dyn Board>>,
    pub(super) loaded: Loaded,
    pub(super) usage: Vec<(NodeName, RuleId, Count)>,
    pub(super) names: Vec<String>,
}

/// What stands, and the last revisions that led there.
pub(super) struct Loaded {
    pub(super) state: State,
    pub(super) ring: Ring,
}

/// What one transaction makes durable, all or nothing.
pub(super) struct Batch {
    pub(super) time: Timestamp,
    /// Revisions, of which each has a line.
    pub(super) entries: Vec<Entry>,
    /// What goes into the journal, in order.
    pub(super) lines: Vec<Line>,
    pub(super) capacities: Vec<(NodeName, u64)>,
    pub(super) answers: Vec<(AnswerKey, GivenAnswer)>,
}

/// One revision.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) revision: Revision,
    pub(super) time: Timestamp,
    pub(super) changes: Vec<Change>,
    /// The changes as JSON, written once.
    pub(super) json: String,
}

/// Whose key an answer was given under.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct AnswerKey {
    pub(super) who: String,
    pub(super) key: String,
}

/// An answer that was given under an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GivenAnswer {
    pub(super) request: Vec<u8>,
    pub(super) answer: String,
}

/// What came of a transaction that was to follow the last one that its planner knew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is durable, and nobody came before it.
    Done,
    /// Somebody else came before it; nothing was written. Follow, and plan again.
    Behind,
}

/// What others did, in order.
pub(super) enum Heard {
    Commit {
        entries: Vec<Entry>,
        /// The end of the journal with it.
        tip: Tip,
        capacities: Vec<(NodeName, u64)>,
    },
    Usage(NodeName, RuleId, Count),
    /// What led from what we know to this is not known any more.
    Anew(Box<Loaded>),
}

/// Belongs to the writer's thread; its calls may wait for the disk or the network.
pub(super) trait Engine: Send {
    /// How many effects, as [`Batch::effects`] counts them, one transaction takes.
    fn room(&self) -> usize;

    /// The answers that were given under these keys.
    fn given_answers(&mut self, keys: &[AnswerKey]) -> Result<Vec<Option<GivenAnswer>>, DatabaseError>;

    /// Makes the batch durable behind the last commit that was answered or heard. `head` is how the state ends with it.
    /// An empty batch asks only whether that commit is still the last.
    fn commit(&mut self, batch: &Batch, head: Head) -> Result<Outcome, DatabaseError>;

    /// Rings when there is something to hear; never, where nobody else can write.
    fn bell(&self) -> Arc<Notify>;

    /// What others did since the last time. After [`Outcome::Behind`] that is at least what came before us.
    fn heard(&mut self) -> Result<Vec<Heard>, DatabaseError>;

    fn write_usage(&mut self, unwritten: &Unwritten) -> Result<(), DatabaseError>;

    /// Forgets who had addresses that were given up before this; returns how many intervals.
    fn forget_owners(&mut self, before: Timestamp) -> Result<usize, DatabaseError>;

    /// Forgets the oldest entries of the history that are beyond the limit; returns how many. Some may go another time.
    fn forget_history(&mut self, limit: &Limit) -> Result<u64, DatabaseError>;

    /// Makes room of what nobody needs any more. Called while there is nothing else to do.
    fn tidy(&mut self, state: &State) -> Result<(), DatabaseError>;

    /// Whether others' commits reach us.
    fn is_following(&self) -> bool;

    /// Whether it is known to take writes again, after one failed.
    fn has_recovered(&mut self) -> bool;
}

/// In which order lines of the journal are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    OldestFirst,
    NewestFirst,
}

/// What grows from entry to entry of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) revision: Revision,
    pub(super) latest: Timestamp,
}

impl Mark {
    pub(super) fn of(entry: &HistoryEntry) -> Self {
        Self { revision: entry.revision, latest: entry.latest() }
    }

    /// Of the entry that a place is behind, if it is behind any.
    pub(super) fn behind(tip: &Tip) -> Option<Self> {
        tip.latest.map(|latest| Self { revision: tip.revision, latest })
    }
}

/// The journal, read beside the writer, from any thread. Waits for the disk or the network.
pub(super) trait Journal: Send + Sync {
    /// Where what is kept begins, and where it ends.
    fn bounds(&self) -> Result<(Tip, Tip), DatabaseError>;

    /// Lines with these numbers, at most so many, and fewer where they are large; none only where there are none.
    fn lines(&self, numbers: RangeInclusive<u64>, order: Order, most: usize) -> Result<Vec<Line>, DatabaseError>;

    /// The first entry of which this holds, as it does of all that follow.
    fn first(&self, holds: &dyn Fn(Mark) -> bool) -> Result<Option<HistoryEntry>, DatabaseError>;
}

/// What is looked up beside the writer, from any thread.
pub(super) trait Lookup: Journal {
    /// Who had an address at one time. Waits for the disk or the network.
    fn owners(&self, address: IpAddr, at: Timestamp) -> Result<Owners, DatabaseError>;

    /// Histories whose followers may go over to this store's.
    fn succeeds(&self) -> Result<Vec<History>, DatabaseError>;

    /// Who has the token with this hash.
    fn principal(&self, hash: &[u8; 32]) -> Result<Option<Principal>, DatabaseError>;

    /// Lets nobody in any more as this node by a token.
    fn void_token(&self, node: &NodeName) -> Result<(), DatabaseError>;
}

/// What `netpol-api init` does to a store beside whoever serves it.
pub(super) trait Registry {
    fn principal(&self, hash: &[u8; 32]) -> Result<Option<Principal>, DatabaseError>;

    /// The apps that a node's token is good for, if it has one.
    fn apps_of(&self, node: &NodeName) -> Result<Option<Vec<AppPattern>>, DatabaseError>;

    /// Lets the bearer of this token in as this one, and no bearer of an earlier one.
    fn set_token(&self, hash: &[u8; 32], principal: &Principal) -> Result<(), DatabaseError>;

    /// Names and addresses that the server's certificate is made for, beyond those of its command line.
    fn names(&self) -> Result<Vec<String>, DatabaseError>;

    fn set_names(&self, names: &[String]) -> Result<(), DatabaseError>;
}

impl Batch {
    pub(super) fn new(time: Timestamp) -> Self {
        Self { time, entries: Vec::new(), lines: Vec::new(), capacities: Vec::new(), answers: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.capacities.is_empty() && self.answers.is_empty()
    }

    /// What an engine may have to write one by one: answers, and of each address how one's ownership ends and another's
    /// begins.
    pub(super) fn effects(&self) -> usize {
        let changes = self.entries.iter().flat_map(|entry| &entry.changes);
        let owned = |change: &&Change| matches!(change, Change::PutBinding { .. } | Change::DeleteBinding { .. });
        self.answers.len() + 3 * changes.filter(owned).count()
    }
}
