//! The store: one order of all changes, durable before anybody hears of them.
//!
//! Writes go to one thread ([`writer`]) that plans, commits and publishes them; reads look at the published state in
//! memory; a watch subscribes and reads its beginning under the same lock, so nothing falls between the two. Knows no HTTP.

mod backup;
mod birth;
mod board;
mod chain;
mod chronicle;
mod contents;
mod delta;
mod engine;
mod error;
mod etcd;
mod location;
mod note;
mod numbers;
mod owners;
mod past;
mod plan;
mod principal;
mod refusal;
mod retention;
mod rights;
mod sqlite;
mod state;
mod token;
mod usage;
mod writer;

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::{Notify, broadcast, mpsc, oneshot};

use self::{
    chain::Tip,
    delta::Ring,
    engine::{Entry, Loaded, Lookup, Opened},
    note::Notes,
    past::Past,
    usage::Counts,
    writer::{Job, Writer},
};
use crate::model::{
    At, Attempt, Change, Digest, GateNote, History, HistoryQuery, Key, KnownSeal, NodeName, Origin, Revision, RuleId,
    Spread, Timestamp, Usage, UsageReport, Verified,
};

pub use self::{
    backup::{BackupError, Copied, accept, back_up, restore},
    birth::{OverlayWish, Prepared, longest_overlay, prepare},
    board::{Board, Owes, Sighting},
    chronicle::{HistoryPage, Listing, verify_store},
    delta::Delta,
    error::DatabaseError,
    location::Location,
    owners::Owners,
    plan::{Answer, Command, Registration},
    principal::{NodeGrant, Principal, User},
    refusal::{Denied, Refusal},
    retention::Retention,
    rights::Rights,
    state::{Instance, Place, State},
    token::{Token, Tokens},
    writer::{Clock, Idempotency, Write},
};

/// An open store.
pub struct Store {
    shared: Arc<Shared>,
    tokens: Tokens,
    jobs: mpsc::Sender<Job>,
    writer: JoinHandle<()>,
    names: Vec<String>,
    lookup: Arc<dyn Lookup>,
    retention: Retention,
    past: Past,
    /// Held by who walks over the whole history: one at a time.
    walking: Mutex<()>,
    /// Of the other processes that may write to it too.
    board: Option<Arc<dyn Board>>,
}

/// How long to wait for a revision that another process may have answered.
const REACH: Duration = Duration::from_secs(3);

/// What the writer shares with readers.
struct Shared {
    published: RwLock<Published>,
    /// Nodes that were removed, or are known by another key now, and tokens that are void.
    expelled: broadcast::Sender<Key>,
    /// Locked after `published`, where both are.
    usage: Mutex<Counts>,
    healthy: AtomicBool,
    /// Whether we hear of what others commit.
    following: AtomicBool,
    commits: AtomicU64,
    revisions: AtomicU64,
    /// What is to be written into the journal besides revisions; who adds to it rings.
    notes: Mutex<Notes>,
    noted: Notify,
}

struct Published {
    state: State,
    ring: Ring,
    /// Beside the state, so that subscribing and reading under one lock leaves no gap.
    deltas: broadcast::Sender<Arc<Delta>>,
}

impl Published {
    fn new(loaded: Loaded) -> Self {
        Self { state: loaded.state, ring: loaded.ring, deltas: broadcast::channel(WATCH_QUEUE).0 }
    }
}

/// Writes that may wait for the writer before askers wait to ask.
const QUEUE: usize = 1024;
/// Deltas that a watch may be behind before it is ended.
const WATCH_QUEUE: usize = 1024;

impl Store {
    /// Opens a store that [`prepare`] made, and becomes its one server.
    pub fn open(location: &Location, wish: OverlayWish) -> Result<Self, DatabaseError> {
        Self::open_keeping(location, wish, Retention::default())
    }

    /// The same, with so much of the past known.
    pub fn open_keeping(location: &Location, wish: OverlayWish, retention: Retention) -> Result<Self, DatabaseError> {
        Self::open_by(location, wish, retention, Arc::new(Timestamp::now))
    }

    /// The same, by another clock than the machine's.
    pub fn open_by(
        location: &Location,
        wish: OverlayWish,
        retention: Retention,
        clock: Clock,
    ) -> Result<Self, DatabaseError> {
        let Opened { engine, lookup, board, loaded, usage, names } = match location {
            Location::Sqlite(path) => sqlite::open(path, wish)?,
            Location::Etcd(cluster) => etcd::open(cluster, wish)?,
        };
        let state = loaded.state.clone();
        let usage = Counts::restored(usage, |rule| state.rule(rule).is_some());
        let shared = Arc::new(Shared {
            published: RwLock::new(Published::new(loaded)),
            expelled: broadcast::channel(WATCH_QUEUE).0,
            usage: Mutex::new(usage),
            healthy: AtomicBool::new(true),
            following: AtomicBool::new(true),
            commits: AtomicU64::new(0),
            revisions: AtomicU64::new(0),
            notes: Mutex::default(),
            noted: Notify::new(),
        });
        let (jobs, receiver) = mpsc::channel(QUEUE);
        let failed = |source| DatabaseError::File { path: "(a thread)".into(), source };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(failed)?;
        let writer = Writer::new(runtime, engine, state, shared.clone(), receiver, retention, clock);
        let spawn = std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || writer.run());
        let writer = spawn.map_err(failed)?;
        let past = Past::new(lookup.clone());
        Ok(Self {
            shared,
            tokens: Tokens(lookup.clone()),
            jobs,
            writer,
            names,
            lookup,
            retention,
            past,
            walking: Mutex::default(),
            board,
        })
    }

    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Voids a node's join token.
    pub fn void_token(&self, node: &NodeName) -> Result<(), DatabaseError> {
        self.tokens.0.void_token(node)
    }

    /// Where other processes that serve this store see what we see, if there may be others.
    pub fn board(&self) -> Option<Arc<dyn Board>> {
        self.board.clone()
    }

    /// Names and addresses that the server's certificate is made for, as `init` was told.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Does a write. When the answer is there, so is the change on disk.
    pub async fn write(&self, write: Write) -> Result<Answer, Refusal> {
        let stopped = || Refusal::Store("the writer has stopped".to_owned());
        let (answer, done) = oneshot::channel();
        self.jobs.send(Job { write, answer }).await.map_err(|_| stopped())?;
        done.await.map_err(|_| stopped())?
    }

    /// Looks at the published state. Writers wait for as long as `look` takes.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.shared.published.read().unwrap_or_else(PoisonError::into_inner).state)
    }

    /// Waits a moment until we know of a revision that another process answered, where there may be one.
    pub async fn reach(&self, revision: Revision) {
        let mut deltas = {
            let published = self.shared.published.read().unwrap_or_else(PoisonError::into_inner);
            if self.board.is_none() || published.state.revision() >= revision {
                return;
            }
            published.deltas.subscribe()
        };
        let reaching = async {
            // Whatever comes or fails to come: what is there in the end is what is answered by.
            while self.read(State::revision) < revision && deltas.recv().await.is_ok() {}
        };
        let _in_time = tokio::time::timeout(REACH, reaching).await;
    }

    /// Who had an address at some time. Reads the disk.
    pub fn owners(&self, address: IpAddr, at: Timestamp) -> Result<Owners, DatabaseError> {
        self.lookup.owners(address, at)
    }

    /// The earliest time of which everything is still known.
    pub fn owners_known_since(&self, now: Timestamp) -> Option<Timestamp> {
        now.before(self.retention.owners)
    }

    /// Everything that stood at some time. Reads the disk, and takes the longer the more came since.
    pub fn past(&self, at: At) -> Result<Arc<State>, Refusal> {
        self.past.state(|| self.shared.state(), at)
    }

    /// A page of the history. Reads the disk.
    pub fn history(&self, query: &HistoryQuery, listing: Listing, limit: usize) -> Result<HistoryPage, DatabaseError> {
        chronicle::page(&*self.lookup, query, listing, limit)
    }

    /// Looks whether the whole history is what was written. Reads all of it.
    pub fn verify_history(&self, known: Option<KnownSeal>) -> Result<Verified, DatabaseError> {
        let _alone = self.walking.lock().unwrap_or_else(PoisonError::into_inner);
        chronicle::verify(&*self.lookup, known)
    }

    /// Writes into the history that somebody had no right to something. Returns when that is durable; at once where he is
    /// refused so often that it is summed up.
    pub async fn note_refusal(&self, who: &str, origin: Origin, attempt: Attempt) {
        let written = self.shared.notes().refused(who, origin, attempt, Instant::now());
        if let Some(written) = written {
            self.shared.noted.notify_one();
            // Where it cannot be written in time he is refused all the same.
            let _in_time = tokio::time::timeout(REACH, written).await;
        }
    }

    /// Writes into the history what a gatekeeper decided. Returns when that is durable.
    pub async fn note_decisions(
        &self,
        who: &str,
        origin: &Origin,
        decisions: impl IntoIterator<Item = GateNote>,
    ) -> Result<(), Refusal> {
        let unwritten = || Refusal::Store("what a gatekeeper decided cannot be written now".to_owned());
        let Some(written) = self.shared.notes().decided(who, origin, decisions) else { return Err(unwritten()) };
        self.shared.noted.notify_one();
        match tokio::time::timeout(REACH, written).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(unwritten()),
        }
    }

    /// Writes into the history what is in force where. Returns at once.
    pub fn note_in_force(&self, spread: Spread) {
        self.shared.notes().in_force(spread);
        self.shared.noted.notify_one();
    }

    /// Takes what a node says that rules are used for there. It reaches the disk within seconds.
    pub fn note_usage(&self, node: &NodeName, report: &UsageReport) -> Result<(), Refusal> {
        self.read(|state| {
            if !state.replica().nodes.contains_key(node) {
                return Err(Refusal::conflict("name", node, "has not joined".to_owned(), "join first"));
            }
            self.shared.usage().tell(node, report, |rule| state.rule(rule).is_some());
            Ok(())
        })
    }

    /// What these rules are used for, on all nodes together; what lives by them, on those that are there.
    pub fn usage(&self, rules: impl IntoIterator<Item = RuleId>, is_there: impl Fn(&NodeName) -> bool) -> Vec<Usage> {
        let counts = self.shared.usage();
        rules.into_iter().map(|rule| counts.of(rule, &is_there)).collect()
    }

    /// Starts a watch behind `since` of that history, or with a snapshot if that place is not known any more.
    pub fn subscribe(&self, since: Option<(Revision, History)>) -> Result<Subscription, AheadOfStore> {
        let succeeds = self.succeeds();
        let published = self.shared.published.read().unwrap_or_else(PoisonError::into_inner);
        let (state, ring) = (&published.state, &published.ring);
        let head = state.revision();
        let known = since.filter(|(revision, history)| *revision > Revision::default() && history == state.history());
        check_place(state, known.as_ref())?;
        let resumed = known.and_then(|(since, _)| ring.behind(since, head));
        Ok(Subscription {
            history: state.history().clone(),
            succeeds,
            revision: head,
            digest: state.replica().digest(),
            start: resumed.map_or_else(|| Start::Snapshot(told(state)), Start::Resume),
            deltas: published.deltas.subscribe(),
        })
    }

    /// What is committed from now on, and what `look` sees of the state that it goes on from.
    pub fn follow<T>(&self, look: impl FnOnce(&State) -> T) -> (T, broadcast::Receiver<Arc<Delta>>) {
        let published = self.shared.published.read().unwrap_or_else(PoisonError::into_inner);
        (look(&published.state), published.deltas.subscribe())
    }

    /// Returns when this node is removed or known by another key, or this token is void: what was begun by it ends.
    pub fn expulsion(&self, of: Key) -> impl Future<Output = ()> + Send + use<> {
        let mut expelled = self.shared.expelled.subscribe();
        async move {
            // One that missed so many that this was lost is as good as expelled: who it was comes back if they may.
            while expelled.recv().await.is_ok_and(|key| key != of) {}
        }
    }

    /// What would come of a command, by what is published: nothing is done.
    pub fn preview(&self, command: &Command, by: &Principal, now: Timestamp) -> Result<Answer, Refusal> {
        self.read(|state| Ok(plan::plan(state, command, by, now, None)?.answer.into_dry_run()))
    }

    /// Histories whose followers may go over to this one. Another process says so, so it is asked each time; where the disk
    /// fails nobody goes over.
    pub fn succeeds(&self) -> Vec<History> {
        self.lookup.succeeds().unwrap_or_default()
    }

    /// Whether what a reader knows can be of this store.
    pub fn check_place(&self, since: Option<&(Revision, History)>) -> Result<(), AheadOfStore> {
        self.read(|state| check_place(state, since))
    }

    /// Whether we know of everything that was committed, but for what was a moment ago.
    pub fn is_following(&self) -> bool {
        self.shared.following.load(Ordering::Relaxed)
    }

    /// Whether the last write could be stored.
    pub fn is_healthy(&self) -> bool {
        self.shared.is_healthy() && !self.writer.is_finished()
    }

    /// Returns if the writer ended by itself, which only a defect can make it do.
    pub async fn stopped(&self) {
        self.jobs.closed().await;
    }

    /// Transactions, and revisions in them, since the start.
    pub fn commits(&self) -> (u64, u64) {
        (self.shared.commits.load(Ordering::Relaxed), self.shared.revisions.load(Ordering::Relaxed))
    }

    /// Finishes what was asked for and closes the file.
    pub fn close(self) {
        drop(self.jobs);
        // A panic of the writer was reported when it happened.
        let _reported = self.writer.join();
    }
}

impl Shared {
    /// Shows what is durable to readers and watches.
    fn publish(&self, entries: Vec<Entry>, tip: Tip, capacities: Vec<(NodeName, u64)>) {
        self.succeeded();
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.revisions.fetch_add(u64::try_from(entries.len()).unwrap_or(0), Ordering::Relaxed);
        let mut published = self.published.write().unwrap_or_else(PoisonError::into_inner);
        let Published { state, ring, deltas } = &mut *published;
        for (node, rows) in capacities {
            state.set_capacity(node, rows);
        }
        for Entry { revision, changes, json, .. } in entries {
            for key in expelled(state, &changes) {
                // Nobody watching is no error.
                let _watchers = self.expelled.send(key);
            }
            let base = state.revision();
            state.apply(revision, &changes);
            self.forget_usage(&changes);
            let digest = Some(state.replica().digest());
            let delta = Delta { changes, ..Delta::new(state.history(), base, revision, digest, &json) };
            let delta = Arc::new(delta);
            ring.push(delta.clone());
            // Nobody watching is no error.
            let _watchers = deltas.send(delta);
        }
        state.set_tip(tip);
    }

    /// Shows another state, to which no deltas lead: whoever watches has to begin anew.
    fn begin_anew(&self, loaded: Loaded) {
        *self.published.write().unwrap_or_else(PoisonError::into_inner) = Published::new(loaded);
    }

    fn forget_usage(&self, changes: &[Change]) {
        let mut counts = self.usage();
        for change in changes {
            if let Change::DeleteRule { id } = change {
                counts.forget(*id);
            }
        }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn usage(&self) -> MutexGuard<'_, Counts> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes whether we hear of what others commit. When we do not, all watches end: whoever watches may hear of it elsewhere.
    fn note_following(&self, follows: bool) {
        let did = self.following.swap(follows, Ordering::Relaxed);
        if did && !follows {
            let mut published = self.published.write().unwrap_or_else(PoisonError::into_inner);
            published.deltas = broadcast::channel(WATCH_QUEUE).0;
        }
    }

    fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    /// Notes that writes can be stored.
    fn succeeded(&self) {
        self.healthy.store(true, Ordering::Relaxed);
    }

    /// Notes that a write could not be stored.
    fn failed(&self) {
        self.healthy.store(false, Ordering::Relaxed);
    }

    fn state(&self) -> State {
        self.published.read().unwrap_or_else(PoisonError::into_inner).state.clone()
    }
}

/// Nodes whose key, and tokens that are void once these changes are made.
fn expelled(state: &State, changes: &[Change]) -> Vec<Key> {
    let is_void = |name: &NodeName, key| state.replica().nodes.get(name).is_some_and(|node| node.key != key);
    let expelled = |change: &Change| match change {
        Change::DeleteNode { .. } | Change::DeleteToken { .. } => Some(change.key()),
        Change::PutNode { node } => is_void(&node.name, node.key).then(|| change.key()),
        _ => None,
    };
    changes.iter().filter_map(expelled).collect()
}

/// The beginning of a watch, and where its deltas come from.
pub struct Subscription {
    pub history: History,
    /// Histories whose followers may go over to this one.
    pub succeeds: Vec<History>,
    /// Where the beginning ends.
    pub revision: Revision,
    pub digest: Digest,
    pub start: Start,
    pub deltas: broadcast::Receiver<Arc<Delta>>,
}

/// What a watch begins with.
pub enum Start {
    Snapshot(Vec<Change>),
    Resume(Vec<Arc<Delta>>),
}

/// A reader knows more than the store: the store was put back to an earlier state. Nobody is led back there unasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("revision {asked} was asked for but the store ends at {head}: it was put back to an earlier state")]
pub struct AheadOfStore {
    pub asked: Revision,
    pub head: Revision,
}

/// Everything that stands, as others are told of it.
fn told(state: &State) -> Vec<Change> {
    state.replica().items().map(|item| item.without_secrets().into_owned()).collect()
}

fn check_place(state: &State, since: Option<&(Revision, History)>) -> Result<(), AheadOfStore> {
    let head = state.revision();
    match since {
        Some((asked, history)) if history == state.history() && *asked > head => {
            Err(AheadOfStore { asked: *asked, head })
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod access_tests;
#[cfg(test)]
mod chain_tests;
#[cfg(test)]
#[path = "../../tests/support/etcd.rs"]
mod etcd_cluster;
#[cfg(test)]
mod naive_tests;
#[cfg(test)]
mod owners_tests;
#[cfg(test)]
mod past_tests;
#[cfg(test)]
mod tests;
