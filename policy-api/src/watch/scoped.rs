//! What a node gets: the clock, what it needs, then what changes of that, and heartbeats.
//!
//! A revision that changes nothing for the node is not told; heartbeats say how far everything is told. What waits in the
//! queue is sent before a heartbeat, so that none speaks of more than was said.

use std::time::Duration;

use tokio::{
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval_at, timeout},
};

use super::{
    Planner,
    planner::{News, Opened, Place},
    stream::{Ended, Feed, Line, Timing, stopped},
};
use crate::{
    model::{History, NodeName, WatchLine},
    scope::{Part, Piece},
};

/// How long the next one waits at most for a reader that is slow in taking its beginning.
const TURN: Duration = Duration::from_secs(2);
/// Where a line of a snapshot ends, so that what waits for a reader is bounded.
const LONGEST_LINE: usize = 64 << 10;
/// Room for what goes beyond: a piece is seldom longer.
const A_PIECE: usize = 1 << 10;

/// Feeds a node until it goes, falls behind or `stop` says so.
pub async fn feed_scope(
    planner: Planner,
    node: NodeName,
    place: Option<Place>,
    succeeds: Vec<History>,
    lines: mpsc::Sender<Line>,
    timing: Timing,
    mut stop: watch::Receiver<bool>,
) {
    let fed = async {
        let turns = planner.turns();
        let turn = turns.acquire().await.ok()?;
        let opened = planner.open(node.clone(), place.clone()).await?;
        let watch = Watch { planner: planner.clone(), node, watcher: opened.watcher };
        let Opened { history, revision, digest, whole, mut news, .. } = opened;
        let mut feed = Feed { history, succeeds, revision, digest, lines, stall: timing.stall };
        feed.begin_scope(whole, place).await.ok()?;
        // Room for all again means that all is on its way.
        let _slow = timeout(TURN, feed.lines.reserve_many(feed.lines.max_capacity())).await.is_err();
        drop(turn);
        watch.go_on(&mut feed, &mut news, timing).await.ok()
    };
    tokio::select! {
        biased;
        () = stopped(&mut stop) => {}
        _ended = fed => {}
    }
}

/// An open watch; closed when it is dropped.
struct Watch {
    planner: Planner,
    node: NodeName,
    watcher: crate::scope::Watcher,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.planner.close(self.node.clone(), self.watcher);
    }
}

impl Watch {
    async fn go_on(&self, feed: &mut Feed, news: &mut mpsc::Receiver<News>, timing: Timing) -> Result<(), Ended> {
        let first = tokio::time::Instant::now() + timing.heartbeat;
        let mut heartbeats = interval_at(first, timing.heartbeat);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = feed.lines.closed() => return Err(Ended),
                told = news.recv() => feed.tell(told.ok_or(Ended)?).await?,
                _ = heartbeats.tick() => {
                    // Read before the queue is emptied: what is in it later may be beyond.
                    let planned = self.planner.planned();
                    while let Ok(told) = news.try_recv() {
                        feed.tell(told).await?;
                    }
                    feed.revision = feed.revision.max(planned);
                    feed.beat().await?;
                }
            }
        }
    }
}

impl Feed {
    async fn begin_scope(&mut self, whole: Option<Part>, place: Option<Place>) -> Result<(), Ended> {
        self.clock().await?;
        match (whole, place) {
            (Some(whole), _) => self.send_whole(whole).await,
            (None, Some(place)) => {
                // Also where there is nothing between: the node says then what it has in force.
                let revision = std::mem::replace(&mut self.revision, place.revision);
                self.send_delta(revision, &[]).await?;
                self.heartbeat().await
            }
            (None, None) => Err(Ended),
        }
    }

    async fn send_whole(&mut self, whole: Part) -> Result<(), Ended> {
        let (revision, history) = (self.revision, self.history.clone());
        let succeeds = std::mem::take(&mut self.succeeds);
        self.write(&WatchLine::Snapshot { history, revision, succeeds }).await?;
        let mut pieces = whole.pieces.iter().peekable();
        while pieces.peek().is_some() {
            let mut line = Vec::with_capacity(LONGEST_LINE + A_PIECE);
            line.extend_from_slice(br#"{"type":"changes","changes":["#);
            write_pieces(&mut line, &mut pieces);
            line.extend_from_slice(b"]}\n");
            self.send(line.into()).await?;
        }
        self.write(&WatchLine::SnapshotEnd { revision, count: whole.count, digest: whole.digest }).await
    }

    async fn tell(&mut self, news: News) -> Result<(), Ended> {
        self.digest = news.part.digest;
        self.send_delta(news.revision, &news.part.pieces).await
    }

    async fn send_delta(&mut self, revision: crate::model::Revision, pieces: &[Piece]) -> Result<(), Ended> {
        let (history, base) = (&self.history, self.revision);
        let head = format!(r#"{{"type":"delta","history":"{history}","base":{base},"revision":{revision},"changes":["#);
        let mut line = head.into_bytes();
        for (i, piece) in pieces.iter().enumerate() {
            if i > 0 {
                line.push(b',');
            }
            piece.write(&mut line);
        }
        line.extend_from_slice(b"]}\n");
        self.revision = revision;
        self.send(line.into()).await
    }
}

/// As many as a line takes, at least one.
fn write_pieces<'a>(line: &mut Vec<u8>, pieces: &mut std::iter::Peekable<impl Iterator<Item = &'a Piece>>) {
    let mut separate = false;
    while line.len() < LONGEST_LINE
        && let Some(piece) = pieces.next()
    {
        if separate {
            line.push(b',');
        }
        separate = true;
        piece.write(line);
    }
}
