//! Where the sets of ports of pairs are kept. A place goes to another pair only when no word names it and every program that
//! read such a word has ended: a set of somebody else's could hide a deny.

use std::collections::{BTreeSet, HashMap, HashSet};

use common::{
    port_set::PortSet,
    rule::{Lengths, PairKey, SetPlace},
};

use crate::datapath::{Datapath, DatapathError};

/// Which pair's set is at which place, as this agent wrote or found it.
#[derive(Debug, Default)]
pub(crate) struct PortSets {
    held: HashMap<PairKey, (SetPlace, Box<PortSet>)>,
    /// Places that were somebody's and that programs may still read.
    left: Vec<SetPlace>,
}

impl PortSets {
    /// Reads the sets that these words name.
    pub(crate) fn adopt(datapath: &Datapath, lengths: &HashMap<PairKey, Lengths>) -> Result<Self, DatapathError> {
        let mut sets = Self::default();
        let mut taken = HashSet::new();
        for (pair, word) in lengths {
            let Some(place) = word.set().filter(|place| SetPlace::all().any(|known| known == *place)) else { continue };
            // Of two that name one place, which only a damaged map has, the second gets a place of its own.
            if taken.insert(place) {
                sets.held.insert(*pair, (place, Box::new(datapath.port_set(place)?)));
            }
        }
        Ok(sets)
    }

    /// The word of a pair with the place of its set.
    pub(crate) fn word(&self, pair: &PairKey, lengths: Lengths) -> Lengths {
        lengths.with_set(self.held.get(pair).map(|(place, _)| *place))
    }

    /// Writes these sets and gives up all others. What cannot be written has no set then: rows tell the same.
    pub(crate) fn settle(&mut self, datapath: &mut Datapath, desired: &HashMap<PairKey, Box<PortSet>>) -> Settled {
        let mut settled = Settled::default();
        let given_up: Vec<_> = self.held.keys().filter(|pair| !desired.contains_key(pair)).copied().collect();
        for pair in given_up {
            self.give_up(&pair);
        }
        let mut free = self.free();
        for (pair, set) in desired {
            let held = self.held.get(pair);
            if held.is_some_and(|(_, standing)| standing == set) {
                continue;
            }
            let Some(place) = held.map(|(place, _)| *place).or_else(|| free.pop_first()) else { continue };
            match datapath.put_port_set(place, set) {
                Ok(()) => {
                    settled.writes += 1;
                    self.held.insert(*pair, (place, set.clone()));
                }
                Err(error) => {
                    settled.failures.push(format!("set of ports: {error}"));
                    self.give_up(pair);
                }
            }
        }
        settled
    }

    fn give_up(&mut self, pair: &PairKey) {
        self.left.extend(self.held.remove(pair).map(|(place, _)| place));
    }

    fn free(&self) -> BTreeSet<SetPlace> {
        let used: HashSet<SetPlace> = self.held.values().map(|(place, _)| *place).chain(self.left.clone()).collect();
        SetPlace::all().filter(|place| !used.contains(place)).collect()
    }

    /// Frees places that were given up, now that these are all words that stand.
    pub(crate) fn free_unread(
        &mut self,
        datapath: &Datapath,
        words: &HashMap<PairKey, Lengths>,
    ) -> Result<(), DatapathError> {
        if self.left.is_empty() {
            return Ok(());
        }
        let named: HashSet<SetPlace> = words.values().filter_map(|word| word.set()).collect();
        datapath.wait_for_programs()?;
        self.left.retain(|place| named.contains(place));
        Ok(())
    }
}

/// What writing sets did.
#[must_use]
#[derive(Debug, Default)]
pub(crate) struct Settled {
    pub(crate) writes: usize,
    pub(crate) failures: Vec<String>,
}
