//! Scopes kept up change by change, against scopes made from scratch by the words of the definition.

use std::{collections::BTreeSet, net::IpAddr};

use common::Identity;
use proptest::prelude::*;

use super::*;
use crate::model::{
    Action, ApiToken, App, AppName, Binding, BindingState, Grants, Group, GroupName, Isolation, Mode, Node, Ports,
    Prefix, Protocol, Replica, Revision, Rule, Selector, Slices, Timestamp, TokenHash,
};

const APPS: u8 = 6;
const GROUPS: u8 = 3;
const NODES: u8 = 3;
const RULES: u32 = 6;
const ADDRESSES: u8 = 9;

/// The apps that a selector stands for.
fn apps_of(state: &Replica, selector: &Selector) -> BTreeSet<AppName> {
    match selector {
        Selector::Host => BTreeSet::new(),
        Selector::Any => {
            state.apps.keys().chain(state.bindings.values().map(|binding| &binding.app)).cloned().collect()
        }
        Selector::App(name) => BTreeSet::from([name.clone()]),
        Selector::Group(group) => {
            state.apps.values().filter(|app| app.groups.contains(group)).map(|app| app.name.clone()).collect()
        }
    }
}

/// What a node needs: the definition.
fn scope_of(state: &Replica, node: &NodeName) -> Replica {
    let own: BTreeSet<AppName> =
        state.bindings.values().filter(|binding| binding.node == *node).map(|binding| binding.app.clone()).collect();
    let touches = |side: &Selector| match side {
        Selector::Any => !own.is_empty(),
        Selector::Host | Selector::App(_) | Selector::Group(_) => {
            apps_of(state, side).iter().any(|app| own.contains(app))
        }
    };
    let bars_host =
        |rule: &Rule| rule.action == Action::Deny && [&rule.source, &rule.destination].contains(&&Selector::Host);
    let concerns =
        |rule: &Rule| touches(&rule.source) || touches(&rule.destination) || (bars_host(rule) && !own.is_empty());
    let rules: Vec<_> = state.rules.values().filter(|rule| concerns(rule)).collect();
    let mut peers = BTreeSet::new();
    for rule in &rules {
        for (one, other) in [(&rule.source, &rule.destination), (&rule.destination, &rule.source)] {
            if touches(one) {
                peers.extend(apps_of(state, other));
            }
        }
    }
    if state.apps.values().any(|app| own.contains(&app.name) && app.mode == Mode::Audit) {
        peers.extend(apps_of(state, &Selector::Any));
        peers.extend(state.isolations.keys().map(|target| target.app.clone()));
    }
    if rules.iter().any(|rule| {
        (touches(&rule.source) && rule.destination == Selector::Any)
            || (touches(&rule.destination) && rule.source == Selector::Any)
    }) {
        peers.extend(state.isolations.keys().map(|target| target.app.clone()));
    }
    if !own.is_empty() {
        peers.extend(state.apps.values().filter(|app| app.mode == Mode::Audit).map(|app| app.name.clone()));
    }
    let named: BTreeSet<GroupName> =
        rules.iter().flat_map(|rule| [rule.source.group(), rule.destination.group()]).flatten().cloned().collect();
    let bindings: Vec<_> =
        state.bindings.values().filter(|it| it.node == *node || peers.contains(&it.app)).cloned().collect();
    let nodes: BTreeSet<NodeName> = bindings.iter().map(|binding| binding.node.clone()).chain([node.clone()]).collect();

    let known = |app: &AppName| own.contains(app) || peers.contains(app);
    let groups = state.groups.values().filter(|group| named.contains(&group.name));
    let groups = groups.map(|group| Change::PutGroup { group: group.clone() });
    let apps = state.apps.values().filter(|app| known(&app.name)).map(|app| Change::PutApp { app: app.clone() });
    let nodes = state.nodes.values().filter(|node| nodes.contains(&node.name));
    let nodes = nodes.map(|node| Change::PutNode { node: node.clone() });
    let bindings = bindings.iter().map(|binding| Change::PutBinding { binding: binding.clone() });
    let rules = rules.into_iter().map(|rule| Change::PutRule { rule: rule.clone() });
    let isolations = state.isolations.values().filter(|isolation| known(&isolation.app));
    let isolations = isolations.map(|isolation| Change::PutIsolation { isolation: isolation.clone() });
    let mut scope = Replica::default();
    let all: Vec<Change> = groups.chain(apps).chain(nodes).chain(bindings).chain(rules).chain(isolations).collect();
    scope.apply(state.revision(), &all);
    scope
}

fn start() -> Timestamp {
    Timestamp::of_unix_milliseconds(0).expect("time")
}

fn app(number: u8) -> AppName {
    format!("app{number}").parse().expect("name")
}

fn group(number: u8) -> GroupName {
    format!("group{number}").parse().expect("name")
}

fn node(number: u8) -> NodeName {
    format!("node{number}").parse().expect("name")
}

fn address(number: u8) -> IpAddr {
    IpAddr::from([10, 255, 0, number])
}

fn selector() -> impl Strategy<Value = Selector> {
    prop_oneof![
        6 => (0..APPS).prop_map(|number| Selector::App(app(number))),
        2 => (0..GROUPS).prop_map(|number| Selector::Group(group(number))),
        1 => Just(Selector::Any),
        1 => Just(Selector::Host),
    ]
}

/// A change, once its revision is known.
fn change() -> impl Strategy<Value = Change> {
    let revision = Revision::default();
    let put_app = (0..APPS, prop::collection::btree_set(0..GROUPS, 0..3), prop::bool::weighted(0.1));
    let put_app = put_app.prop_map(move |(number, groups, audited)| {
        let identity = Identity::new(256 + u32::from(number)).expect("an app's");
        let mode = if audited { Mode::Audit } else { Mode::Enforce };
        let groups = groups.into_iter().map(group).collect();
        Change::PutApp { app: Arc::new(App { mode, groups, ..App::new(app(number), identity, revision) }) }
    });
    let delete_app = (0..APPS).prop_map(|number| Change::DeleteApp { name: app(number) });
    let put_group = (0..GROUPS).prop_map(move |number| Change::PutGroup {
        group: Arc::new(Group { name: group(number), number: u32::from(number) + 1, revision }),
    });
    let put_rule =
        (1..=RULES, selector(), selector(), any::<bool>()).prop_map(move |(id, source, destination, deny)| {
            Change::PutRule {
                rule: Arc::new(Rule {
                    id: RuleId(id),
                    source,
                    destination,
                    protocol: Protocol::Tcp,
                    ports: Ports::All,
                    action: if deny { Action::Deny } else { Action::Allow },
                    mode: Mode::Enforce,
                    expires_at: None,
                    on_deny: None,
                    reason: None,
                    revision,
                    created_at: start(),
                    created_by: "test".to_owned(),
                    team: None,
                }),
            }
        });
    let delete_rule = (1..=RULES).prop_map(|id| Change::DeleteRule { id: RuleId(id) });
    let put_node = (0..NODES).prop_map(move |number| {
        let prefix = |text: &str| -> Prefix { text.parse().expect("prefix") };
        let slices = Slices { slice_v4: prefix("10.255.1.0/24"), slice_v6: prefix("fd00:0:0:1::/64") };
        let underlay = IpAddr::from([192, 0, 2, number]);
        Change::PutNode { node: Arc::new(Node::new(node(number), underlay, slices, revision)) }
    });
    let delete_node = (0..NODES).prop_map(|number| Change::DeleteNode { name: node(number) });
    let put_binding = (0..ADDRESSES, 0..APPS, 0..NODES, any::<bool>()).prop_map(move |(place, number, on, live)| {
        Change::PutBinding {
            binding: Arc::new(Binding {
                address: address(place),
                app: app(number),
                identity: Identity::new(256 + u32::from(number)).expect("an app's"),
                instance: u32::from(place),
                node: node(on),
                state: if live { BindingState::Live } else { BindingState::Freed },
                since: start(),
                labels: std::collections::BTreeMap::new(),
                revision,
            }),
        }
    });
    let delete_binding = (0..ADDRESSES).prop_map(|number| Change::DeleteBinding { address: address(number) });
    let target = (0..APPS, prop::option::of(0..2_u32));
    let put_isolation = target.clone().prop_map(move |(number, instance)| Change::PutIsolation {
        isolation: Arc::new(Isolation {
            app: app(number),
            instance,
            expires_at: None,
            reason: None,
            created_at: start(),
            created_by: "test".to_owned(),
            revision,
        }),
    });
    let delete_isolation = target.prop_map(|(number, instance)| Change::DeleteIsolation { app: app(number), instance });
    let put_token = (0..2_u8).prop_map(move |number| Change::PutToken {
        token: Arc::new(ApiToken {
            name: format!("token{number}").parse().expect("name"),
            grants: Grants::new(),
            hash: Some(TokenHash::of("secret")),
            expires_at: None,
            created_at: start(),
            created_by: "test".to_owned(),
            revision,
        }),
    });
    prop_oneof![
        1 => put_token,
        5 => put_app, 1 => delete_app, 2 => put_group, 6 => put_rule, 3 => delete_rule, 2 => put_node,
        1 => delete_node, 8 => put_binding, 3 => delete_binding, 2 => put_isolation, 1 => delete_isolation,
    ]
}

/// The same change, made by this revision.
fn at(change: &Change, revision: Revision) -> Change {
    fn with<T: Clone>(item: &Arc<T>, change: impl FnOnce(&mut T)) -> Arc<T> {
        let mut item = T::clone(item);
        change(&mut item);
        Arc::new(item)
    }
    match change {
        Change::PutApp { app } => Change::PutApp { app: with(app, |it| it.revision = revision) },
        Change::PutGroup { group } => Change::PutGroup { group: with(group, |it| it.revision = revision) },
        Change::PutRule { rule } => Change::PutRule { rule: with(rule, |it| it.revision = revision) },
        Change::PutNode { node } => Change::PutNode { node: with(node, |it| it.revision = revision) },
        Change::PutBinding { binding } => Change::PutBinding { binding: with(binding, |it| it.revision = revision) },
        Change::PutIsolation { isolation } => {
            Change::PutIsolation { isolation: with(isolation, |it| it.revision = revision) }
        }
        Change::PutToken { token } => Change::PutToken { token: with(token, |it| it.revision = revision) },
        Change::PutTeam { team } => Change::PutTeam { team: with(team, |it| it.revision = revision) },
        Change::PutRequest { request } => Change::PutRequest { request: with(request, |it| it.revision = revision) },
        Change::PutLayer { layer } => Change::PutLayer { layer: with(layer, |it| it.revision = revision) },
        Change::PutRole { role } => Change::PutRole { role: with(role, |it| it.revision = revision) },
        Change::PutResource { resource } => {
            Change::PutResource { resource: with(resource, |it| it.revision = revision) }
        }
        Change::PutSignerKey { key } => Change::PutSignerKey { key: with(key, |it| it.revision = revision) },
        Change::PutRevocation { revocation } => {
            Change::PutRevocation { revocation: with(revocation, |it| it.revision = revision) }
        }
        Change::DeleteApp { .. }
        | Change::DeleteGroup { .. }
        | Change::DeleteRule { .. }
        | Change::DeleteNode { .. }
        | Change::DeleteBinding { .. }
        | Change::DeleteIsolation { .. }
        | Change::DeleteTeam { .. }
        | Change::DeleteToken { .. }
        | Change::DeleteRequest { .. }
        | Change::DeleteLayer { .. }
        | Change::DeleteRole { .. }
        | Change::DeleteResource { .. }
        | Change::DeleteSignerKey { .. }
        | Change::DeleteRevocation { .. } => change.clone(),
    }
}

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    Open(u8),
    Close(usize),
    Revision(Vec<Change>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (0..NODES).prop_map(Step::Open),
        1 => any::<usize>().prop_map(Step::Close),
        12 => prop::collection::vec(change(), 1..4).prop_map(Step::Revision),
    ]
}

/// A watcher as it sees itself: what it was told, and nothing else.
struct Reader {
    watcher: Watcher,
    node: NodeName,
    replica: Replica,
}

impl Reader {
    fn take(&mut self, revision: Revision, part: &Part) {
        let changes: Vec<Change> = part.pieces.iter().map(|piece| piece.change().clone()).collect();
        self.replica.apply(revision, &changes);
        assert_eq!((self.replica.count(), self.replica.digest()), (part.count, part.digest));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn after_each_revision_every_watcher_holds_exactly_its_scope(steps in prop::collection::vec(step(), 1..40)) {
        let (mut state, mut scopes, mut readers) = (Replica::default(), Scopes::default(), Vec::<Reader>::new());
        for step in [Step::Open(0), Step::Open(1)].iter().chain(&steps) {
            match step {
                Step::Open(number) => {
                    let (watcher, whole) = scopes.open(&node(*number));
                    let mut reader = Reader { watcher, node: node(*number), replica: Replica::default() };
                    reader.take(state.revision(), &whole);
                    readers.push(reader);
                }
                Step::Close(which) if !readers.is_empty() => {
                    let reader = readers.swap_remove(which % readers.len());
                    scopes.close(reader.watcher);
                }
                Step::Close(_) => {}
                Step::Revision(changes) => {
                    let revision = state.revision().next();
                    let changes: Vec<Change> = changes.iter().map(|change| at(change, revision)).collect();
                    state.apply(revision, &changes);
                    let mut told: HashMap<Watcher, Part> = scopes.apply(&changes).into_iter().collect();
                    for reader in &mut readers {
                        if let Some(part) = told.remove(&reader.watcher) {
                            prop_assert!(!part.pieces.is_empty());
                            reader.take(revision, &part);
                        }
                    }
                    prop_assert!(told.is_empty(), "nobody is told who does not watch");
                }
            }
            for reader in &readers {
                let mut wanted = scope_of(&state, &reader.node);
                wanted.apply(reader.replica.revision(), &[]);
                prop_assert_eq!(&reader.replica, &wanted, "scope of {}", &reader.node);
                prop_assert_eq!(scopes.digest(reader.watcher), Some(wanted.digest()));
            }
        }
        for reader in readers {
            scopes.close(reader.watcher);
        }
        prop_assert!(scopes.watchers.index.is_empty() && scopes.watchers.by_node.is_empty());
    }
}
