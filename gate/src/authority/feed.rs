//! What the policy API pushes to a gatekeeper: the keys that sign, who may do what on its resource, what is revoked. One whole
//! small state at a time, and heartbeats between; when neither comes for too long nothing new is believed (`security.md` 37).

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use policy_api::{
    client::Client,
    jose::Key,
    model::{Audience, GateLine, GateState, ResourceId, RevokedTokens},
};
use tokio::{sync::watch, time::sleep};
use tracing::{info, warn};

use super::{Permit, Privilege};

/// The state of one resource: whom to believe, and who may do what. As it was told, in the texts that tokens have.
pub struct State {
    pub issuer: String,
    keys: HashMap<String, Key>,
    subjects: HashMap<String, HashSet<String>>,
    revoked: HashSet<String>,
    /// Tokens of these subjects that were issued before then (in ms since 1970).
    revoked_before: HashMap<String, i64>,
    /// The same of nodes, whose agents asked for them.
    nodes_revoked_before: HashMap<String, i64>,
}

/// What was pushed last. Shared by the authorities that judge by it and the task that reads it.
pub struct Feed {
    heard: RwLock<Heard>,
    /// How often something was told that was not told before.
    told: watch::Sender<u64>,
    /// Silence for so long is an authority that is down.
    patience: Duration,
}

struct Heard {
    state: Option<Arc<State>>,
    last: Instant,
}

const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

impl Feed {
    pub fn new(patience: Duration) -> Arc<Self> {
        let heard = RwLock::new(Heard { state: None, last: Instant::now() });
        Arc::new(Self { heard, told: watch::Sender::new(0), patience })
    }

    /// What was pushed last, unless that is too long ago.
    pub fn current(&self) -> Option<Arc<State>> {
        let heard = self.heard.read().unwrap_or_else(PoisonError::into_inner);
        heard.state.clone().filter(|_| heard.last.elapsed() < self.patience)
    }

    /// What was pushed last, however long ago: good for taking back, and not for allowing.
    pub fn last(&self) -> Option<Arc<State>> {
        self.heard.read().unwrap_or_else(PoisonError::into_inner).state.clone()
    }

    /// Changes with each new state.
    pub fn told(&self) -> watch::Receiver<u64> {
        self.told.subscribe()
    }

    /// Follows the policy API for ever; whoever else judges by the feed waits for nothing of it.
    pub async fn follow(self: Arc<Self>, client: Client, resource: ResourceId, audience: Audience) {
        let mut pause = SHORTEST_PAUSE;
        loop {
            let error = match client.gate_watch(&resource, &audience).await {
                Ok(mut lines) => loop {
                    match lines.next().await {
                        Ok(line) => {
                            pause = SHORTEST_PAUSE;
                            self.take(line, &resource);
                        }
                        Err(error) => break error,
                    }
                },
                Err(error) => error,
            };
            warn!(%error, "the policy API tells nothing new of who may do what; trying again");
            sleep(pause.max(error.retry_after().unwrap_or_default())).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Takes a line that was read for this resource.
    pub fn take(&self, line: GateLine, resource: &ResourceId) {
        let mut heard = self.heard.write().unwrap_or_else(PoisonError::into_inner);
        match line {
            // Of what nobody has told yet nothing is confirmed.
            GateLine::Heartbeat { .. } if heard.state.is_none() => {}
            GateLine::Heartbeat { .. } => heard.last = Instant::now(),
            GateLine::State(told) if told.resource != *resource => {
                warn!(told = %told.resource, "the policy API speaks of another resource, which is ignored");
            }
            GateLine::State(told) => {
                let first = heard.state.is_none();
                *heard = Heard { state: Some(Arc::new(State::from(*told))), last: Instant::now() };
                drop(heard);
                if first {
                    info!(%resource, "who may do what is known");
                }
                self.told.send_modify(|told| *told += 1);
            }
        }
    }
}

impl State {
    pub(super) fn key(&self, id: &str) -> Option<&Key> {
        self.keys.get(id)
    }

    /// Whether a subject may do this on the resource.
    pub(super) fn may(&self, subject: &str, privilege: &Privilege) -> bool {
        self.subjects.get(subject).is_some_and(|may| may.contains(privilege.as_str()))
    }

    /// Whether the token is revoked that let somebody in, or is about to.
    pub(super) fn has_revoked(&self, permit: &Permit) -> bool {
        let Some(grounds) = &permit.grounds else { return false };
        let by_id = grounds.token.as_ref().is_some_and(|token| self.revoked.contains(token));
        let is_before = |before: &i64| permit.issued.is_none_or(|issued| issued.unix_milliseconds() < *before);
        let of_node = grounds.node.as_ref().and_then(|node| self.nodes_revoked_before.get(node));
        by_id
            || self.revoked_before.get(permit.subject.as_str()).is_some_and(is_before)
            || of_node.is_some_and(is_before)
    }

    /// Whether a permit that was given before would be given still. One that stands on nothing that is pushed does.
    pub fn stands(&self, permit: &Permit, privilege: &Privilege) -> bool {
        let Some(grounds) = &permit.grounds else { return true };
        let key_stands = grounds.key.as_ref().is_none_or(|key| self.keys.contains_key(key));
        key_stands && !self.has_revoked(permit) && self.may(permit.subject.as_str(), privilege)
    }
}

impl From<GateState> for State {
    fn from(told: GateState) -> Self {
        let GateState { revision: _, issuer, resource: _, keys, subjects, revoked } = told;
        let RevokedTokens { tokens, subjects: revoked_before, nodes } = revoked;
        let may = subjects
            .into_iter()
            .map(|(subject, privileges)| (subject.to_string(), privileges.iter().map(ToString::to_string).collect()));
        let key = |key| Key::of_jwk(&serde_json::to_value(key).ok()?);
        Self {
            issuer: issuer.to_string(),
            keys: keys.iter().filter_map(key).collect(),
            subjects: may.collect(),
            revoked: tokens.iter().map(ToString::to_string).collect(),
            revoked_before: revoked_before.iter().map(|(who, at)| (who.to_string(), at.unix_milliseconds())).collect(),
            nodes_revoked_before: nodes.iter().map(|(node, at)| (node.to_string(), at.unix_milliseconds())).collect(),
        }
    }
}
