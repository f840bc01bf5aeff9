//! When tokens were used last: known by this process since its start, and written nowhere, so that to be asked costs the store
//! nothing.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use crate::model::{Timestamp, TokenHash};

pub(super) struct LastUsed {
    since: Timestamp,
    /// By hash: a token that is made anew under the name of another was not used yet.
    times: Mutex<HashMap<TokenHash, Timestamp>>,
}

impl LastUsed {
    pub(super) fn since(now: Timestamp) -> Self {
        Self { since: now, times: Mutex::default() }
    }

    /// From when on it is known.
    pub(super) fn known_since(&self) -> Timestamp {
        self.since
    }

    pub(super) fn note(&self, token: &TokenHash, now: Timestamp) {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).insert(*token, now);
    }

    pub(super) fn of(&self, token: Option<&TokenHash>) -> Option<Timestamp> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).get(token?).copied()
    }

    /// Forgets what is no token any more.
    pub(super) fn keep(&self, is_token: impl Fn(&TokenHash) -> bool) {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).retain(|hash, _| is_token(hash));
    }
}
