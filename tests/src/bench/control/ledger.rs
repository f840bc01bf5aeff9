//! What all simulated agents together were told, and when.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use policy_api::model::Revision;
use tokio::sync::watch;

#[derive(Clone)]
pub(super) struct Ledger(Arc<Entries>);

struct Entries {
    bytes: AtomicU64,
    holding: watch::Sender<usize>,
    taken: Mutex<HashMap<Revision, Vec<Instant>>>,
}

impl Ledger {
    pub(super) fn new() -> Self {
        Self(Arc::new(Entries { bytes: AtomicU64::new(0), holding: watch::Sender::new(0), taken: Mutex::default() }))
    }

    /// Payload of watches so far.
    pub(super) fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn add_bytes(&self, bytes: usize) {
        self.0.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Another agent holds all that it needs.
    pub(super) fn holds(&self) {
        self.0.holding.send_modify(|holding| *holding += 1);
    }

    pub(super) async fn all_hold(&self, agents: usize, patience: Duration) -> Result<()> {
        let mut holding = self.0.holding.subscribe();
        let all = holding.wait_for(|holding| *holding >= agents);
        let waited = tokio::time::timeout(patience, all).await;
        waited.with_context(|| format!("only {} hold their state", *self.0.holding.borrow()))??;
        Ok(())
    }

    /// An agent took what a revision changes for it.
    pub(super) fn takes(&self, revision: Revision) {
        let mut taken = self.0.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.entry(revision).or_default().push(Instant::now());
    }

    /// When agents took what a revision changes for them.
    pub(super) fn taken(&self, revision: Revision) -> Vec<Instant> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&revision).unwrap_or_default()
    }
}
