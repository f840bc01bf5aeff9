//! Follows the watch: keeps every line before it takes effect, and hands on the state that stands.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use policy_api::{
    client::ClientError,
    model::{Follower, Inconsistent, Revision, WatchLine},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tracing::{info, warn};

use super::{Api, State};
use crate::{
    clock::ApiClock,
    random,
    state::{Journal, StateError},
};

/// The follower of the watch. Latest state wins: who reads slowly skips what was overtaken.
pub struct Follow {
    api: Arc<Api>,
    journal: Journal,
    follower: Follower,
    state: watch::Sender<Option<State>>,
    clock: watch::Sender<Option<ApiClock>>,
    directory: PathBuf,
}

/// What the follower hands on.
pub struct Followed {
    pub state: watch::Receiver<Option<State>>,
    pub clock: watch::Receiver<Option<ApiClock>>,
}

#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Api(#[from] ClientError),
    #[error("the watch does not fit what was read before: {0}")]
    Inconsistent(#[from] Inconsistent),
    #[error("no line for {} s", SILENCE.as_secs())]
    Silent,
    #[error(transparent)]
    State(#[from] StateError),
}

impl Ended {
    /// How long the API wants not to be asked.
    fn retry_after(&self) -> Duration {
        match self {
            Self::Api(error) => error.retry_after().unwrap_or_default(),
            Self::Inconsistent(_) | Self::Silent | Self::State(_) => Duration::ZERO,
        }
    }
}

/// Several heartbeats long.
const SILENCE: Duration = Duration::from_secs(20);
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Between half of a pause and all of it: agents that lost their API at once do not come back at once.
fn scattered(pause: Duration) -> Duration {
    let part = random::number::<1>().map_or(u8::MAX, |[part]| part);
    pause / 2 + pause / 2 * u32::from(part) / u32::from(u8::MAX)
}

impl Follow {
    /// Starts from what the last agent read, so that its state stands before any API answers.
    pub fn resume(api: Arc<Api>, directory: &Path) -> Result<(Self, Followed), StateError> {
        let (journal, follower) = Journal::open(directory)?;
        let (state, states) = watch::channel(follower.held().map(|held| Arc::new(held.clone())));
        let (clock, clocks) = watch::channel(ApiClock::resume(directory)?);
        let directory = directory.to_path_buf();
        Ok((Self { api, journal, follower, state, clock, directory }, Followed { state: states, clock: clocks }))
    }

    /// Follows for ever: whatever ends a watch, another is begun where it stopped.
    pub async fn run(mut self) {
        let mut pause = SHORTEST_PAUSE;
        loop {
            let ended = self.follow_once(&mut pause).await;
            let was_connected = self.api.connected.send_replace(false);
            let Err(error) = ended else { continue };
            match &error {
                Ended::Inconsistent(refused @ Inconsistent::NotAccepted { .. }) => {
                    let trouble = refused.to_string();
                    if self.api.trouble.send_replace(Some(trouble.clone())) != Some(trouble) {
                        warn!(%error, "enforcing the last state until an operator accepts the other");
                    }
                }
                Ended::Inconsistent(_) => self.follower.forget(),
                Ended::Api(_) | Ended::Silent | Ended::State(_) => {}
            }
            if was_connected {
                warn!(%error, "the watch ended; enforcing the last state meanwhile");
            }
            sleep(scattered(pause) + error.retry_after()).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn follow_once(&mut self, pause: &mut Duration) -> Result<(), Ended> {
        let since = self.follower.held().map_or(Revision::default(), |(_, replica)| replica.revision());
        let asked = Instant::now();
        let mut watch = self.api.client.watch_scope(self.follower.held()).await?;
        // No later line of a watch is on its way for longer than it took to ask for it and to be told the time first.
        let mut longest = None;
        loop {
            let line = timeout(SILENCE, watch.next()).await.map_err(|_| Ended::Silent)??;
            if let WatchLine::Clock { now } = line {
                let clock = ApiClock::shows(now, *longest.get_or_insert_with(|| asked.elapsed()));
                clock.keep(&self.directory)?;
                self.clock.send_replace(Some(clock));
                continue;
            }
            let changed = self.follower.take(line.clone())?;
            if !self.api.connected.send_replace(true) {
                *pause = SHORTEST_PAUSE;
                self.api.trouble.send_replace(None);
                info!(api = watch.api(), since = since.0, "following the policy API");
            }
            self.journal.keep(&line, &self.follower)?;
            if changed {
                self.state.send_replace(self.follower.held().map(|held| Arc::new(held.clone())));
                // After it took effect: the disk matters only if the machine dies, and waits for nobody.
                self.journal.sync()?;
            }
        }
    }
}
