//! Where the sets of ports of pairs are kept. A place goes to another pair only when no word names it and every program that
//! read such a word has ended: a set of somebody else's could hide a deny.

use std::collections::{HashMap, HashSet};

use common::{
    port_set::PortSet,
    rule::{Lengths, PairKey, SetPlace},
};

use crate::datapath::{Datapath, DatapathError, wait_for_programs};

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

    /// Gives up all sets but these, and writes those of them anew that changed.
    pub(crate) fn keep(&mut self, datapath: &mut Datapath, desired: &HashMap<PairKey, Box<PortSet>>) -> Written {
        let given_up: Vec<_> = self.held.keys().filter(|pair| !desired.contains_key(pair)).copied().collect();
        for pair in given_up {
            self.give_up(&pair);
        }
        let changed = self.held.iter().filter_map(|(pair, (place, standing))| {
            let set = desired.get(pair).filter(|set| *set != standing)?;
            Some((*pair, *place, set.clone()))
        });
        let changed: Vec<_> = changed.collect();
        self.write(datapath, changed)
    }

    /// Finds places for those of these sets that have none, as long as there are free ones.
    pub(crate) fn place(&mut self, datapath: &mut Datapath, desired: &HashMap<PairKey, Box<PortSet>>) -> Written {
        let new = desired.iter().filter(|(pair, _)| !self.held.contains_key(pair));
        let placed = new.zip(self.free()).map(|((pair, set), place)| (*pair, place, set.clone())).collect();
        self.write(datapath, placed)
    }

    /// What cannot be written has no set then: rows tell the same.
    fn write(&mut self, datapath: &mut Datapath, sets: Vec<(PairKey, SetPlace, Box<PortSet>)>) -> Written {
        let mut written = Written::default();
        for (pair, place, set) in sets {
            let result = datapath.put_port_set(place, &set);
            self.held.insert(pair, (place, set));
            match result {
                Ok(()) => written.writes += 1,
                Err(error) => {
                    written.failures.push(format!("set of ports: {error}"));
                    self.give_up(&pair);
                }
            }
        }
        written
    }

    fn give_up(&mut self, pair: &PairKey) {
        self.left.extend(self.held.remove(pair).map(|(place, _)| place));
    }

    fn free(&self) -> impl Iterator<Item = SetPlace> + use<> {
        let used: HashSet<SetPlace> = self.held.values().map(|(place, _)| place).chain(&self.left).copied().collect();
        SetPlace::all().filter(move |place| !used.contains(place))
    }

    /// Frees places that were given up, now that these are all words that stand.
    pub(crate) fn free_unread(&mut self, words: &HashMap<PairKey, Lengths>) -> Result<(), DatapathError> {
        if self.left.is_empty() {
            return Ok(());
        }
        let named: HashSet<SetPlace> = words.values().filter_map(|word| word.set()).collect();
        wait_for_programs()?;
        self.left.retain(|place| named.contains(place));
        Ok(())
    }
}

/// What writing sets did.
#[must_use]
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) writes: usize,
    pub(crate) failures: Vec<String>,
}
