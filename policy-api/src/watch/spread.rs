//! Writes into the history when what somebody wanted was in force: up to which revision on every registered node, and by when
//! on each node for which it changed something.
//!
//! At once when it is everywhere, so that a control plane where nothing changes writes nothing; at most once a second, while
//! changes follow each other; and where a node is missing, what the others took after a while without it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch::Receiver;

use super::{Presence, stopped};
use crate::{
    model::{NodeName, Revision, Spread},
    store::Store,
};

/// Between two looks: reports of many nodes come at once.
const MOMENT: Duration = Duration::from_millis(5);
/// Between two entries.
const PAUSE: Duration = Duration::from_secs(1);
/// How long what some nodes took waits for the others.
const PATIENCE: Duration = Duration::from_secs(10);

/// Works until we stop.
pub async fn note_spread(store: Arc<Store>, presence: Arc<Presence>, mut stop: Receiver<bool>) {
    let mut changes = presence.changes();
    let mut scribe = Scribe::new(&store);
    loop {
        changes.mark_unchanged();
        let again = scribe.look(&store, &presence, Instant::now());
        tokio::select! {
            () = tokio::time::sleep(MOMENT) => {}
            () = stopped(&mut stop) => break,
        }
        let time_passed = async {
            match again {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { break },
            () = time_passed => {}
            () = stopped(&mut stop) => break,
        }
    }
    scribe.finish(&store, &presence);
}

/// What was written, and when.
struct Scribe {
    /// Up to this revision all is said, also of nodes.
    said: Revision,
    written: Option<Instant>,
    /// Since when nodes took something that the others did not.
    waiting: Option<Instant>,
    /// A node that had nothing behind what is said when it was looked at: as long as that is so, no other needs a look.
    laggard: Option<NodeName>,
}

impl Scribe {
    fn new(store: &Store) -> Self {
        Self { said: store.read(|state| state.said_in_force()), written: None, waiting: None, laggard: None }
    }

    /// Writes what is due; returns when to look again, if time alone makes something due.
    fn look(&mut self, store: &Store, presence: &Presence, now: Instant) -> Option<Duration> {
        let (wanted, known) = store.read(|state| (state.intent(), state.said_in_force()));
        let is_settled = self.written.is_none_or(|written| now.duration_since(written) >= PAUSE);
        if is_settled && known < self.said.min(wanted) {
            // It could not be written.
            self.said = known;
        }
        if wanted <= self.said {
            return None;
        }
        if self.is_everywhere(store, presence) {
            let paused = self.written.map_or(PAUSE, |written| now.duration_since(written));
            return self.write_after(PAUSE.saturating_sub(paused), store, presence, now);
        }
        if !presence.has_taken(self.said, wanted) {
            self.waiting = None;
            return None;
        }
        let waited = now.duration_since(*self.waiting.get_or_insert(now));
        self.write_after(PATIENCE.saturating_sub(waited), store, presence, now)
    }

    /// Writes if the time has come, else says how much of it is left.
    fn write_after(&mut self, left: Duration, store: &Store, presence: &Presence, now: Instant) -> Option<Duration> {
        if !left.is_zero() {
            return Some(left);
        }
        self.write(store, presence, now);
        None
    }

    /// Whether more is in force on all nodes than is said.
    fn is_everywhere(&mut self, store: &Store, presence: &Presence) -> bool {
        let said = self.said;
        store.read(|state| {
            let nodes = &state.replica().nodes;
            let Some(first) = self.laggard.as_ref().or_else(|| nodes.keys().next()) else { return false };
            // Those before it had what it had not; they come last.
            let around = nodes.range(first..).chain(nodes.range(..first));
            self.laggard = presence.laggard(said, around.map(|(name, _)| name));
            self.laggard.is_none()
        })
    }

    /// Writes what there is, before its time.
    fn finish(&mut self, store: &Store, presence: &Presence) {
        if store.read(|state| state.intent()) > self.said {
            self.write(store, presence, Instant::now());
        }
    }

    fn write(&mut self, store: &Store, presence: &Presence, now: Instant) {
        // Before nodes are asked what they took: who has it everywhere has told us all that led there.
        let everywhere = everywhere(store, presence);
        let (wanted, known, nodes) = store.read(|state| {
            let nodes = state.replica().nodes.len();
            (state.intent(), state.said_in_force(), u64::try_from(nodes).unwrap_or(u64::MAX))
        });
        let taken = presence.take_taken(self.said, wanted);
        let revision = everywhere.unwrap_or_default().max(known);
        if revision > known || !taken.is_empty() {
            store.note_in_force(Spread { revision, nodes, taken });
            self.written = Some(now);
        }
        self.said = everywhere.unwrap_or_default().max(self.said);
        self.waiting = None;
    }
}

/// Up to where everything is in force on all nodes; nothing where there are none, or where one has said nothing yet.
fn everywhere(store: &Store, presence: &Presence) -> Option<Revision> {
    store.read(|state| {
        let nodes = &state.replica().nodes;
        let acknowledged = presence.acknowledged(nodes.keys()).filter(|_| !nodes.is_empty())?;
        Some(acknowledged.min(state.revision()))
    })
}
