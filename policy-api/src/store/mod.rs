//! The store: one order of all changes, durable before anybody hears of them.
//!
//! Writes go to one thread ([`writer`]) that plans, commits and publishes them; reads look at the published state in
//! memory; a watch subscribes and reads its beginning under the same lock, so nothing falls between the two. Knows no HTTP.

mod backup;
mod board;
mod delta;
mod engine;
mod error;
mod etcd;
mod location;
mod numbers;
mod owners;
mod plan;
mod principal;
mod refusal;
mod sqlite;
mod state;
mod token;
mod usage;
mod writer;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::{broadcast, mpsc, oneshot};

use self::{
    delta::{Ring, changes_json},
    engine::{Entry, Loaded, Lookup, Opened, Registry},
    state::Head,
    usage::Counts,
    writer::{Job, Writer},
};
use crate::model::{
    AppPattern, Change, Digest, History, NodeName, Overlay, Prefix, Revision, Rule, RuleId, Timestamp, Usage,
    UsageReport,
};

pub use self::{
    backup::{BackupError, Copied, accept, back_up, restore},
    board::{Board, Owes, Sighting},
    delta::Delta,
    error::DatabaseError,
    location::Location,
    owners::{KEPT as OWNERS_KEPT, Owners},
    plan::{Answer, Command, Registration},
    principal::{NodeGrant, Principal},
    refusal::Refusal,
    state::{Instance, State},
    token::{Token, Tokens},
    writer::{Idempotency, Write},
};

/// An open store.
pub struct Store {
    shared: Arc<Shared>,
    tokens: Tokens,
    jobs: mpsc::Sender<Job>,
    writer: JoinHandle<()>,
    names: Vec<String>,
    lookup: Arc<dyn Lookup>,
    owners_kept: Duration,
    /// Of the other processes that may write to it too.
    board: Option<Arc<dyn Board>>,
}

/// How long to wait for a revision that another process may have answered.
const REACH: Duration = Duration::from_secs(3);

/// What the writer shares with readers.
struct Shared {
    published: RwLock<Published>,
    /// Nodes that were removed, or are known by another key now.
    expelled: broadcast::Sender<NodeName>,
    /// Locked after `published`, where both are.
    usage: Mutex<Counts>,
    healthy: AtomicBool,
    commits: AtomicU64,
    revisions: AtomicU64,
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
        Self::open_keeping(location, wish, OWNERS_KEPT)
    }

    /// The same, with who had addresses known for so long after they gave them up.
    pub fn open_keeping(location: &Location, wish: OverlayWish, owners_kept: Duration) -> Result<Self, DatabaseError> {
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
            commits: AtomicU64::new(0),
            revisions: AtomicU64::new(0),
        });
        let (jobs, receiver) = mpsc::channel(QUEUE);
        let failed = |source| DatabaseError::File { path: "(a thread)".into(), source };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(failed)?;
        let writer = Writer::new(runtime, engine, state, shared.clone(), receiver, owners_kept);
        let spawn = std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || writer.run());
        let writer = spawn.map_err(failed)?;
        Ok(Self { shared, tokens: Tokens(lookup.clone()), jobs, writer, names, lookup, owners_kept, board })
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
        now.before(self.owners_kept)
    }

    /// Takes what a node says that rules are used for there. It reaches the disk within seconds.
    pub fn note_usage(&self, node: &NodeName, report: &UsageReport) -> Result<(), Refusal> {
        self.read(|state| {
            if !state.replica().nodes.contains_key(node) {
                return Err(Refusal::conflict("name", node, "has not joined".to_owned(), "join first"));
            }
            self.shared.usage().tell(node, report, |rule| state.rule(rule).is_some())
        })
    }

    /// What these rules are used for, on all nodes together.
    pub fn usage(&self, rules: impl IntoIterator<Item = RuleId>) -> Vec<Usage> {
        let counts = self.shared.usage();
        rules.into_iter().map(|rule| counts.of(rule)).collect()
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
            start: resumed.map_or_else(|| Start::Snapshot(state.replica().items().collect()), Start::Resume),
            deltas: published.deltas.subscribe(),
        })
    }

    /// Returns when this node is removed, or known by another key: what was begun by its old one ends.
    pub fn expulsion(&self, node: NodeName) -> impl Future<Output = ()> + Send + use<> {
        let mut expelled = self.shared.expelled.subscribe();
        async move {
            // One that missed so many that this was lost is as good as expelled: its node comes back if it may.
            while expelled.recv().await.is_ok_and(|name| name != node) {}
        }
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
    fn publish(&self, entries: Vec<Entry>, capacities: Vec<(NodeName, u64)>) {
        self.succeeded();
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.revisions.fetch_add(u64::try_from(entries.len()).unwrap_or(0), Ordering::Relaxed);
        let mut published = self.published.write().unwrap_or_else(PoisonError::into_inner);
        let Published { state, ring, deltas } = &mut *published;
        for (node, rows) in capacities {
            state.set_capacity(node, rows);
        }
        for Entry { revision, changes, json, .. } in entries {
            for node in expelled(state, &changes) {
                // Nobody watching is no error.
                let _watchers = self.expelled.send(node);
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

    fn usage(&self) -> MutexGuard<'_, Counts> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Nodes whose key is void once these changes are made.
fn expelled(state: &State, changes: &[Change]) -> Vec<NodeName> {
    let is_void = |name: &NodeName, key| state.replica().nodes.get(name).is_some_and(|node| node.key != key);
    let expelled = |change: &Change| match change {
        Change::DeleteNode { name } => Some(name.clone()),
        Change::PutNode { node } => is_void(&node.name, node.key).then(|| node.name.clone()),
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

fn check_place(state: &State, since: Option<&(Revision, History)>) -> Result<(), AheadOfStore> {
    let head = state.revision();
    match since {
        Some((asked, history)) if history == state.history() && *asked > head => {
            Err(AheadOfStore { asked: *asked, head })
        }
        Some(_) | None => Ok(()),
    }
}

/// What `netpol-api init` does to the store: makes it if there is none, and says who may ask.
pub struct Prepared(Box<dyn Registry>);

/// The overlay that somebody wishes for; what is absent is as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OverlayWish {
    pub v4: Option<Prefix>,
    pub v6: Option<Prefix>,
}

/// The longest prefix that an overlay can have: room for two slices, of which nodes get the second.
pub fn longest_overlay(is_v4: bool) -> u8 {
    if is_v4 { plan::SLICE_V4 - 1 } else { plan::SLICE_V6 - 1 }
}

/// Opens a store for `init`, made if it does not exist; safe while another process serves it.
pub fn prepare(location: &Location, wish: OverlayWish) -> Result<Prepared, DatabaseError> {
    let birth = birth(Timestamp::now())?;
    let registry = match location {
        Location::Sqlite(path) => sqlite::prepare(path, &birth, wish)?,
        Location::Etcd(cluster) => etcd::prepare(cluster, &birth, wish)?,
    };
    Ok(Prepared(registry))
}

/// What a new store is made with.
struct Birth {
    history: History,
    overlay: Overlay,
    /// What it holds from the first moment on, as its first revision.
    entry: Entry,
    head: Head,
}

/// What a new store holds: one rule, which can be deleted like any other and does not come back then.
fn birth(now: Timestamp) -> Result<Birth, DatabaseError> {
    let (history, overlay) = (random_history()?, default_overlay()?);
    let changes = vec![Change::PutRule { rule: Arc::new(plan::built_in(now)) }];
    let mut state = State::empty(history.clone(), overlay);
    let revision = Revision::default().next();
    state.apply(revision, &changes);
    let json = changes_json(&changes)?;
    let entry = Entry { revision, time: now, who: Rule::BUILT_IN.to_owned(), changes, json };
    Ok(Birth { history, overlay, entry, head: state.head() })
}

/// What the overlay is to become, if it is to change: a wish is granted as long as no node has a slice of the present one.
fn wanted_overlay(stored: Overlay, head: Head, wish: OverlayWish) -> Result<Option<Overlay>, DatabaseError> {
    let wanted = Overlay { v4: wish.v4.unwrap_or(stored.v4), v6: wish.v6.unwrap_or(stored.v6) };
    if wanted == stored {
        return Ok(None);
    }
    if head.next_slice != Head::first().next_slice {
        let show = |overlay: Overlay| format!("{} and {}", overlay.v4, overlay.v6);
        return Err(DatabaseError::Overlay { stored: show(stored), wanted: show(wanted) });
    }
    Ok(Some(wanted))
}

/// 10.255.0.0/16, and a /48 of the unique local addresses, random as RFC 4193 asks.
fn default_overlay() -> Result<Overlay, DatabaseError> {
    let [a, b, c, d, e] = random()?;
    let v6 = Ipv6Addr::from([0xfd, a, b, c, d, e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let prefix =
        |address, length| Prefix::new(address, length).ok_or_else(|| DatabaseError::Damaged("overlay".to_owned()));
    Ok(Overlay { v4: prefix(Ipv4Addr::new(10, 255, 0, 0).into(), 16)?, v6: prefix(v6.into(), 48)? })
}

fn random_history() -> Result<History, DatabaseError> {
    Ok(token::hex(&random::<8>()?).parse()?)
}

fn random<const N: usize>() -> Result<[u8; N], DatabaseError> {
    let mut bytes = [0_u8; N];
    getrandom::fill(&mut bytes).map_err(DatabaseError::Random)?;
    Ok(bytes)
}

impl Prepared {
    pub fn has_token(&self, token: &Token, principal: &Principal) -> Result<bool, DatabaseError> {
        let kept = self.0.principal(&token.hash())?.map(|kept| token::bearer(token, kept));
        Ok(kept.as_ref() == Some(principal))
    }

    /// The apps that a node's token is good for, if it has one.
    pub fn apps_of(&self, node: &NodeName) -> Result<Option<Vec<AppPattern>>, DatabaseError> {
        self.0.apps_of(node)
    }

    /// Lets the bearer of this token in, and voids an earlier token for the same one.
    pub fn set_token(&self, token: &Token, principal: &Principal) -> Result<(), DatabaseError> {
        self.0.set_token(&token.hash(), principal)
    }

    /// Adds names and addresses to those that the server's certificate is made for.
    pub fn add_names(&self, names: &[String]) -> Result<(), DatabaseError> {
        let mut all = self.0.names()?;
        all.extend(names.iter().filter(|name| !all.contains(name)).cloned().collect::<Vec<_>>());
        self.0.set_names(&all)
    }
}

#[cfg(test)]
#[path = "../../tests/support/etcd.rs"]
mod etcd_cluster;
#[cfg(test)]
mod owners_tests;
#[cfg(test)]
mod tests;
