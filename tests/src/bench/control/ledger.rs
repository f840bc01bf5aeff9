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
    following: watch::Sender<usize>,
    taken: Mutex<HashMap<Revision, Vec<Instant>>>,
}

impl Ledger {
    pub(super) fn new() -> Self {
        Self(Arc::new(Entries { bytes: AtomicU64::new(0), following: watch::Sender::new(0), taken: Mutex::default() }))
    }

    /// Payload of watches so far.
    pub(super) fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn add_bytes(&self, bytes: usize) {
        self.0.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Another agent holds all that it needs, and follows, as long as what this returns stands.
    pub(super) fn follows(&self) -> Following {
        self.0.following.send_modify(|following| *following += 1);
        Following(self.0.clone())
    }

    pub(super) async fn all_follow(&self, agents: usize, patience: Duration) -> Result<()> {
        let mut following = self.0.following.subscribe();
        let all = following.wait_for(|following| *following >= agents);
        let waited = tokio::time::timeout(patience, all).await;
        waited.with_context(|| format!("only {} follow", *self.0.following.borrow()))??;
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

/// An agent that follows.
pub(super) struct Following(Arc<Entries>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.following.send_modify(|following| *following -= 1);
    }
}
