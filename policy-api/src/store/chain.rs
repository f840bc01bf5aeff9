//! The chain that entries of the journal make: each is sealed over the one before it, and the head of the store knows the
//! last seal. So a changed, missing or moved entry does not fit, and neither does an end that is missing.
//!
//! Pure: what is read and where it is kept is an engine's business.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::{error::DatabaseError, state::State};
use crate::model::{Change, EntryKind, History, HistoryEntry, Origin, Restored, Revision, Seal, Timestamp};

/// The end of the chain, or the place in it where what is kept begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tip {
    /// Of the last entry; 0 where there is none yet.
    pub(super) number: u64,
    pub(super) seal: Seal,
    pub(super) revision: Revision,
    /// The latest time of all entries.
    pub(super) latest: Option<Timestamp>,
    /// Of all lines there ever were.
    pub(super) bytes: u64,
    /// The last revision by which somebody, and not a machine, changed something.
    pub(super) intent: Revision,
    /// The last revision that was written down as in force everywhere.
    pub(super) in_force: Revision,
}

/// One entry as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) number: u64,
    pub(super) seal: Seal,
    /// The entry as JSON: what the seal is over.
    pub(super) text: String,
}

/// What does not fit about a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Misfit {
    #[error("entry {0} is missing")]
    Missing(u64),
    #[error("entry {0} is not what was sealed")]
    Seal(u64),
    #[error("entry {0} cannot be read: {1}")]
    Unreadable(u64, String),
    #[error("entry {0} stands in the place of entry {1}")]
    Moved(u64, u64),
    #[error("entries behind {0} are missing: the last one was {1}")]
    End(u64, u64),
    #[error("the end is not what the store's head says")]
    Head,
}

impl Line {
    pub(super) fn entry(&self) -> Result<HistoryEntry, DatabaseError> {
        Ok(serde_json::from_str(&self.text)?)
    }
}

impl Tip {
    /// Adds an entry, which gets its number, and seals it.
    pub(super) fn append(&mut self, mut entry: HistoryEntry) -> Result<Line, DatabaseError> {
        entry.number = self.number + 1;
        entry.latest = self.latest.filter(|latest| *latest > entry.time);
        let text = serde_json::to_string(&entry)?;
        let line = Line { number: entry.number, seal: self.seal.next(&text), text };
        *self = self.behind(&entry, &line);
        Ok(line)
    }

    /// The end with this line, if it fits.
    pub(super) fn checked(&self, line: &Line) -> Result<Self, Misfit> {
        let expected = self.number + 1;
        if line.number != expected {
            return Err(Misfit::Missing(expected));
        }
        if self.seal.next(&line.text) != line.seal {
            return Err(Misfit::Seal(expected));
        }
        let entry = line.entry().map_err(|error| Misfit::Unreadable(expected, error.to_string()))?;
        if entry.number != expected {
            return Err(Misfit::Moved(entry.number, expected));
        }
        Ok(self.behind(&entry, line))
    }

    /// Whether what was read up to here is all that there is to be.
    pub(super) fn check_end(&self, head: &Self) -> Result<(), Misfit> {
        match self {
            _ if self == head => Ok(()),
            _ if self.number < head.number => Err(Misfit::End(self.number, head.number)),
            _ => Err(Misfit::Head),
        }
    }

    /// The end with this line, which is taken as it is.
    pub(super) fn with(&self, line: &Line) -> Result<Self, DatabaseError> {
        Ok(self.behind(&line.entry()?, line))
    }

    fn behind(&self, entry: &HistoryEntry, line: &Line) -> Self {
        let is_wanted = entry.is_revision() && !matches!(entry.kind, EntryKind::Placement | EntryKind::Signer);
        Self {
            number: entry.number,
            seal: line.seal,
            revision: entry.revision,
            latest: Some(entry.latest()),
            bytes: self.bytes + u64::try_from(line.text.len()).unwrap_or(0),
            intent: if is_wanted { entry.revision } else { self.intent },
            in_force: entry.in_force.as_ref().map_or(self.in_force, |spread| spread.revision.max(self.in_force)),
        }
    }
}

/// The entry of a revision that `changes` make of a state that they were not made in yet.
pub(super) fn revision(state: &State, changes: &[Change], who: &str, origin: &Origin, now: Timestamp) -> HistoryEntry {
    let mut keys = HashSet::new();
    let first = changes.iter().map(Change::key).filter(|key| keys.insert(key.clone()));
    let before = first.filter_map(|key| state.replica().item(&key)).collect();
    let entry = HistoryEntry::new(EntryKind::of(changes), who, now, state.revision().next());
    HistoryEntry { before, changes: changes.to_vec(), ..entry.by(origin) }
}

/// The entry of a store that is put back from a copy.
pub(super) fn restoration(tip: &Tip, from: History, to: History, now: Timestamp) -> HistoryEntry {
    let entry = HistoryEntry::new(EntryKind::Restored, "restore", now, tip.revision);
    HistoryEntry { restored: Some(Restored { from, to }), ..entry }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(count: u64) -> (Tip, Vec<Line>) {
        let mut tip = Tip::default();
        let now = Timestamp::now();
        let entry = |number| HistoryEntry::new(EntryKind::Intent, &format!("w{number}"), now, Revision(number));
        let lines = (1..=count).map(|number| tip.append(entry(number)).expect("a line")).collect();
        (tip, lines)
    }

    fn walk(head: Tip, lines: &[Line]) -> Result<(), Misfit> {
        lines.iter().try_fold(Tip::default(), |tip, line| tip.checked(line))?.check_end(&head)
    }

    #[test]
    fn whatever_is_done_to_a_line_the_first_that_does_not_fit_is_named() {
        let (head, lines) = chain(9);
        assert_eq!(walk(head, &lines), Ok(()));
        let tampered = |tamper: fn(&mut Vec<Line>)| {
            let mut lines = lines.clone();
            tamper(&mut lines);
            walk(head, &lines)
        };
        assert_eq!(tampered(|lines| lines[3].text = lines[3].text.replace("w4", "w5")), Err(Misfit::Seal(4)));
        assert_eq!(tampered(|lines| drop(lines.remove(3))), Err(Misfit::Missing(4)));
        assert_eq!(tampered(|lines| lines.swap(3, 4)), Err(Misfit::Missing(4)));
        let swapped_texts = tampered(|lines| {
            let text = lines[3].text.clone();
            lines[3].text = std::mem::replace(&mut lines[4].text, text);
        });
        assert_eq!(swapped_texts, Err(Misfit::Seal(4)));
        assert_eq!(tampered(|lines| lines.truncate(7)), Err(Misfit::End(7, 9)));
        assert_eq!(tampered(|lines| drop(lines.remove(0))), Err(Misfit::Missing(1)));
    }

    #[test]
    fn who_makes_the_chain_anew_does_not_meet_the_head() {
        let (head, lines) = chain(9);
        let mut tip = Tip::default();
        let mut forged = Vec::new();
        for line in &lines {
            let mut entry = line.entry().expect("an entry");
            if entry.number == 4 {
                entry.who = "somebody else".to_owned();
            }
            forged.push(tip.append(entry).expect("a line"));
        }
        assert_eq!(walk(head, &forged), Err(Misfit::Head));
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_turn_the_order_round() {
        let mut tip = Tip::default();
        let late: Timestamp = "2026-01-31T12:00:00Z".parse().expect("a time");
        let early: Timestamp = "2026-01-31T11:00:00Z".parse().expect("a time");
        for time in [late, early] {
            tip.append(HistoryEntry::new(EntryKind::Intent, "w", time, Revision(1))).expect("a line");
        }
        assert_eq!(tip.latest, Some(late));
    }
}
