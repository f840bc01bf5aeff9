//! A committed revision, ready to be handed to everybody who watches.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;

use crate::model::{Change, Digest, History, Revision};

/// What one revision changed, as the line that all watches get: written once, shared by all.
#[derive(Debug)]
pub struct Delta {
    pub base: Revision,
    pub revision: Revision,
    /// The digest after it; unknown for what was read back from the journal.
    pub digest: Option<Digest>,
    /// The JSON line, with its line end.
    pub line: Bytes,
    /// The same for who follows as it is committed; empty for what was read back from the journal.
    pub changes: Vec<Change>,
}

impl Delta {
    /// `changes` is the JSON list, as the journal holds it.
    pub(super) fn new(
        history: &History,
        base: Revision,
        revision: Revision,
        digest: Option<Digest>,
        changes: &str,
    ) -> Self {
        let head = format!(r#"{{"type":"delta","history":"{history}","base":{base},"revision":{revision},"changes":"#);
        let line = [&head, changes, "}\n"].concat().into();
        Self { base, revision, digest, line, changes: Vec::new() }
    }
}

/// The last revisions, for watches that resume.
#[derive(Debug, Default)]
pub(super) struct Ring {
    deltas: VecDeque<Arc<Delta>>,
    bytes: usize,
}

impl Ring {
    /// Bounds that keep a resume cheaper than a snapshot, and the memory of a burst of large changes bounded.
    pub(super) const MOST_DELTAS: usize = 4096;
    pub(super) const MOST_BYTES: usize = 64 << 20;

    pub(super) fn push(&mut self, delta: Arc<Delta>) {
        self.bytes += delta.line.len();
        self.deltas.push_back(delta);
        while self.deltas.len() > Self::MOST_DELTAS || self.bytes > Self::MOST_BYTES {
            let Some(oldest) = self.deltas.pop_front() else { break };
            self.bytes -= oldest.line.len();
        }
    }

    /// Everything behind `since`, if the ring reaches back so far.
    pub(super) fn behind(&self, since: Revision, head: Revision) -> Option<Vec<Arc<Delta>>> {
        if since == head {
            return Some(Vec::new());
        }
        let first = self.deltas.front()?.base;
        let skip = usize::try_from(since.0.checked_sub(first.0)?).ok()?;
        let deltas: Vec<_> = self.deltas.iter().skip(skip).cloned().collect();
        deltas.first().is_some_and(|delta| delta.base == since).then_some(deltas)
    }
}

/// The changes of a revision as JSON, as lines of watches carry them: without hashes of tokens.
pub(super) fn changes_json(changes: &[Change]) -> Result<String, serde_json::Error> {
    serde_json::to_string(&changes.iter().map(Change::without_secrets).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::WatchLine;

    fn history() -> History {
        "00ff00ff00ff00ff".parse().expect("history")
    }

    fn delta(revision: u64) -> Arc<Delta> {
        Arc::new(Delta::new(&history(), Revision(revision - 1), Revision(revision), None, "[]"))
    }

    #[test]
    fn the_line_is_what_readers_of_a_watch_expect() {
        let changes = vec![Change::DeleteRule { id: crate::model::RuleId(7) }];
        let json = changes_json(&changes).expect("json");
        let delta = Delta::new(&history(), Revision(4), Revision(5), None, &json);
        let expected = WatchLine::Delta { history: history(), base: Revision(4), revision: Revision(5), changes };
        assert_eq!(serde_json::from_slice::<WatchLine>(&delta.line).expect("readable"), expected);
        assert!(delta.line.ends_with(b"}\n"));
    }

    #[test]
    fn a_watch_resumes_exactly_behind_its_place_or_not_at_all() {
        let mut ring = Ring::default();
        (3..=6).for_each(|revision| ring.push(delta(revision)));
        let behind = |since| {
            let deltas = ring.behind(Revision(since), Revision(6));
            deltas.map(|deltas| deltas.iter().map(|delta| delta.revision.0).collect::<Vec<_>>())
        };
        assert_eq!(behind(6), Some(vec![]));
        assert_eq!(behind(5), Some(vec![6]));
        assert_eq!(behind(2), Some(vec![3, 4, 5, 6]));
        assert_eq!((behind(1), behind(0), behind(7)), (None, None, None));
    }
}
