//! What a gatekeeper's watch gets: all that it has to know of its resource, whole, whenever that changed, and heartbeats, by whose
//! absence it knows that it knows nothing any more.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{
        broadcast::{Receiver, error::RecvError},
        mpsc, watch,
    },
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};
use tracing::warn;

use super::{
    Timing, stopped,
    stream::{Ended, Line},
};
use crate::{
    broker::{Broker, revoked_in},
    model::{GateLine, GateState, Key, ResourceId, TokenIssuer},
    store::{Delta, State, Store},
};

/// Between heartbeats, or less if those of other watches come oftener: gatekeepers have to notice soon.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// Feeds a gatekeeper until it goes, takes nothing, we hear of no more commits, or `stop` says so.
pub async fn feed_gate(
    store: Arc<Store>,
    broker: Arc<Broker>,
    resource: ResourceId,
    lines: mpsc::Sender<Line>,
    timing: Timing,
    mut stop: watch::Receiver<bool>,
) {
    let (state, mut deltas) = store.follow(|state| state_of(&broker, state, &resource));
    let mut feed = GateFeed { store, broker, resource, lines, stall: timing.stall, told: None };
    if feed.tell(state).await.is_err() {
        return;
    }
    let period = timing.heartbeat.min(HEARTBEAT);
    let mut heartbeats = interval_at(Instant::now() + period, period);
    heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let fed = tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            () = feed.lines.closed() => return,
            news = next(&mut deltas) => match news {
                Some(News::ForGates) => feed.look().await,
                Some(News::Other) => Ok(()),
                None => return,
            },
            _ = heartbeats.tick() => feed.beat().await,
        };
        if fed.is_err() {
            return;
        }
    }
}

/// Whether a revision may have changed what gatekeepers have to know.
enum News {
    ForGates,
    Other,
}

/// The next revision; none, where we hear of no more.
async fn next(deltas: &mut Receiver<Arc<Delta>>) -> Option<News> {
    match deltas.recv().await {
        Ok(delta) if delta.changes.iter().any(|change| concerns_gates(&change.key())) => Some(News::ForGates),
        Ok(_) => Some(News::Other),
        // What was missed is in the state that is looked at next.
        Err(RecvError::Lagged(_)) => Some(News::ForGates),
        Err(RecvError::Closed) => None,
    }
}

fn concerns_gates(key: &Key) -> bool {
    match key {
        Key::SignerKey(_) | Key::Revocation(_) | Key::Layer(_) | Key::Role(_) | Key::Resource(_) => true,
        Key::App(_)
        | Key::Group(_)
        | Key::Rule(_)
        | Key::Node(_)
        | Key::Binding(_)
        | Key::Isolation(_)
        | Key::Team(_)
        | Key::Token(_)
        | Key::Request(_) => false,
    }
}

fn state_of(broker: &Broker, state: &State, resource: &ResourceId) -> GateState {
    GateState {
        revision: state.revision(),
        issuer: TokenIssuer::of(state.history()),
        resource: resource.clone(),
        keys: broker.published_in(state),
        subjects: state.access().subjects(resource),
        revoked: revoked_in(state),
    }
}

/// One gatekeeper, and what it was told last.
struct GateFeed {
    store: Arc<Store>,
    broker: Arc<Broker>,
    resource: ResourceId,
    lines: mpsc::Sender<Line>,
    stall: Duration,
    told: Option<GateState>,
}

impl GateFeed {
    /// Tells what stands, if it is something else than what was told.
    async fn look(&mut self) -> Result<(), Ended> {
        let state = self.store.read(|state| state_of(&self.broker, state, &self.resource));
        self.tell(state).await
    }

    async fn tell(&mut self, state: GateState) -> Result<(), Ended> {
        if self.told.as_ref().is_some_and(|told| told.says_what(&state)) {
            return Ok(());
        }
        self.told = Some(state.clone());
        self.send(&GateLine::State(Box::new(state))).await
    }

    async fn beat(&mut self) -> Result<(), Ended> {
        let revision = self.store.read(State::revision);
        self.send(&GateLine::Heartbeat { heartbeat: true, revision }).await
    }

    async fn send(&mut self, line: &GateLine) -> Result<(), Ended> {
        let mut bytes = serde_json::to_vec(line).map_err(|_| Ended)?;
        bytes.push(b'\n');
        match timeout(self.stall, self.lines.send(bytes.into())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Ended),
            Err(_) => {
                warn!(resource = %self.resource, "a gatekeeper takes nothing, its watch is ended");
                Err(Ended)
            }
        }
    }
}
