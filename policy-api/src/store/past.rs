//! The store as it was: what stands now, with revisions undone that came since, or another past state with some done again.
//!
//! Takes time and memory by how far that is, so one question at a time, and the last answers are kept.

use std::sync::{Arc, Mutex, PoisonError};

use super::{
    chain::Tip,
    engine::{Journal, Order},
    error::DatabaseError,
    refusal::Refusal,
    state::State,
};
use crate::model::{At, HistoryEntry, Invalid, Revision, Timestamp};

/// Past states that are kept.
const KEPT: usize = 4;
/// Lines that are read at once.
const PAGE: usize = 512;

/// Reads the past of one store.
pub(super) struct Past {
    journal: Arc<dyn Journal>,
    /// The last answers, newest question last.
    kept: Mutex<Vec<Arc<State>>>,
}

impl Past {
    pub(super) fn new(journal: Arc<dyn Journal>) -> Self {
        Self { journal, kept: Mutex::default() }
    }

    /// Everything that stood then; `present` says what stands now.
    pub(super) fn state(&self, present: impl FnOnce() -> State, at: At) -> Result<Arc<State>, Refusal> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let present = present();
        kept.retain(|state| state.history() == present.history());
        let revision = self.revision_at(&present, at)?;
        if revision == present.revision() {
            return Ok(Arc::new(present));
        }
        if let Some(place) = kept.iter().position(|state| state.revision() == revision) {
            let state = kept.remove(place);
            kept.push(state.clone());
            return Ok(state);
        }
        let distance = |state: &State| state.revision().0.abs_diff(revision.0);
        let nearest =
            kept.iter().min_by_key(|state| distance(state)).filter(|kept| distance(kept) < distance(&present));
        let start = nearest.map_or(present, |kept| State::clone(kept));
        let state = Arc::new(self.led_to(start, revision)?);
        if kept.len() == KEPT {
            kept.remove(0);
        }
        kept.push(state.clone());
        Ok(state)
    }

    /// The last revision by then, of which it must still be known what came since.
    fn revision_at(&self, present: &State, at: At) -> Result<Revision, Refusal> {
        let (anchor, _) = self.journal.bounds()?;
        match at {
            At::Revision(revision) if revision > present.revision() => {
                Err(Refusal::not_found("at", "a revision", &revision.to_string(), []))
            }
            At::Revision(revision) if revision < oldest(&anchor) => Err(self.forgotten(&anchor, &at)),
            At::Revision(revision) => Ok(revision),
            At::Time(time) => {
                let later = self.journal.first(&|mark| mark.latest > time)?;
                let revision = match later {
                    Some(entry) if entry.is_revision() => Revision(entry.revision.0.saturating_sub(1)),
                    Some(entry) => entry.revision,
                    None => present.revision(),
                };
                // Others may have gone on meanwhile.
                let revision = revision.min(present.revision());
                let is_known = revision >= oldest(&anchor) && anchor.latest.is_none_or(|latest| latest <= time);
                if is_known { Ok(revision) } else { Err(self.forgotten(&anchor, &at)) }
            }
        }
    }

    fn forgotten(&self, anchor: &Tip, at: &At) -> Refusal {
        let first = self.journal.lines(anchor.number + 1..=u64::MAX, Order::OldestFirst, 1);
        let first = first.ok().and_then(|lines| lines.first()?.entry().ok());
        let since: Option<Timestamp> = anchor.latest.or(first.map(|entry| entry.time));
        let since = since.map(|since| format!(" of {since}")).unwrap_or_default();
        let problem = format!("is not known any more: the history goes back to revision {}{since}", oldest(anchor));
        let invalid = Invalid::new(at, problem, "ask for that or what came later");
        Refusal::NotFound(invalid.in_field("at"), None)
    }

    /// The state as of this revision, undone or done again from another.
    fn led_to(&self, mut state: State, revision: Revision) -> Result<State, DatabaseError> {
        while state.revision() > revision {
            self.undo_some(&mut state, revision)?;
        }
        while state.revision() < revision {
            self.redo_some(&mut state, revision)?;
        }
        Ok(state)
    }

    fn undo_some(&self, state: &mut State, revision: Revision) -> Result<(), DatabaseError> {
        let lines = self.journal.lines(1..=state.tip().number, Order::NewestFirst, PAGE)?;
        if lines.first().map(|line| line.number) != Some(state.tip().number) {
            return Err(missing(state.tip().number));
        }
        for line in lines {
            let entry = line.entry()?;
            if entry.is_revision() && entry.revision <= revision {
                return prove(state, &entry);
            }
            if entry.is_revision() {
                check_revision(&entry, state.revision())?;
                state.apply(Revision(entry.revision.0 - 1), &entry.undoing());
            }
            state.set_tip(Tip { number: line.number - 1, ..state.tip() });
        }
        Ok(())
    }

    fn redo_some(&self, state: &mut State, revision: Revision) -> Result<(), DatabaseError> {
        let next = state.tip().number + 1;
        let lines = self.journal.lines(next..=u64::MAX, Order::OldestFirst, PAGE)?;
        if lines.first().map(|line| line.number) != Some(next) {
            return Err(missing(next));
        }
        for line in lines {
            if state.revision() == revision {
                break;
            }
            let entry = line.entry()?;
            if entry.is_revision() {
                check_revision(&entry, state.revision().next())?;
                state.apply(entry.revision, &entry.changes);
                prove(state, &entry)?;
            }
            state.set_tip(Tip { number: line.number, ..state.tip() });
        }
        Ok(())
    }
}

/// Looks whether the state is what stood after this entry.
fn prove(state: &State, entry: &HistoryEntry) -> Result<(), DatabaseError> {
    if entry.digest.is_none_or(|digest| digest == state.replica().digest()) {
        return Ok(());
    }
    let problem = format!("its journal does not lead to what stood at revision {}", entry.revision);
    Err(DatabaseError::Damaged(problem))
}

fn missing(number: u64) -> DatabaseError {
    DatabaseError::Damaged(format!("entry {number} of the journal is missing"))
}

/// The first revision of which everything is known: what stood before the store was made is nothing to ask for.
fn oldest(anchor: &Tip) -> Revision {
    anchor.revision.max(Revision(1))
}

fn check_revision(entry: &HistoryEntry, expected: Revision) -> Result<(), DatabaseError> {
    if entry.revision == expected {
        return Ok(());
    }
    let problem = format!("entry {} of the journal is of revision {}, not {expected}", entry.number, entry.revision);
    Err(DatabaseError::Damaged(problem))
}
