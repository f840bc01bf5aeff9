//! What is written into the journal besides revisions: what was refused, what gatekeepers decided, and what came to be in force
//! everywhere.
//!
//! Nobody can flood it: of each caller so many refusals are written at once, and later ones summed up, one entry for each
//! pause. Pure but for the answers to who waits.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::model::{Attempt, EntryKind, GateNote, HistoryEntry, Origin, Revision, Spread, Timestamp};

/// Entries that one caller has at once, and how long one more takes.
const BURST: u32 = 8;
const PAUSE: Duration = Duration::from_secs(10);
/// Callers that are told apart; more of them are taken for one.
const MOST_CALLERS: usize = 1_024;
const OTHERS: &str = "others";
/// Decisions of gatekeepers that wait at most.
const MOST_DECISIONS: usize = 4_096;

/// Notes that wait to be written.
#[derive(Default)]
pub(super) struct Notes {
    callers: HashMap<String, Caller>,
    spread: Option<Spread>,
    decided: Decided,
}

/// What gatekeepers decided: who told it, from where.
#[derive(Default)]
struct Decided {
    notes: Vec<(String, Origin, GateNote)>,
    heard: Vec<oneshot::Sender<()>>,
}

/// Who was refused something.
struct Caller {
    /// Entries that may be written, as of this time.
    budget: u32,
    since: Instant,
    waiting: Option<Refused>,
}

/// What he was refused since his last entry.
struct Refused {
    origin: Origin,
    attempt: Attempt,
    heard: Vec<oneshot::Sender<()>>,
}

/// Notes that are written now.
#[derive(Default)]
pub(super) struct Due {
    refused: Vec<(String, Refused)>,
    spread: Option<Spread>,
    decided: Decided,
}

impl Notes {
    /// Notes that somebody was refused something; what is returned ends when that is written. None, if it is to be summed up
    /// with what he is refused later.
    pub(super) fn refused(
        &mut self,
        who: &str,
        origin: Origin,
        attempt: Attempt,
        now: Instant,
    ) -> Option<oneshot::Receiver<()>> {
        let who = if self.callers.contains_key(who) || self.has_room(now) { who } else { OTHERS };
        let new = || Caller { budget: BURST, since: now, waiting: None };
        let caller = self.callers.entry(who.to_owned()).or_insert_with(new);
        caller.refill(now);
        let (sender, receiver) = oneshot::channel();
        let is_due = caller.budget > 0;
        let mut refused = caller.waiting.take().unwrap_or_else(|| Refused {
            origin: Origin::default(),
            attempt: Attempt { count: 0, ..attempt.clone() },
            heard: Vec::new(),
        });
        refused.attempt = Attempt { count: refused.attempt.count + attempt.count, ..attempt };
        refused.origin = origin;
        if is_due {
            refused.heard.push(sender);
        }
        caller.waiting = Some(refused);
        is_due.then_some(receiver)
    }

    /// Whether one more caller can be told apart, once those are forgotten who have been quiet.
    fn has_room(&mut self, now: Instant) -> bool {
        if self.callers.len() >= MOST_CALLERS {
            self.callers.retain(|_, caller| {
                caller.refill(now);
                caller.waiting.is_some() || caller.budget < BURST
            });
        }
        self.callers.len() < MOST_CALLERS
    }

    /// Notes what a gatekeeper decided; what is returned ends when that is written. None, if too many wait already: then
    /// nothing was noted.
    pub(super) fn decided(
        &mut self,
        who: &str,
        origin: &Origin,
        decisions: impl IntoIterator<Item = GateNote>,
    ) -> Option<oneshot::Receiver<()>> {
        let Decided { notes, heard } = &mut self.decided;
        if notes.len() >= MOST_DECISIONS {
            return None;
        }
        notes.extend(decisions.into_iter().map(|note| (who.to_owned(), origin.clone(), note)));
        let (sender, receiver) = oneshot::channel();
        heard.push(sender);
        Some(receiver)
    }

    /// Notes up to which revision everything is in force, and what nodes took.
    pub(super) fn in_force(&mut self, spread: Spread) {
        let mut taken = self.spread.take().map(|earlier| earlier.taken).unwrap_or_default();
        taken.extend(spread.taken);
        self.spread = Some(Spread { taken, ..spread });
    }

    /// Takes what is to be written now.
    pub(super) fn take_due(&mut self, now: Instant) -> Due {
        let mut due =
            Due { refused: Vec::new(), spread: self.spread.take(), decided: std::mem::take(&mut self.decided) };
        for (who, caller) in &mut self.callers {
            caller.refill(now);
            if caller.budget > 0
                && let Some(refused) = caller.waiting.take()
            {
                caller.budget -= 1;
                due.refused.push((who.clone(), refused));
            }
        }
        due
    }
}

impl Caller {
    fn refill(&mut self, now: Instant) {
        while self.budget < BURST && now.duration_since(self.since) >= PAUSE {
            self.budget += 1;
            self.since += PAUSE;
        }
        if self.budget == BURST {
            self.since = now;
        }
    }
}

impl Due {
    pub(super) fn is_empty(&self) -> bool {
        self.refused.is_empty() && self.spread.is_none() && self.decided.heard.is_empty()
    }

    /// The entries, behind a revision; nothing is said again of what was known to be in force.
    pub(super) fn entries(&self, now: Timestamp, revision: Revision, in_force: Revision) -> Vec<HistoryEntry> {
        let refused = self.refused.iter().map(|(who, refused)| {
            let entry = HistoryEntry::new(EntryKind::Refused, who, now, revision).by(&refused.origin);
            HistoryEntry { refused: Some(refused.attempt.clone()), ..entry }
        });
        let is_news = |spread: &&Spread| spread.revision > in_force || !spread.taken.is_empty();
        let spread = self.spread.as_ref().filter(is_news).map(|spread| {
            let entry = HistoryEntry::new(EntryKind::InForce, "nodes", now, revision);
            HistoryEntry { in_force: Some(spread.clone()), ..entry }
        });
        let decided = self.decided.notes.iter().map(|(who, origin, note)| {
            let entry = HistoryEntry::new(EntryKind::Gate, who, now, revision).by(origin);
            HistoryEntry { gate: Some(note.clone()), ..entry }
        });
        refused.chain(decided).chain(spread).collect()
    }

    /// Says to who waits that it is written.
    pub(super) fn written(self) {
        let refused = self.refused.into_iter().flat_map(|(_, refused)| refused.heard);
        for heard in refused.chain(self.decided.heard) {
            // Whoever waited may have gone.
            let _gone = heard.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(path: &str) -> Attempt {
        let [method, detail] = ["POST", "no"].map(str::to_owned);
        Attempt { method, path: path.to_owned(), detail, count: 1 }
    }

    fn paths(due: &Due) -> Vec<(String, u64)> {
        due.refused.iter().map(|(_, refused)| (refused.attempt.path.clone(), refused.attempt.count)).collect()
    }

    #[test]
    fn who_is_refused_without_end_writes_an_entry_for_each_pause_and_no_more() {
        let (mut notes, begin) = (Notes::default(), Instant::now());
        let mut written = 0;
        for second in 0..100_u64 {
            let now = begin + Duration::from_secs(second);
            for turn in 0..50 {
                notes.refused("node/n1", Origin::default(), attempt(&format!("/{second}/{turn}")), now);
                written += paths(&notes.take_due(now)).len();
            }
        }
        assert_eq!(written, 8 + 9);
        let later = begin + Duration::from_secs(200);
        let rest = paths(&notes.take_due(later));
        assert_eq!(rest[0].0, "/99/49", "the last one is told");
        assert!(rest[0].1 > 400, "and how many there were: {rest:?}");
    }

    #[test]
    fn one_that_asks_without_end_takes_nothing_from_another() {
        let (mut notes, now) = (Notes::default(), Instant::now());
        for _ in 0..1_000 {
            notes.refused("node/n1", Origin::default(), attempt("/a"), now);
            notes.take_due(now);
        }
        assert!(notes.refused("node/n2", Origin::default(), attempt("/b"), now).is_some());
        assert_eq!(paths(&notes.take_due(now)), [("/b".to_owned(), 1)]);
    }

    #[test]
    fn more_callers_than_can_be_told_apart_are_one() {
        let (mut notes, now) = (Notes::default(), Instant::now());
        for caller in 0..MOST_CALLERS + 50 {
            notes.refused(&format!("caller{caller}"), Origin::default(), attempt("/a"), now);
        }
        assert_eq!(notes.take_due(now).refused.len(), MOST_CALLERS + 1);
    }
}
