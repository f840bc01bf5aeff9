//! Following what others write, over one watch of everything that all processes follow.
//!
//! A watch that breaks is taken up at another member behind the last event; one that is too old for that begins anew, and
//! the engine reads what it missed from the log.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use etcd_client::{EventType, WatchOptions};
use tokio::sync::{Notify, mpsc};
use tracing::{debug, warn};

use super::{
    Etcd,
    board::Shared,
    load::sequence_of,
    members::{LARGEST_ANSWER, Members},
    record::SnapshotPlace,
    registry::Registered,
};
use crate::{
    model::{NodeName, RuleId},
    store::{error::DatabaseError, usage::Count},
};

/// What the engine has to know of.
pub(super) enum Event {
    Log {
        sequence: u64,
        modified: i64,
        value: Vec<u8>,
    },
    Snapshot(SnapshotPlace),
    Usage(NodeName, RuleId, Count),
    /// Some events were missed.
    Missed,
}

/// The engine's end.
pub(super) struct Follower {
    pub(super) events: mpsc::Receiver<Event>,
    pub(super) bell: Arc<Notify>,
    /// Since when no watch stands.
    broken: Arc<Mutex<Option<Instant>>>,
}

/// What every node counted of every rule.
pub(super) type Usages = Vec<(NodeName, RuleId, Count)>;

const QUEUE: usize = 1024;
const PAUSE: Duration = Duration::from_millis(100);
/// How long members may take to have a new watch begin.
const ATTEMPT: Duration = Duration::from_secs(3);
/// How long no watch may stand before we say that we do not follow.
const PATIENCE: Duration = Duration::from_secs(10);

impl Follower {
    /// Reads what is registered, and follows everything behind a revision of etcd.
    pub(super) fn start(
        etcd: &Etcd,
        registered: Arc<Registered>,
        board: Arc<Shared>,
        behind: i64,
    ) -> Result<(Self, Usages), DatabaseError> {
        let (sender, events) = mpsc::channel(QUEUE);
        let (bell, broken) = (Arc::<Notify>::default(), Arc::<Mutex<_>>::default());
        etcd.runtime.block_on(registered.read(etcd))?;
        let usages = etcd.runtime.block_on(usages(etcd))?;
        etcd.runtime.block_on(present(etcd, &board))?;
        let mut feed = Feed {
            etcd: etcd.clone(),
            registered,
            board,
            events: sender,
            bell: bell.clone(),
            next: behind + 1,
            broken: broken.clone(),
        };
        etcd.runtime.spawn(async move { feed.run().await });
        Ok((Self { events, bell, broken }, usages))
    }

    pub(super) fn is_following(&self) -> bool {
        let broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        broken.is_none_or(|since| since.elapsed() < PATIENCE)
    }
}

/// The end that watches.
struct Feed {
    etcd: Etcd,
    registered: Arc<Registered>,
    board: Arc<Shared>,
    events: mpsc::Sender<Event>,
    bell: Arc<Notify>,
    /// The revision of etcd to go on from.
    next: i64,
    broken: Arc<Mutex<Option<Instant>>>,
}

/// Why a watch ended.
enum Ended {
    /// The engine is gone.
    Left,
    Broken(String),
    /// What it was to begin with is gone.
    TooOld,
}

impl Feed {
    async fn run(&mut self) {
        loop {
            let member = self.members().current();
            match self.watch(member).await {
                Ended::Left => return,
                Ended::Broken(failure) => {
                    debug!(%failure, "a watch of etcd broke; taking it up elsewhere");
                    self.members().leave(member);
                    self.note(false);
                    tokio::time::sleep(PAUSE).await;
                }
                Ended::TooOld => {
                    warn!("events of etcd were missed; reading anew what they were about");
                    if let Err(failure) = self.begin_anew().await {
                        warn!(error = %failure, "cannot read etcd anew; trying again");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        }
    }

    fn members(&self) -> &Members {
        &self.etcd.members
    }

    fn note(&self, stands: bool) {
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        *broken = if stands { None } else { broken.or_else(|| Some(Instant::now())) };
    }

    async fn watch(&mut self, member: usize) -> Ended {
        let options = WatchOptions::new().with_prefix().with_start_revision(self.next);
        let key = self.etcd.keys.followed();
        let opening = async {
            let client = self.members().client(member).await?;
            let mut client = client.watch_client().max_decoding_message_size(LARGEST_ANSWER);
            client.watch(key, Some(options)).await
        };
        let mut stream = match tokio::time::timeout(ATTEMPT, opening).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Ended::Broken(error.to_string()),
            Err(_) => return Ended::Broken("no watch began in time".to_owned()),
        };
        loop {
            let message = tokio::select! {
                () = self.events.closed() => return Ended::Left,
                message = stream.message() => message,
            };
            let response = match message {
                Ok(Some(response)) => response,
                Ok(None) => return Ended::Broken("it was ended".to_owned()),
                Err(error) => return Ended::Broken(error.to_string()),
            };
            if response.compact_revision() > 0 {
                return Ended::TooOld;
            }
            if response.canceled() {
                return Ended::Broken(response.cancel_reason().to_owned());
            }
            self.note(true);
            for event in response.events() {
                let Some(pair) = event.kv() else { continue };
                let put = (event.event_type() == EventType::Put).then(|| pair.value());
                if self.take(pair.key(), put, pair.mod_revision()).await.is_err() {
                    return Ended::Left;
                }
                self.next = self.next.max(pair.mod_revision() + 1);
            }
            self.bell.notify_one();
        }
    }

    /// Hands an event on; fails if nobody is there to take it.
    async fn take(&self, key: &[u8], put: Option<&[u8]>, modified: i64) -> Result<(), mpsc::error::SendError<Event>> {
        match self.read(key, put, modified) {
            Ok(Some(event)) => self.events.send(event).await,
            Ok(None) => Ok(()),
            Err(failure) => {
                warn!(key = %String::from_utf8_lossy(key), error = %failure, "a value in etcd cannot be read");
                Ok(())
            }
        }
    }

    /// What an event is about. What is registered or on the board is taken at once.
    fn read(&self, key: &[u8], put: Option<&[u8]>, modified: i64) -> Result<Option<Event>, DatabaseError> {
        let text = std::str::from_utf8(key).unwrap_or_default();
        let keys = &self.etcd.keys;
        if let Some(hash) = text.strip_prefix(&keys.tokens()) {
            self.registered.hear_token(hash, put)?;
        } else if text == keys.succeeds() {
            self.registered.hear_succeeds(put)?;
        } else if let Some(place) = text.strip_prefix(&keys.presence()) {
            self.board.hear(place, put)?;
        } else if let Some(value) = put {
            if text.starts_with(&keys.logs()) {
                return Ok(Some(Event::Log { sequence: sequence_of(key)?, modified, value: value.to_vec() }));
            }
            if text == keys.snapshot() {
                return Ok(Some(Event::Snapshot(serde_json::from_slice(value)?)));
            }
            if let Some(place) = text.strip_prefix(&keys.usages()) {
                let (node, rule, count) = usage(place, value)?;
                return Ok(Some(Event::Usage(node, rule, count)));
            }
        }
        Ok(None)
    }

    async fn begin_anew(&mut self) -> Result<(), DatabaseError> {
        self.next = self.registered.read(&self.etcd).await? + 1;
        self.board.forget_others();
        present(&self.etcd, &self.board).await?;
        let usages = usages(&self.etcd).await?;
        for (node, rule, count) in usages {
            let _left = self.events.send(Event::Usage(node, rule, count)).await;
        }
        let _left = self.events.send(Event::Missed).await;
        self.bell.notify_one();
        Ok(())
    }
}

/// Reads which nodes are at other processes.
async fn present(etcd: &Etcd, board: &Shared) -> Result<(), DatabaseError> {
    let prefix = etcd.keys.presence();
    for (key, value, _) in etcd.members.range(prefix.as_bytes(), &super::behind(&prefix), None).await? {
        let place = String::from_utf8_lossy(key.get(prefix.len()..).unwrap_or_default()).into_owned();
        board.hear(&place, Some(&value))?;
    }
    Ok(())
}

pub(super) async fn usages(etcd: &Etcd) -> Result<Usages, DatabaseError> {
    let prefix = etcd.keys.usages();
    let pairs = etcd.members.range(prefix.as_bytes(), &super::behind(&prefix), None).await?;
    let place = |key: &[u8]| String::from_utf8_lossy(key.get(prefix.len()..).unwrap_or_default()).into_owned();
    pairs.into_iter().map(|(key, value, _)| usage(&place(&key), &value)).collect()
}

/// `RULE/NODE`, and what it counted.
fn usage(place: &str, value: &[u8]) -> Result<(NodeName, RuleId, Count), DatabaseError> {
    let damaged = || DatabaseError::Damaged(format!("usage of `{place}`"));
    let (rule, node) = place.split_once('/').ok_or_else(damaged)?;
    Ok((node.parse()?, RuleId(rule.parse().map_err(|_| damaged())?), serde_json::from_slice(value)?))
}
