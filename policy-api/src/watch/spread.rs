//! Writes into the history up to which revision everything is in force on every registered node.
//!
//! Not for each node and revision: what grows is one number, and it is written at most once a second, and only while
//! something that somebody wanted is not yet covered by it.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch::Receiver;

use super::{Presence, stopped};
use crate::{model::Spread, store::Store};

/// How late the time may be that is written.
const PAUSE: Duration = Duration::from_secs(1);

/// Works until we stop.
pub async fn note_spread(store: Arc<Store>, presence: Arc<Presence>, mut stop: Receiver<bool>) {
    let mut changes = presence.changes();
    loop {
        changes.mark_unchanged();
        if let Some(spread) = spread(&store, &presence) {
            store.note_in_force(spread);
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = stopped(&mut stop) => return,
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = stopped(&mut stop) => return,
        }
    }
}

/// What is in force on all nodes; nothing where there are none, or where one has said nothing yet.
fn spread(store: &Store, presence: &Presence) -> Option<Spread> {
    store.read(|state| {
        let nodes = &state.replica().nodes;
        let acknowledged = presence.acknowledged(nodes.keys()).filter(|_| !nodes.is_empty())?;
        let nodes = u64::try_from(nodes.len()).unwrap_or(u64::MAX);
        Some(Spread { revision: acknowledged.min(state.revision()), nodes })
    })
}
