//! When revisions were in force, everywhere and on single nodes, as entries behind them say.

use std::collections::BTreeMap;

use super::{MOST_LOOKED_AT, PAGE, Read};
use crate::{
    model::{HistoryEntry, InForceOn, NodeName, Spread, Timestamp},
    store::{
        chain::Tip,
        engine::{Journal, Order},
        error::DatabaseError,
    },
};

/// What was said of the entries that were found, oldest first.
#[derive(Debug, Default)]
pub(super) struct Spreads {
    said: Vec<Said>,
    of_nodes: bool,
}

#[derive(Debug)]
struct Said {
    /// The entry's.
    number: u64,
    time: Timestamp,
    spread: Spread,
}

impl Spreads {
    pub(super) fn everywhere(&self, entry: &HistoryEntry) -> Option<Timestamp> {
        let covers = |said: &&Said| said.spread.revision >= entry.revision;
        self.behind(entry).find(covers).map(|said| said.time)
    }

    /// Of each node the first time by which it was said to have it.
    pub(super) fn on_nodes(&self, entry: &HistoryEntry) -> Vec<InForceOn> {
        if !self.of_nodes {
            return Vec::new();
        }
        let mut times: BTreeMap<&NodeName, Timestamp> = BTreeMap::new();
        let taken = self.behind(entry).flat_map(|said| &said.spread.taken);
        for taken in taken.filter(|taken| (taken.first..=taken.last).contains(&entry.revision)) {
            times.entry(&taken.node).and_modify(|at| *at = taken.at.min(*at)).or_insert(taken.at);
        }
        times.into_iter().map(|(node, at)| InForceOn { node: node.clone(), at }).collect()
    }

    fn behind(&self, entry: &HistoryEntry) -> impl Iterator<Item = &Said> {
        let number = entry.is_revision().then_some(entry.number);
        self.said.iter().filter(move |said| number.is_some_and(|number| said.number > number))
    }
}

/// Entries behind the one that says "everywhere" among which another process may still say what its nodes took.
const STRAGGLERS: usize = PAGE;

/// Reads what was said of these entries.
pub(super) fn of(journal: &dyn Journal, found: &[Read], tip: Tip, of_nodes: bool) -> Result<Spreads, DatabaseError> {
    let revisions = || found.iter().map(|(entry, _)| entry).filter(|entry| entry.is_revision());
    let known = || revisions().filter(|entry| of_nodes || entry.revision <= tip.in_force);
    let mut spreads = Spreads { said: Vec::new(), of_nodes };
    let (Some(from), Some(last)) = (known().map(|entry| entry.number).min(), known().map(|entry| entry.revision).max())
    else {
        return Ok(spreads);
    };
    let (mut next, mut left) = (from + 1, MOST_LOOKED_AT);
    while next <= tip.number && left > 0 {
        let lines = journal.lines(next..=tip.number, Order::OldestFirst, PAGE.min(left))?;
        let Some(end) = lines.last().map(|line| line.number) else { break };
        (next, left) = (end + 1, left - lines.len());
        for line in lines {
            let HistoryEntry { number, time, in_force: Some(spread), .. } = line.entry()? else { continue };
            if spread.revision >= last {
                left = left.min(if of_nodes { STRAGGLERS } else { 0 });
            }
            spreads.said.push(Said { number, time, spread });
        }
    }
    Ok(spreads)
}
