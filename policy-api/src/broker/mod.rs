//! The token broker: makes short-lived, signed proofs of who somebody is, for one audience, and keeps the keys for it.
//!
//! Keys are items of the store, so that all APIs on it sign with the same ones; their private halves are sealed there by a key
//! that lies beside it ([`seal`]), so that whoever has the store, or a copy of it, signs nothing. Who is given a token is decided
//! in [`issue`], purely; what is revoked the store's planner decides. Knows no HTTP.

mod issue;
mod rotation;
mod seal;
mod signer;
#[cfg(test)]
mod tests;
mod verify;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tracing::error;

use self::signer::SigningKey;
use crate::{
    model::{
        IdentityToken, IdentityTokenId, IdentityTokenSpec, Jwk, JwkSet, Revoked, RevokedTokens, SignerKey, SignerKeyId,
        Subject, Timestamp, published_ahead, signing_key,
    },
    store::{Clock, Principal, Refusal, State, Store},
};

pub use self::{rotation::keep_rotating, seal::SealKey, verify::Unproven};

/// How keys are timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignerTiming {
    /// How long one key signs.
    pub lifetime: Duration,
}

/// The longest that others keep what is published.
const LONGEST_CACHED: Duration = Duration::from_secs(300);

impl SignerTiming {
    /// How long others may keep what is published: a key is published long before that is over, and then signs.
    pub fn cached(self) -> Duration {
        (published_ahead(self.lifetime) / 2).min(LONGEST_CACHED)
    }
}

impl Default for SignerTiming {
    /// A key a day.
    fn default() -> Self {
        Self { lifetime: Duration::from_secs(86_400) }
    }
}

/// What keeps keys from being used or made.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// Of the store's keys one was sealed by another seal key.
    #[error("key {0} of the signer, which the store holds, was not sealed by it")]
    WrongSeal(SignerKeyId),
    #[error("cannot make a key of the signer: {0}")]
    Key(&'static str),
    #[error(transparent)]
    Store(#[from] Refusal),
}

/// Makes identity tokens.
pub struct Broker {
    store: Arc<Store>,
    seal: SealKey,
    timing: SignerTiming,
    clock: Clock,
    /// Keys that were opened already; none, if it was not sealed by our seal key.
    opened: Mutex<HashMap<SignerKeyId, Option<Arc<SigningKey>>>>,
}

impl Broker {
    /// A broker of this store; every key in the store must have been sealed by the seal key.
    pub fn new(store: Arc<Store>, seal: SealKey, timing: SignerTiming, clock: Clock) -> Result<Self, BrokerError> {
        let broker = Self { store, seal, timing, clock, opened: Mutex::default() };
        let keys = broker.store.read(held);
        match keys.iter().find(|key| broker.open(key).is_none()) {
            Some(foreign) => Err(BrokerError::WrongSeal(foreign.id.clone())),
            None => Ok(broker),
        }
    }

    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    pub fn timing(&self) -> SignerTiming {
        self.timing
    }

    /// A token for whoever asks, if they are to have it.
    pub fn issue(&self, by: &Principal, spec: &IdentityTokenSpec) -> Result<IdentityToken, Refusal> {
        let now = (self.clock)();
        let id = IdentityTokenId::new(random()?);
        let (granted, keys) = self.store.read(|state| (issue::grant(state, by, spec, id, now), held(state)));
        let granted = granted?;
        let keys: Vec<&SignerKey> = keys.iter().map(AsRef::as_ref).filter(|key| self.open(key).is_some()).collect();
        let key = signing_key(keys, now).and_then(|key| self.open(key)).ok_or_else(no_key)?;
        let token = key.sign(&granted.claims).map_err(|error| Refusal::Store(error.to_string()))?;
        Ok(granted.with(token))
    }

    /// How long it is until what is issued for a subject to this asker counts as issued when it is, and not later. Where another
    /// API's clock is far ahead, nobody waits for it.
    pub fn ahead_of(&self, by: &Principal, subject: &Subject) -> Duration {
        const LONGEST: Duration = Duration::from_secs(2);
        let node = if let Principal::Node(node) = by { Some(&node.name) } else { None };
        let behind = self.store.read(|state| issue::behind_revocations(state, subject, node));
        let behind = Timestamp::of_unix_milliseconds(behind.saturating_mul(1_000));
        behind.map_or(Duration::ZERO, |behind| (self.clock)().until(behind)).min(LONGEST)
    }

    /// What everybody may know of the keys.
    pub fn published(&self) -> JwkSet {
        self.store.read(|state| JwkSet { keys: self.published_in(state) })
    }

    /// The same, of a state. A key that somebody put into the store who has not our seal key is nobody's.
    pub fn published_in(&self, state: &State) -> Vec<Jwk> {
        let now = (self.clock)();
        let known = state.replica().signer_keys.values().filter(|key| key.expires_at > now);
        known.filter(|key| self.open(key).is_some()).map(|key| Jwk::from(key.as_ref())).collect()
    }

    fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// The key, opened; nothing if it was not sealed by our seal key.
    fn open(&self, key: &SignerKey) -> Option<Arc<SigningKey>> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let open = || {
            let signing = SigningKey::open(&self.seal, key).map(Arc::new);
            if signing.is_none() {
                error!(key = %key.id, "a key of the signer was not sealed by our seal key: it is not used");
            }
            signing
        };
        opened.entry(key.id.clone()).or_insert_with(open).clone()
    }

    /// Forgets keys that the store does not hold any more.
    fn forget(&self) {
        let keys = self.store.read(held);
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.retain(|id, _| keys.iter().any(|key| key.id == *id));
    }
}

fn held(state: &State) -> Vec<Arc<SignerKey>> {
    state.replica().signer_keys.values().cloned().collect()
}

/// Tokens that are good no longer, though they have not ended.
pub fn revoked_in(state: &State) -> RevokedTokens {
    let mut revoked = RevokedTokens::default();
    for (of, revocation) in &state.replica().revocations {
        match of {
            Revoked::Token(id) => {
                revoked.tokens.insert(*id);
            }
            Revoked::Subject(subject) => {
                revoked.subjects.insert(subject.clone(), revocation.issued_before);
            }
            Revoked::Node(node) => {
                revoked.nodes.insert(node.clone(), revocation.issued_before);
            }
        }
    }
    revoked
}

fn no_key() -> Refusal {
    Refusal::Store("there is no key to sign with; the log says why".to_owned())
}

fn random<const N: usize>() -> Result<[u8; N], Refusal> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| Refusal::Store(format!("no random numbers: {error}")))?;
    Ok(bytes)
}
