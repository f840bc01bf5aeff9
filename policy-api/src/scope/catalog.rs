//! Everything that stands, by number, with the look-ups that scopes are made of. Knows no watcher.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use super::{
    HashMap,
    item::Item,
    names::{AddressNumber, AppNumber, Book, GroupNumber, NodeNumber},
};
use crate::model::{Action, AppName, Change, GroupName, Key, Mode, NodeName, RuleId, Selector, Target};

/// An item, by number: what [`Key`] is by name. In the order in which they are told: groups and apps first, since the
/// others speak of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Thing {
    Group(GroupNumber),
    App(AppNumber),
    Node(NodeNumber),
    Binding(AddressNumber),
    Rule(RuleId),
    Isolation(AppNumber, Option<u32>),
}

/// One side of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Side {
    Host,
    Any,
    Group(GroupNumber),
    App(AppNumber),
}

/// Both sides of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sides {
    pub(super) source: Side,
    pub(super) destination: Side,
    /// Whether it is a deny between nodes and somebody.
    pub(super) bars_host: bool,
}

/// Where a binding is, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) app: AppNumber,
    pub(super) node: NodeNumber,
}

/// What policy asks an app for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) groups: BTreeSet<GroupNumber>,
    pub(super) audited: bool,
}

#[derive(Debug, Default)]
struct AppPage {
    item: Option<Arc<Item>>,
    standing: Standing,
    bindings: BTreeSet<AddressNumber>,
    isolations: BTreeMap<Option<u32>, Arc<Item>>,
}

#[derive(Debug, Default)]
struct GroupPage {
    item: Option<Arc<Item>>,
    members: BTreeSet<AppNumber>,
}

#[derive(Debug, Default)]
struct NodePage {
    item: Option<Arc<Item>>,
    bindings: BTreeSet<AddressNumber>,
}

/// The whole state.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    apps: Book<AppName, AppPage>,
    groups: Book<GroupName, GroupPage>,
    nodes: Book<NodeName, NodePage>,
    bindings: Book<IpAddr, Option<(Arc<Item>, Place)>>,
    rules: HashMap<RuleId, (Arc<Item>, Sides)>,
    by_side: HashMap<Side, BTreeSet<RuleId>>,
    audited: BTreeSet<AppNumber>,
}

impl Catalog {
    pub(super) fn node(&mut self, name: &NodeName) -> NodeNumber {
        self.nodes.number(name)
    }

    pub(super) fn app(&mut self, name: &AppName) -> AppNumber {
        self.apps.number(name)
    }

    /// What a change is about; nothing, where that is no node's business.
    pub(super) fn thing(&mut self, change: &Change) -> Option<Thing> {
        match change.key() {
            Key::App(name) => Some(Thing::App(self.apps.number(&name))),
            Key::Group(name) => Some(Thing::Group(self.groups.number(&name))),
            Key::Rule(id) => Some(Thing::Rule(id)),
            Key::Node(name) => Some(Thing::Node(self.nodes.number(&name))),
            Key::Binding(address) => Some(Thing::Binding(self.bindings.number(&address))),
            Key::Isolation(Target { app, instance }) => Some(Thing::Isolation(self.apps.number(&app), instance)),
            Key::Team(_) | Key::Token(_) | Key::Request(_) => None,
            // Gatekeepers are told of these, by a watch of their own.
            Key::Layer(_) | Key::Role(_) | Key::Resource(_) | Key::SignerKey(_) | Key::Revocation(_) => None,
        }
    }

    /// What takes it away from a watcher; nothing only if this is not the catalog that numbered it.
    pub(super) fn deletion(&self, thing: Thing) -> Option<Change> {
        Some(match thing {
            Thing::App(app) => Change::DeleteApp { name: self.apps.name(app)?.clone() },
            Thing::Group(group) => Change::DeleteGroup { name: self.groups.name(group)?.clone() },
            Thing::Rule(id) => Change::DeleteRule { id },
            Thing::Node(node) => Change::DeleteNode { name: self.nodes.name(node)?.clone() },
            Thing::Binding(address) => Change::DeleteBinding { address: *self.bindings.name(address)? },
            Thing::Isolation(app, instance) => Change::DeleteIsolation { app: self.apps.name(app)?.clone(), instance },
        })
    }

    /// The item, if it stands.
    pub(super) fn item(&self, thing: Thing) -> Option<&Arc<Item>> {
        match thing {
            Thing::App(app) => self.apps.page(app)?.item.as_ref(),
            Thing::Group(group) => self.groups.page(group)?.item.as_ref(),
            Thing::Rule(id) => self.rules.get(&id).map(|(item, _)| item),
            Thing::Node(node) => self.nodes.page(node)?.item.as_ref(),
            Thing::Binding(address) => self.binding(address).map(|(item, _)| item),
            Thing::Isolation(app, instance) => self.apps.page(app)?.isolations.get(&instance),
        }
    }

    pub(super) fn standing(&self, app: AppNumber) -> Standing {
        self.apps.page(app).map(|page| page.standing.clone()).unwrap_or_default()
    }

    pub(super) fn is_audited(&self, app: AppNumber) -> bool {
        self.audited.contains(&app)
    }

    /// All apps in audit.
    pub(super) fn audited(&self) -> impl Iterator<Item = AppNumber> {
        self.audited.iter().copied()
    }

    pub(super) fn groups_of(&self, app: AppNumber) -> impl Iterator<Item = GroupNumber> {
        self.apps.page(app).into_iter().flat_map(|page| page.standing.groups.iter().copied())
    }

    pub(super) fn members(&self, group: GroupNumber) -> impl Iterator<Item = AppNumber> {
        self.groups.page(group).into_iter().flat_map(|page| page.members.iter().copied())
    }

    /// All apps that stand, or of which anything does.
    pub(super) fn all_apps(&self) -> impl Iterator<Item = AppNumber> {
        self.apps.all().map(|(app, _)| app)
    }

    pub(super) fn bindings_of(&self, app: AppNumber) -> impl Iterator<Item = AddressNumber> {
        self.apps.page(app).into_iter().flat_map(|page| page.bindings.iter().copied())
    }

    pub(super) fn bindings_on(&self, node: NodeNumber) -> impl Iterator<Item = AddressNumber> {
        self.nodes.page(node).into_iter().flat_map(|page| page.bindings.iter().copied())
    }

    pub(super) fn isolations_of(&self, app: AppNumber) -> impl Iterator<Item = Option<u32>> {
        self.apps.page(app).into_iter().flat_map(|page| page.isolations.keys().copied())
    }

    /// A binding that stands, and where it is.
    pub(super) fn binding(&self, address: AddressNumber) -> Option<(&Arc<Item>, Place)> {
        self.bindings.page(address)?.as_ref().map(|(item, place)| (item, *place))
    }

    pub(super) fn place(&self, address: AddressNumber) -> Option<Place> {
        self.binding(address).map(|(_, place)| place)
    }

    pub(super) fn sides(&self, rule: RuleId) -> Option<Sides> {
        self.rules.get(&rule).map(|(_, sides)| *sides)
    }

    /// The rules with this side.
    pub(super) fn rules_with(&self, side: Side) -> impl Iterator<Item = RuleId> {
        self.by_side.get(&side).into_iter().flatten().copied()
    }

    pub(super) fn side(&mut self, selector: &Selector) -> Side {
        match selector {
            Selector::Host => Side::Host,
            Selector::Any => Side::Any,
            Selector::Group(name) => Side::Group(self.groups.number(name)),
            Selector::App(name) => Side::App(self.apps.number(name)),
        }
    }

    /// What a change makes of an app.
    pub(super) fn standing_after(&mut self, change: &Change) -> Standing {
        let Change::PutApp { app } = change else { return Standing::default() };
        let groups = app.groups.iter().map(|name| self.groups.number(name)).collect();
        Standing { groups, audited: app.mode == Mode::Audit }
    }

    pub(super) fn set_app(&mut self, app: AppNumber, item: Option<Arc<Item>>, standing: &Standing) {
        match standing.audited {
            true => self.audited.insert(app),
            false => self.audited.remove(&app),
        };
        let Some(page) = self.apps.page_mut(app) else { return };
        page.item = item;
        let before = std::mem::replace(&mut page.standing, standing.clone());
        for group in before.groups.difference(&standing.groups) {
            self.groups.page_mut(*group).map(|page| page.members.remove(&app));
        }
        for group in standing.groups.difference(&before.groups) {
            self.groups.page_mut(*group).map(|page| page.members.insert(app));
        }
    }

    pub(super) fn set_group(&mut self, group: GroupNumber, item: Option<Arc<Item>>) {
        if let Some(page) = self.groups.page_mut(group) {
            page.item = item;
        }
    }

    pub(super) fn set_node(&mut self, node: NodeNumber, item: Option<Arc<Item>>) {
        if let Some(page) = self.nodes.page_mut(node) {
            page.item = item;
        }
    }

    pub(super) fn set_isolation(&mut self, app: AppNumber, instance: Option<u32>, item: Option<Arc<Item>>) {
        let Some(page) = self.apps.page_mut(app) else { return };
        match item {
            Some(item) => page.isolations.insert(instance, item),
            None => page.isolations.remove(&instance),
        };
    }

    pub(super) fn set_binding(&mut self, address: AddressNumber, binding: Option<(Arc<Item>, Place)>) {
        if let Some(place) = self.place(address) {
            self.apps.page_mut(place.app).map(|page| page.bindings.remove(&address));
            self.nodes.page_mut(place.node).map(|page| page.bindings.remove(&address));
        }
        if let Some((_, place)) = &binding {
            self.apps.page_mut(place.app).map(|page| page.bindings.insert(address));
            self.nodes.page_mut(place.node).map(|page| page.bindings.insert(address));
        }
        if let Some(page) = self.bindings.page_mut(address) {
            *page = binding;
        }
    }

    pub(super) fn set_rule(&mut self, id: RuleId, rule: Option<(Arc<Item>, Sides)>) {
        if let Some((_, sides)) = self.rules.remove(&id) {
            for side in sides.both() {
                let Some(rules) = self.by_side.get_mut(&side) else { continue };
                rules.remove(&id);
                if rules.is_empty() {
                    self.by_side.remove(&side);
                }
            }
        }
        if let Some((item, sides)) = rule {
            for side in sides.both() {
                self.by_side.entry(side).or_default().insert(id);
            }
            self.rules.insert(id, (item, sides));
        }
    }
}

impl Sides {
    pub(super) fn of(source: Side, destination: Side, action: Action) -> Self {
        let bars_host = action == Action::Deny && [source, destination].contains(&Side::Host);
        Self { source, destination, bars_host }
    }

    pub(super) fn both(self) -> [Side; 2] {
        [self.source, self.destination]
    }
}
