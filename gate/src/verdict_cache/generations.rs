//! A map that holds so many at most and forgets first what was not asked for lately: two halves, of which the older is dropped
//! when the younger is full, and what is asked for moves to the younger.

use std::collections::HashMap;

use super::key::Key;

pub(super) struct Generations<V> {
    young: HashMap<Key, V>,
    old: HashMap<Key, V>,
    half: usize,
}

impl<V> Generations<V> {
    pub(super) fn holding(entries: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), half: entries.div_ceil(2).max(1) }
    }

    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Moves what it finds to the younger half, where that takes no memory.
    pub(super) fn get(&mut self, key: &Key) -> Option<&V> {
        let has_room = self.young.len() < self.half.min(self.young.capacity());
        if has_room && let Some((key, value)) = self.old.remove_entry(key) {
            self.young.insert(key, value);
        }
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// Returns the half that had to go, if one had to.
    #[must_use]
    pub(super) fn insert(&mut self, key: Key, value: V) -> HashMap<Key, V> {
        let mut gone = HashMap::new();
        self.old.remove(&key);
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            gone = std::mem::replace(&mut self.old, std::mem::take(&mut self.young));
        }
        self.young.insert(key, value);
        gone
    }

    pub(super) fn remove(&mut self, key: &Key) {
        self.young.remove(key);
        self.old.remove(key);
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(&V) -> bool) {
        self.young.retain(|_, value| keep(value));
        self.old.retain(|_, value| keep(value));
    }

    pub(super) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }
}
