//! What one watcher of everything gets, in order: the clock, the beginning, then deltas as they are committed, and heartbeats.

use std::time::Duration;

use bytes::Bytes;
use tokio::{
    sync::{broadcast::error::RecvError, mpsc, watch},
    time::{MissedTickBehavior, interval_at, timeout},
};
use tracing::warn;

use crate::{
    model::{CHANGES_PER_LINE, Change, Digest, History, Revision, Timestamp, WatchLine},
    store::{Start, Subscription},
};

/// A line with its line end.
pub type Line = Bytes;

/// How a watch is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Between heartbeats.
    pub heartbeat: Duration,
    /// How long a reader may take no line before it is given up.
    pub stall: Duration,
}

/// The watcher is gone, too slow, or we are stopping: the stream ends, and the watcher comes back to resume.
pub(super) struct Ended;

/// Feeds a watcher until it goes, falls behind or `stop` says so.
pub async fn feed(
    mut subscription: Subscription,
    lines: mpsc::Sender<Line>,
    timing: Timing,
    mut stop: watch::Receiver<bool>,
) {
    let start = std::mem::replace(&mut subscription.start, Start::Resume(Vec::new()));
    let mut feed = Feed {
        history: subscription.history,
        succeeds: subscription.succeeds,
        revision: subscription.revision,
        digest: subscription.digest,
        lines,
        stall: timing.stall,
    };
    if feed.begin(start).await.is_err() {
        return;
    }
    let first = tokio::time::Instant::now() + timing.heartbeat;
    let mut heartbeats = interval_at(first, timing.heartbeat);
    heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let fed = tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            () = feed.lines.closed() => return,
            delta = subscription.deltas.recv() => match delta {
                Ok(delta) => {
                    feed.revision = delta.revision;
                    feed.digest = delta.digest.unwrap_or(feed.digest);
                    feed.send(delta.line.clone()).await
                }
                Err(RecvError::Lagged(behind)) => {
                    warn!(behind, "a watcher is too slow, its watch is ended");
                    return;
                }
                Err(RecvError::Closed) => return,
            },
            _ = heartbeats.tick() => feed.beat().await,
        };
        if fed.is_err() {
            return;
        }
    }
}

/// Returns when we are to stop, or when nobody is left to say so.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    // What comes back borrows the value, which must not be held across anything.
    let _said = stop.wait_for(|stop| *stop).await.is_ok();
}

/// One watcher, and where it is.
pub(super) struct Feed {
    pub(super) history: History,
    pub(super) succeeds: Vec<History>,
    /// What has been sent so far amounts to this.
    pub(super) revision: Revision,
    pub(super) digest: Digest,
    pub(super) lines: mpsc::Sender<Line>,
    pub(super) stall: Duration,
}

impl Feed {
    async fn begin(&mut self, start: Start) -> Result<(), Ended> {
        self.clock().await?;
        match start {
            Start::Snapshot(items) => self.snapshot(items).await,
            Start::Resume(deltas) => {
                for delta in deltas {
                    self.send(delta.line.clone()).await?;
                }
                // So that the watcher learns at once whether it resumed from what we think it has.
                self.heartbeat().await
            }
        }
    }

    async fn snapshot(&mut self, items: Vec<Change>) -> Result<(), Ended> {
        let (revision, digest) = (self.revision, self.digest);
        let count = u64::try_from(items.len()).unwrap_or(u64::MAX);
        let (history, succeeds) = (self.history.clone(), std::mem::take(&mut self.succeeds));
        self.write(&WatchLine::Snapshot { history, revision, succeeds }).await?;
        for part in items.chunks(CHANGES_PER_LINE) {
            self.write(&WatchLine::Changes { changes: part.to_vec() }).await?;
        }
        self.write(&WatchLine::SnapshotEnd { revision, count, digest }).await
    }

    pub(super) async fn beat(&mut self) -> Result<(), Ended> {
        self.clock().await?;
        self.heartbeat().await
    }

    pub(super) async fn clock(&mut self) -> Result<(), Ended> {
        self.write(&WatchLine::Clock { now: Timestamp::now() }).await
    }

    pub(super) async fn heartbeat(&mut self) -> Result<(), Ended> {
        let (history, revision, digest) = (self.history.clone(), self.revision, self.digest);
        self.write(&WatchLine::Heartbeat { history, revision, digest }).await
    }

    pub(super) async fn write(&mut self, line: &WatchLine) -> Result<(), Ended> {
        let mut bytes = serde_json::to_vec(line).map_err(|_| Ended)?;
        bytes.push(b'\n');
        self.send(bytes.into()).await
    }

    pub(super) async fn send(&mut self, line: Line) -> Result<(), Ended> {
        match timeout(self.stall, self.lines.send(line)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Ended),
            Err(_) => {
                warn!(seconds = self.stall.as_secs(), "a watcher takes nothing, its watch is ended");
                Err(Ended)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::Delta;
    use tokio::sync::broadcast;

    const QUICK: Timing = Timing { heartbeat: Duration::from_secs(60), stall: Duration::from_millis(20) };

    fn history() -> History {
        "00ff00ff00ff00ff".parse().expect("history")
    }

    fn delta(revision: u64) -> Arc<Delta> {
        let line = format!("{revision}\n").into_bytes().into();
        let (base, revision) = (Revision(revision - 1), Revision(revision));
        Arc::new(Delta { base, revision, digest: None, line, changes: Vec::new() })
    }

    fn subscription(deltas: broadcast::Receiver<Arc<Delta>>) -> Subscription {
        let (revision, digest) = (Revision(0), Digest::default());
        Subscription {
            history: history(),
            succeeds: Vec::new(),
            revision,
            digest,
            start: Start::Resume(Vec::new()),
            deltas,
        }
    }

    /// Feeds a reader that takes nothing, and waits for the end of it.
    async fn ends(deltas: broadcast::Receiver<Arc<Delta>>, room: usize, stop: watch::Receiver<bool>) -> Vec<Line> {
        let (sender, mut lines) = mpsc::channel(room);
        let fed = timeout(Duration::from_secs(10), feed(subscription(deltas), sender, QUICK, stop)).await;
        fed.expect("the watch is ended");
        let mut left = Vec::new();
        while let Some(line) = lines.recv().await {
            left.push(line);
        }
        left
    }

    #[tokio::test]
    async fn a_reader_that_takes_nothing_is_given_up() {
        let (committed, deltas) = broadcast::channel(8);
        (1..=3).for_each(|revision| drop(committed.send(delta(revision))));
        let (_running, stop) = watch::channel(false);
        let left = ends(deltas, 3, stop).await;
        assert_eq!(left.len(), 3, "the clock, the heartbeat and the first delta");
    }

    #[tokio::test]
    async fn a_reader_that_fell_behind_gets_no_gap_but_an_end() {
        let (committed, deltas) = broadcast::channel(2);
        (1..=9).for_each(|revision| drop(committed.send(delta(revision))));
        let (_running, stop) = watch::channel(false);
        let left = ends(deltas, 16, stop).await;
        assert_eq!(left.len(), 2, "the clock, the first heartbeat, and no delta behind a gap");
    }

    #[tokio::test]
    async fn stopping_ends_a_watch() {
        let (_committed, deltas) = broadcast::channel(2);
        let (running, stop) = watch::channel(false);
        running.send_replace(true);
        assert_eq!(ends(deltas, 16, stop).await.len(), 2, "the clock and the first heartbeat");
    }
}
