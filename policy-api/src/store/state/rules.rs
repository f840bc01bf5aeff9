//! Rules by what they say. An entry is a few words, as there are as many as rules: what a rule says stands in the rule alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::BuildHasher,
    ops::Bound,
    sync::Arc,
};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::State;
use crate::model::{AppName, Rule, RuleFilter, RuleId, Selector, Tuple};

/// The rules that an index points into.
type Rules = BTreeMap<RuleId, Arc<Rule>>;

/// The indexes.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    rows: u64,
    hasher: RandomState,
    by_tuple: HashTable<RuleId>,
    by_source: BTreeSet<(Selector, Selector, RuleId)>,
    by_destination: BTreeSet<(Selector, RuleId)>,
}

const FIRST: RuleId = RuleId(0);
const LAST: RuleId = RuleId(u32::MAX);
/// No selector sorts before it.
const LOWEST: Selector = Selector::Host;

impl State {
    /// How many rows all rules together need.
    pub fn rows(&self) -> u64 {
        self.rules.rows
    }

    pub fn rule(&self, id: RuleId) -> Option<&Arc<Rule>> {
        self.replica.rules.get(&id)
    }

    pub fn rule_with(&self, tuple: &Tuple) -> Option<&Arc<Rule>> {
        let rules = &self.replica.rules;
        let id = self.rules.by_tuple.find(self.rules.hasher.hash_one(tuple), |id| rules[id].tuple() == *tuple)?;
        self.rule(*id)
    }

    /// The rules from one selector to another, oldest first.
    pub fn rules_between(&self, source: &Selector, destination: &Selector) -> impl Iterator<Item = &Arc<Rule>> {
        self.rules.between(source, destination).filter_map(|id| self.rule(id))
    }

    /// The rules that a filter asks for, oldest first, behind `after`.
    pub fn rules_matching(&self, filter: &RuleFilter, after: Option<RuleId>, limit: usize) -> Vec<Arc<Rule>> {
        let behind = after.map_or(0, |id| id.0.saturating_add(1));
        if *filter == RuleFilter::default() {
            return self.replica.rules.range(RuleId(behind)..).map(|(_, rule)| rule.clone()).take(limit).collect();
        }
        let ids = self.candidates(filter);
        let rules = ids.range(RuleId(behind)..).filter_map(|id| self.rule(*id));
        rules.filter(|rule| fits(rule, filter)).take(limit).cloned().collect()
    }

    /// The smallest indexed set that holds all rules a filter asks for.
    fn candidates(&self, filter: &RuleFilter) -> BTreeSet<RuleId> {
        match (&filter.source, &filter.destination, &filter.app) {
            (Some(source), Some(destination), _) => self.rules.between(source, destination).collect(),
            (Some(source), None, _) => self.rules.from(source).collect(),
            (None, Some(destination), _) => self.rules.to(destination).collect(),
            (None, None, Some(app)) => self.rules_naming(app),
            (None, None, None) => self.replica.rules.keys().copied().collect(),
        }
    }

    /// Whether some rule names this app.
    pub fn is_named(&self, app: &AppName) -> bool {
        let app = Selector::App(app.clone());
        self.rules.from(&app).next().is_some() || self.rules.to(&app).next().is_some()
    }

    /// The rules with a side that is this app by name, oldest first.
    pub(in crate::store) fn rules_naming(&self, app: &AppName) -> BTreeSet<RuleId> {
        let app = Selector::App(app.clone());
        self.rules.from(&app).chain(self.rules.to(&app)).collect()
    }
}

impl Index {
    fn between(&self, source: &Selector, destination: &Selector) -> impl Iterator<Item = RuleId> {
        let [first, last] = [FIRST, LAST].map(|id| (source.clone(), destination.clone(), id));
        self.by_source.range(first..=last).map(|(.., id)| *id)
    }

    fn from<'a>(&'a self, source: &'a Selector) -> impl Iterator<Item = RuleId> + 'a {
        let from = self.by_source.range((source.clone(), LOWEST, FIRST)..);
        from.take_while(move |(of, ..)| of == source).map(|(.., id)| *id)
    }

    fn to(&self, destination: &Selector) -> impl Iterator<Item = RuleId> {
        let [first, last] = [FIRST, LAST].map(|id| Bound::Included((destination.clone(), id)));
        self.by_destination.range((first, last)).map(|(_, id)| *id)
    }

    /// Takes up a rule that is not among `rules` yet.
    pub(super) fn note(&mut self, rule: &Rule, rules: &Rules) {
        let Self { rows, hasher, by_tuple, by_source, by_destination } = self;
        *rows += rule.rows();
        by_tuple.insert_unique(hasher.hash_one(rule.tuple()), rule.id, |id| hasher.hash_one(rules[id].tuple()));
        by_source.insert((rule.source.clone(), rule.destination.clone(), rule.id));
        by_destination.insert((rule.destination.clone(), rule.id));
    }

    /// Drops a rule that is about to go.
    pub(super) fn forget(&mut self, rule: &Rule) {
        self.rows -= rule.rows();
        if let Ok(entry) = self.by_tuple.find_entry(self.hasher.hash_one(rule.tuple()), |id| *id == rule.id) {
            entry.remove();
        }
        self.by_source.remove(&(rule.source.clone(), rule.destination.clone(), rule.id));
        self.by_destination.remove(&(rule.destination.clone(), rule.id));
    }
}

fn fits(rule: &Rule, filter: &RuleFilter) -> bool {
    let source = filter.source.as_ref().is_none_or(|source| rule.source == *source);
    let destination = filter.destination.as_ref().is_none_or(|destination| rule.destination == *destination);
    let either = |app: &AppName| [&rule.source, &rule.destination].iter().any(|side| side.app() == Some(app));
    source && destination && filter.app.as_ref().is_none_or(either)
}
