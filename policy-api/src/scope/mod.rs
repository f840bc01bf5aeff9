//! What each node needs of the whole state, and what a revision changes of it.
//!
//! Pure: changes go in, and out comes what each watcher has to be told. Whom a change concerns is found by what it is about,
//! so that a revision costs what it touches, however many watch. Knows no store, no lines, no clock.

mod catalog;
mod extent;
mod item;
mod names;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, sync::Arc};

use self::{
    catalog::{Catalog, Place, Side, Sides, Thing},
    extent::{Interest, Scope},
    item::Item,
    names::{AddressNumber, AppNumber, NodeNumber},
};
use crate::model::{Change, Digest, NodeName, RuleId};

pub use self::{extent::Part, item::Piece};

/// By a quick hash with a random seed: a node's scope is thousands of look-ups, for each of a thousand nodes at once.
type HashMap<Key, Value> = std::collections::HashMap<Key, Value, foldhash::fast::RandomState>;

/// A watcher, for as long as it watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Watcher(u64);

/// The whole state, and the scopes of all who watch.
#[derive(Debug, Default)]
pub struct Scopes {
    catalog: Catalog,
    watchers: Watchers,
    next: u64,
}

#[derive(Debug, Default)]
struct Watchers {
    scopes: HashMap<Watcher, Scope>,
    index: HashMap<Interest, Crowd>,
    by_node: HashMap<NodeNumber, Crowd>,
}

/// Watchers in order. The newest comes last, so that to come is cheap.
#[derive(Debug, Default)]
struct Crowd(Vec<Watcher>);

impl Crowd {
    fn insert(&mut self, watcher: Watcher) {
        if self.0.last().is_none_or(|last| *last < watcher) {
            self.0.push(watcher);
        } else if let Err(place) = self.0.binary_search(&watcher) {
            self.0.insert(place, watcher);
        }
    }

    fn remove(&mut self, watcher: Watcher) {
        if let Ok(place) = self.0.binary_search(&watcher) {
            self.0.remove(place);
        }
    }
}

impl Scopes {
    /// Begins with a node's scope; returns all of it.
    pub fn open(&mut self, node: &NodeName) -> (Watcher, Part) {
        let watcher = Watcher(self.next);
        self.next += 1;
        let node = self.catalog.node(node);
        let mut scope = Scope::of(&self.catalog, node);
        let whole = scope.finish(&self.catalog);
        let nothing = || Part { pieces: Vec::new(), digest: Digest::default(), count: 0 };
        self.watchers.by_node.entry(node).or_default().insert(watcher);
        self.watchers.scopes.insert(watcher, scope);
        self.watchers.note_interests(watcher);
        (watcher, whole.unwrap_or_else(nothing))
    }

    pub fn close(&mut self, watcher: Watcher) {
        self.watchers.remove(watcher);
    }

    /// The digest of what a watcher was told.
    pub fn digest(&self, watcher: Watcher) -> Option<Digest> {
        self.watchers.scopes.get(&watcher).map(Scope::digest)
    }

    /// Makes the changes of a revision; returns what that changes for whom.
    pub fn apply(&mut self, changes: &[Change]) -> Vec<(Watcher, Part)> {
        let mut touched = BTreeSet::new();
        for change in changes {
            self.make(change, &mut touched);
        }
        let parts = touched.into_iter().filter_map(|watcher| {
            let part = self.watchers.scopes.get_mut(&watcher)?.finish(&self.catalog);
            self.watchers.note_interests(watcher);
            Some((watcher, part?))
        });
        parts.collect()
    }

    fn make(&mut self, change: &Change, touched: &mut BTreeSet<Watcher>) {
        let Some(thing) = self.catalog.thing(change) else { return };
        let item = Item::put_by(change);
        match thing {
            Thing::App(app) => self.make_app(app, change, item, touched),
            Thing::Group(group) => {
                let thing = Thing::Group(group);
                self.note(self.watchers.interested([Interest::Named(group)]), thing, touched);
                self.catalog.set_group(group, item);
            }
            Thing::Node(node) => {
                let mut concerned = self.watchers.interested([Interest::Node(node)]);
                concerned.extend(self.watchers.of_node(node));
                self.note(concerned, Thing::Node(node), touched);
                self.catalog.set_node(node, item);
            }
            Thing::Isolation(app, instance) => {
                let concerned = self.concerned_by([app]);
                self.note(concerned, Thing::Isolation(app, instance), touched);
                self.catalog.set_isolation(app, instance, item);
            }
            Thing::Binding(address) => self.make_binding(address, change, item, touched),
            Thing::Rule(id) => self.make_rule(id, change, item, touched),
        }
    }

    /// Whoever has instances of these apps, or has them for peers.
    fn concerned_by(&self, apps: impl IntoIterator<Item = AppNumber>) -> BTreeSet<Watcher> {
        let interests = apps.into_iter().flat_map(|app| {
            let groups = self.catalog.groups_of(app).map(Interest::PeerGroup);
            let audited = self.catalog.is_audited(app).then_some(Interest::Occupied);
            [Interest::Own(app), Interest::Peer(app)].into_iter().chain(groups).chain(audited)
        });
        self.watchers.interested(interests.chain([Interest::Everything]))
    }

    fn note(&mut self, watchers: BTreeSet<Watcher>, thing: Thing, touched: &mut BTreeSet<Watcher>) {
        let catalog = &self.catalog;
        self.watchers.each(&watchers, |scope| scope.note(catalog, thing));
        touched.extend(watchers);
    }

    fn make_app(&mut self, app: AppNumber, change: &Change, item: Option<Arc<Item>>, touched: &mut BTreeSet<Watcher>) {
        let (before, after) = (self.catalog.standing(app), self.catalog.standing_after(change));
        let mut concerned = self.concerned_by([app]);
        let joined = after.groups.iter().copied().map(Interest::PeerGroup);
        let audited = after.audited.then_some(Interest::Occupied);
        concerned.extend(self.watchers.interested(joined.chain(audited)));
        let catalog = &self.catalog;
        self.watchers.each(&concerned, |scope| {
            if before == after {
                scope.note(catalog, Thing::App(app));
            } else {
                scope.note_app(catalog, app);
            }
        });
        touched.extend(concerned);
        self.catalog.set_app(app, item, &after);
        let catalog = &self.catalog;
        let own = self.watchers.interested([Interest::Own(app)]);
        self.watchers.each(&own, |scope| scope.restand(catalog, &before, &after));
    }

    fn make_binding(
        &mut self,
        address: AddressNumber,
        change: &Change,
        item: Option<Arc<Item>>,
        touched: &mut BTreeSet<Watcher>,
    ) {
        let before = self.catalog.place(address);
        let after = match change {
            Change::PutBinding { binding } => {
                Some(Place { app: self.catalog.app(&binding.app), node: self.catalog.node(&binding.node) })
            }
            _ => None,
        };
        let places = [before, after].into_iter().flatten();
        let mut concerned = self.concerned_by(places.clone().map(|place| place.app));
        concerned.extend(places.flat_map(|place| self.watchers.of_node(place.node)));
        self.note(concerned, Thing::Binding(address), touched);
        self.catalog.set_binding(address, item.zip(after));
        if before == after {
            return;
        }
        let catalog = &self.catalog;
        if let Some(place) = after {
            let here = self.watchers.of_node(place.node).collect();
            self.watchers.each(&here, |scope| scope.gain(catalog, place.app));
        }
        if let Some(place) = before {
            let here = self.watchers.of_node(place.node).collect();
            self.watchers.each(&here, |scope| scope.lose(catalog, place.app));
        }
    }

    fn make_rule(&mut self, id: RuleId, change: &Change, item: Option<Arc<Item>>, touched: &mut BTreeSet<Watcher>) {
        let before = self.catalog.sides(id);
        let after = match change {
            Change::PutRule { rule } => {
                let (source, destination) = (self.catalog.side(&rule.source), self.catalog.side(&rule.destination));
                Some(Sides::of(source, destination, rule.action))
            }
            _ => None,
        };
        let had = self.watchers.touched_by(before);
        let catalog = &self.catalog;
        self.watchers.each(&had, |scope| {
            scope.note(catalog, Thing::Rule(id));
            // In place, its peers stay what they are.
            if before != after {
                scope.let_go(catalog, id);
            }
        });
        touched.extend(had);
        self.catalog.set_rule(id, item.zip(after));
        let has = self.watchers.touched_by(after);
        let catalog = &self.catalog;
        self.watchers.each(&has, |scope| scope.judge(catalog, id));
        touched.extend(has);
    }
}

impl Watchers {
    fn interested(&self, interests: impl IntoIterator<Item = Interest>) -> BTreeSet<Watcher> {
        interests
            .into_iter()
            .filter_map(|interest| self.index.get(&interest))
            .flat_map(|crowd| &crowd.0)
            .copied()
            .collect()
    }

    fn of_node(&self, node: NodeNumber) -> impl Iterator<Item = Watcher> {
        self.by_node.get(&node).into_iter().flat_map(|crowd| &crowd.0).copied()
    }

    /// Whoever has an instance that a rule is about, or may get one.
    fn touched_by(&self, sides: Option<Sides>) -> BTreeSet<Watcher> {
        let bars_host = sides.filter(|sides| sides.bars_host).map(|_| Interest::Occupied);
        let interests = sides.into_iter().flat_map(Sides::both).filter_map(|side| match side {
            Side::Host => None,
            Side::Any => Some(Interest::Occupied),
            Side::Group(group) => Some(Interest::OwnGroup(group)),
            Side::App(app) => Some(Interest::Own(app)),
        });
        self.interested(interests.chain(bars_host))
    }

    fn each(&mut self, watchers: &BTreeSet<Watcher>, mut change: impl FnMut(&mut Scope)) {
        for watcher in watchers {
            if let Some(scope) = self.scopes.get_mut(watcher) {
                change(scope);
            }
            self.note_interests(*watcher);
        }
    }

    fn note_interests(&mut self, watcher: Watcher) {
        let Some(scope) = self.scopes.get_mut(&watcher) else { return };
        for (interest, is_on) in scope.take_interests() {
            if is_on {
                self.index.entry(interest).or_default().insert(watcher);
            } else {
                forget(&mut self.index, interest, watcher);
            }
        }
    }

    fn remove(&mut self, watcher: Watcher) {
        let Some(scope) = self.scopes.remove(&watcher) else { return };
        forget(&mut self.by_node, scope.node(), watcher);
        for interest in scope.interests() {
            forget(&mut self.index, interest, watcher);
        }
    }
}

fn forget<K: std::hash::Hash + Eq>(index: &mut HashMap<K, Crowd>, key: K, watcher: Watcher) {
    let Some(crowd) = index.get_mut(&key) else { return };
    crowd.remove(watcher);
    if crowd.0.is_empty() {
        index.remove(&key);
    }
}
