//! What one node needs, kept up change by change.
//!
//! Everything follows from the node's own bindings, live and freed: their apps; the rules that touch these; the apps at the
//! other side of those rules, with all their bindings, freed ones too, since an instance may come back to its address while
//! nobody can tell us. An app in audit softens its own end only: what it sends to whomever has to get there, and to be judged
//! there as what it is. So all apps are its peers, and it is everybody's. Denies between nodes and whomever are needed wherever
//! there is anything, and make nobody a peer: an app may come to a node that nobody can tell of its rules. What is in the scope is said by [`Scope::hold`] alone; whatever may change the answer notes it first.

use std::{collections::hash_map::Entry, hash::Hash, mem, sync::Arc};

use super::{
    HashMap,
    catalog::{Catalog, Side, Sides, Standing, Thing},
    item::{Item, Piece},
    names::{AppNumber, GroupNumber, NodeNumber},
};
use crate::model::{Digest, RuleId};

/// What a scope wants to hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Interest {
    /// Has instances of this app.
    Own(AppNumber),
    /// A rule makes this app a peer by its name.
    Peer(AppNumber),
    /// Has instances of apps in this group.
    OwnGroup(GroupNumber),
    /// A rule makes this group's apps peers.
    PeerGroup(GroupNumber),
    /// One of its rules names this group.
    Named(GroupNumber),
    /// Something that it needs is on this node.
    Node(NodeNumber),
    /// All apps are peers.
    Everything,
    /// Has instances, so that rules about any app touch it.
    Occupied,
}

/// Which sides of a rule touch the scope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Touch {
    source: bool,
    destination: bool,
    /// It bars the node itself from somebody, who need not be here.
    host: bool,
}

impl Touch {
    fn is_any(self) -> bool {
        self.source || self.destination || self.host
    }
}

/// How an item was held before a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    part: Digest,
    /// Of a binding: the node that it is on.
    on: Option<NodeNumber>,
}

/// An item that is held otherwise than before a revision.
struct Turn<'a> {
    thing: Thing,
    before: Option<Held>,
    after: Option<(Held, &'a Arc<Item>)>,
}

/// What may be held otherwise than before a revision.
#[derive(Debug)]
enum Noted {
    /// A new watcher holds nothing of it. Some of it may be there more than once.
    New(Vec<Thing>),
    /// How each was held.
    Before(HashMap<Thing, Option<Held>>),
}

impl Noted {
    fn insert(&mut self, thing: Thing, held: Option<Held>) {
        match self {
            Self::New(things) => things.push(thing),
            Self::Before(before) => drop(before.insert(thing, held)),
        }
    }

    fn take_bindings(&mut self) -> Vec<(Thing, Option<Held>)> {
        let is_binding = |thing: &Thing| matches!(thing, Thing::Binding(_));
        match self {
            Self::New(things) => {
                in_order(things);
                things.extract_if(.., |thing| is_binding(thing)).map(|thing| (thing, None)).collect()
            }
            Self::Before(held) => held.extract_if(|thing, _| is_binding(thing)).collect(),
        }
    }

    /// Taken, not drained: what it took to note a whole scope must not stay with each of a thousand.
    fn take_all(&mut self) -> Vec<(Thing, Option<Held>)> {
        match mem::replace(self, Self::Before(HashMap::default())) {
            Self::New(mut things) => {
                in_order(&mut things);
                things.into_iter().map(|thing| (thing, None)).collect()
            }
            Self::Before(held) => held.into_iter().collect(),
        }
    }
}

/// Each once.
fn in_order(things: &mut Vec<Thing>) {
    things.sort_unstable();
    things.dedup();
}

/// How often each of these is wanted.
#[derive(Debug)]
struct Counts<T>(HashMap<T, u32>);

impl<T> Default for Counts<T> {
    fn default() -> Self {
        Self(HashMap::default())
    }
}

impl<T: Eq + Hash + Copy> Counts<T> {
    fn has(&self, key: T) -> bool {
        self.0.contains_key(&key)
    }

    /// Whether one more, or one less, makes a difference.
    fn turns(&self, key: T, more: bool) -> bool {
        self.0.get(&key).copied().unwrap_or(0) == u32::from(!more)
    }

    /// True if it is the first.
    fn add(&mut self, key: T) -> bool {
        let count = self.0.entry(key).or_insert(0);
        *count += 1;
        *count == 1
    }

    /// True if it was the last.
    fn remove(&mut self, key: T) -> bool {
        let Entry::Occupied(mut count) = self.0.entry(key) else { return false };
        *count.get_mut() -= 1;
        let is_last = *count.get() == 0;
        if is_last {
            count.remove();
        }
        is_last
    }
}

/// A node's scope.
#[derive(Debug)]
pub(super) struct Scope {
    node: NodeNumber,
    /// The apps of its own bindings.
    own: Counts<AppNumber>,
    own_groups: Counts<GroupNumber>,
    rules: HashMap<RuleId, Touch>,
    peers: Counts<AppNumber>,
    peer_groups: Counts<GroupNumber>,
    /// What makes all apps peers: rules, and own apps in audit.
    everything: u32,
    named: Counts<GroupNumber>,
    /// How many bindings of the scope are on each node.
    nodes: Counts<NodeNumber>,
    digest: Digest,
    count: u64,
    noted: Noted,
    interests: Vec<(Interest, bool)>,
}

/// What a revision changed for a watcher, or the whole that it begins with.
#[derive(Debug)]
pub struct Part {
    pub pieces: Vec<Piece>,
    /// Of all that the watcher holds then.
    pub digest: Digest,
    pub count: u64,
}

impl Scope {
    /// The scope of a node as of now; its [`Part`] is the whole.
    pub(super) fn of(catalog: &Catalog, node: NodeNumber) -> Self {
        let mut scope = Self {
            node,
            own: Counts::default(),
            own_groups: Counts::default(),
            rules: HashMap::default(),
            peers: Counts::default(),
            peer_groups: Counts::default(),
            everything: 0,
            named: Counts::default(),
            nodes: Counts::default(),
            digest: Digest::default(),
            count: 0,
            noted: Noted::New(Vec::new()),
            interests: Vec::new(),
        };
        // What is the node's own in any case.
        scope.note(catalog, Thing::Node(node));
        catalog.bindings_on(node).for_each(|address| scope.note(catalog, Thing::Binding(address)));
        let apps = catalog.bindings_on(node).filter_map(|address| catalog.place(address)).map(|place| place.app);
        apps.for_each(|app| scope.gain(catalog, app));
        scope
    }

    fn is_peer(&self, catalog: &Catalog, app: AppNumber) -> bool {
        let by_group = || catalog.groups_of(app).any(|group| self.peer_groups.has(group));
        let by_audit = || catalog.is_audited(app) && !self.own.0.is_empty();
        self.everything > 0 || self.peers.has(app) || by_audit() || by_group()
    }

    /// What is held of an item, and the item, if it stands and is in the scope. Each is looked up once, and only if it may be held.
    fn hold<'a>(&self, catalog: &'a Catalog, thing: Thing) -> Option<(Held, &'a Arc<Item>)> {
        let is_held = match thing {
            Thing::App(app) | Thing::Isolation(app, _) => self.own.has(app) || self.is_peer(catalog, app),
            Thing::Group(group) => self.named.has(group),
            Thing::Rule(id) => self.rules.contains_key(&id),
            Thing::Node(node) => node == self.node || self.nodes.has(node),
            Thing::Binding(address) => {
                let (item, place) = catalog.binding(address)?;
                let is_held = place.node == self.node || self.is_peer(catalog, place.app);
                return is_held.then(|| (Held { part: item.part(), on: Some(place.node) }, item));
            }
        };
        let item = is_held.then(|| catalog.item(thing))??;
        Some((Held { part: item.part(), on: None }, item))
    }

    /// Remembers how an item is held, before anything about it changes.
    pub(super) fn note(&mut self, catalog: &Catalog, thing: Thing) {
        let held = match &self.noted {
            Noted::New(_) => None,
            Noted::Before(held) if held.contains_key(&thing) => return,
            Noted::Before(_) => self.hold(catalog, thing).map(|(held, _)| held),
        };
        self.noted.insert(thing, held);
    }

    /// The same for all that is an app's.
    pub(super) fn note_app(&mut self, catalog: &Catalog, app: AppNumber) {
        self.note(catalog, Thing::App(app));
        for instance in catalog.isolations_of(app) {
            self.note(catalog, Thing::Isolation(app, instance));
        }
        for address in catalog.bindings_of(app) {
            self.note(catalog, Thing::Binding(address));
        }
    }

    /// One more binding of this node is this app's.
    pub(super) fn gain(&mut self, catalog: &Catalog, app: AppNumber) {
        if self.own.has(app) {
            self.own.add(app);
            return;
        }
        self.note_app(catalog, app);
        let is_first = self.own.0.is_empty();
        if is_first {
            catalog.audited().for_each(|app| self.note_app(catalog, app));
        }
        self.own.add(app);
        self.interests.push((Interest::Own(app), true));
        if is_first {
            self.interests.push((Interest::Occupied, true));
            [Side::Any, Side::Host].into_iter().for_each(|side| self.judge_all(catalog, side));
        }
        self.judge_all(catalog, Side::App(app));
        self.restand(catalog, &Standing::default(), &catalog.standing(app));
    }

    /// One binding of this node is this app's no more.
    pub(super) fn lose(&mut self, catalog: &Catalog, app: AppNumber) {
        if self.own.0.get(&app) != Some(&1) {
            self.own.remove(app);
            return;
        }
        self.note_app(catalog, app);
        if self.own.0.len() == 1 {
            catalog.audited().for_each(|app| self.note_app(catalog, app));
        }
        self.own.remove(app);
        self.interests.push((Interest::Own(app), false));
        if self.own.0.is_empty() {
            self.interests.push((Interest::Occupied, false));
            [Side::Any, Side::Host].into_iter().for_each(|side| self.judge_all(catalog, side));
        }
        self.judge_all(catalog, Side::App(app));
        self.restand(catalog, &catalog.standing(app), &Standing::default());
    }

    /// An own app stands differently.
    pub(super) fn restand(&mut self, catalog: &Catalog, before: &Standing, after: &Standing) {
        let mut toggled: Vec<(GroupNumber, bool)> = Vec::new();
        for group in after.groups.difference(&before.groups) {
            toggled.extend(self.own_groups.add(*group).then_some((*group, true)));
        }
        for group in before.groups.difference(&after.groups) {
            toggled.extend(self.own_groups.remove(*group).then_some((*group, false)));
        }
        for (group, is_on) in toggled {
            self.interests.push((Interest::OwnGroup(group), is_on));
            self.judge_all(catalog, Side::Group(group));
        }
        if after.audited && !before.audited {
            self.want_everything(catalog);
        } else if before.audited && !after.audited {
            self.want_no_longer_everything(catalog);
        }
    }

    fn judge_all(&mut self, catalog: &Catalog, side: Side) {
        catalog.rules_with(side).for_each(|rule| self.judge(catalog, rule));
    }

    /// Looks whether a rule touches this scope, and by which sides.
    pub(super) fn judge(&mut self, catalog: &Catalog, rule: RuleId) {
        let Some(sides) = catalog.sides(rule) else { return };
        let touch = Touch {
            source: self.touches(sides.source),
            destination: self.touches(sides.destination),
            host: sides.bars_host && !self.own.0.is_empty(),
        };
        self.settle(catalog, rule, sides, touch);
    }

    /// A rule is about to go, or to be about others.
    pub(super) fn let_go(&mut self, catalog: &Catalog, rule: RuleId) {
        let Some(sides) = catalog.sides(rule) else { return };
        self.settle(catalog, rule, sides, Touch::default());
    }

    fn touches(&self, side: Side) -> bool {
        match side {
            Side::Host => false,
            Side::Any => !self.own.0.is_empty(),
            Side::Group(group) => self.own_groups.has(group),
            Side::App(app) => self.own.has(app),
        }
    }

    fn settle(&mut self, catalog: &Catalog, rule: RuleId, sides: Sides, touch: Touch) {
        let before = self.rules.get(&rule).copied().unwrap_or_default();
        if before == touch {
            return;
        }
        self.note(catalog, Thing::Rule(rule));
        if before.is_any() != touch.is_any() {
            sides.both().into_iter().for_each(|side| self.name(catalog, side, touch.is_any()));
        }
        if before.source != touch.source {
            self.peer(catalog, sides.destination, touch.source);
        }
        if before.destination != touch.destination {
            self.peer(catalog, sides.source, touch.destination);
        }
        if touch.is_any() {
            self.rules.insert(rule, touch);
        } else {
            self.rules.remove(&rule);
        }
    }

    /// A rule of the scope names this side, or no longer does.
    fn name(&mut self, catalog: &Catalog, side: Side, does: bool) {
        let Side::Group(group) = side else { return };
        self.note(catalog, Thing::Group(group));
        let toggled = if does { self.named.add(group) } else { self.named.remove(group) };
        if toggled {
            self.interests.push((Interest::Named(group), does));
        }
    }

    /// A rule of the scope makes this side's apps peers, or no longer does.
    fn peer(&mut self, catalog: &Catalog, side: Side, does: bool) {
        match side {
            Side::Host => {}
            Side::Any if does => self.want_everything(catalog),
            Side::Any => self.want_no_longer_everything(catalog),
            Side::Group(group) => {
                if self.peer_groups.turns(group, does) {
                    catalog.members(group).for_each(|app| self.note_app(catalog, app));
                }
                let toggled = if does { self.peer_groups.add(group) } else { self.peer_groups.remove(group) };
                if toggled {
                    self.interests.push((Interest::PeerGroup(group), does));
                }
            }
            Side::App(app) => {
                if self.peers.turns(app, does) {
                    self.note_app(catalog, app);
                }
                let toggled = if does { self.peers.add(app) } else { self.peers.remove(app) };
                if toggled {
                    self.interests.push((Interest::Peer(app), does));
                }
            }
        }
    }

    fn want_everything(&mut self, catalog: &Catalog) {
        if self.everything == 0 {
            catalog.all_apps().for_each(|app| self.note_app(catalog, app));
            self.interests.push((Interest::Everything, true));
        }
        self.everything += 1;
    }

    fn want_no_longer_everything(&mut self, catalog: &Catalog) {
        if self.everything == 1 {
            catalog.all_apps().for_each(|app| self.note_app(catalog, app));
            self.interests.push((Interest::Everything, false));
        }
        self.everything = self.everything.saturating_sub(1);
    }

    /// What the watcher has to be told of all that was noted; nothing if it holds it already.
    pub(super) fn finish(&mut self, catalog: &Catalog) -> Option<Part> {
        let bindings = self.noted.take_bindings();
        let mut turns = self.turns(catalog, bindings);
        // Which nodes are needed follows from which bindings are.
        for Turn { before, after, .. } in &turns {
            self.recount_nodes(catalog, before.and_then(|held| held.on), after.and_then(|(held, _)| held.on));
        }
        let others = self.noted.take_all();
        turns.extend(self.turns(catalog, others));
        // Of a whole scope that are two runs, each in order: what a stable sort is quickest with.
        turns.sort_by_key(|turn| turn.thing);
        let mut pieces = Vec::with_capacity(turns.len());
        for Turn { thing, before, after } in turns {
            if let Some(before) = before {
                self.digest = self.digest.without(before.part);
                self.count -= 1;
            }
            if let Some((after, _)) = after {
                self.digest = self.digest.with(after.part);
                self.count += 1;
            }
            pieces.extend(match after {
                Some((_, item)) => Some(Piece::Put(item.clone())),
                None => catalog.deletion(thing).map(Piece::Delete),
            });
        }
        (!pieces.is_empty()).then_some(Part { pieces, digest: self.digest, count: self.count })
    }

    /// Of what was noted, what is held otherwise by now.
    fn turns<'a>(&self, catalog: &'a Catalog, noted: impl IntoIterator<Item = (Thing, Option<Held>)>) -> Vec<Turn<'a>> {
        let turns = noted.into_iter().map(|(thing, before)| Turn { thing, before, after: self.hold(catalog, thing) });
        turns.filter(|turn| turn.before.map(|held| held.part) != turn.after.map(|(held, _)| held.part)).collect()
    }

    /// One binding of the scope is on another node.
    fn recount_nodes(&mut self, catalog: &Catalog, before: Option<NodeNumber>, after: Option<NodeNumber>) {
        if before == after {
            return;
        }
        for (node, more) in [(after, true), (before, false)] {
            let Some(node) = node else { continue };
            if self.nodes.turns(node, more) {
                self.note(catalog, Thing::Node(node));
                self.interests.push((Interest::Node(node), more));
            }
            if more {
                self.nodes.add(node)
            } else {
                self.nodes.remove(node)
            };
        }
    }

    pub(super) fn node(&self) -> NodeNumber {
        self.node
    }

    /// What it began or ceased to be interested in since it was asked last.
    pub(super) fn take_interests(&mut self) -> Vec<(Interest, bool)> {
        std::mem::take(&mut self.interests)
    }

    /// All that it is interested in.
    pub(super) fn interests(&self) -> Vec<Interest> {
        let everything = (self.everything > 0).then_some(Interest::Everything);
        let occupied = (!self.own.0.is_empty()).then_some(Interest::Occupied);
        let own = self.own.0.keys().copied().map(Interest::Own);
        let own_groups = self.own_groups.0.keys().copied().map(Interest::OwnGroup);
        let peers = self.peers.0.keys().copied().map(Interest::Peer);
        let peer_groups = self.peer_groups.0.keys().copied().map(Interest::PeerGroup);
        let named = self.named.0.keys().copied().map(Interest::Named);
        let nodes = self.nodes.0.keys().copied().map(Interest::Node);
        everything
            .into_iter()
            .chain(occupied)
            .chain(own)
            .chain(own_groups)
            .chain(peers)
            .chain(peer_groups)
            .chain(named)
            .chain(nodes)
            .collect()
    }

    pub(super) fn digest(&self) -> Digest {
        self.digest
    }
}
