//! A node is told what its instances need, and enforces what it would if it were told everything.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use agent::compile::compile;
use anyhow::{Context, Result, ensure};
use common::Identity;
use policy_api::model::{
    Action, App, AppName, Binding, BindingState, Change, Group, GroupName, Isolation, Mode, Node, NodeName, Ports,
    Prefix, Protocol, Replica, Revision, Rule, RuleId, Selector, Slices, Timestamp,
};
use policy_api::scope::Scopes;
use proptest::prelude::*;
use serde_json::Value;
use tests::world::agent_socket;
use tests::world::patience::{PATIENCE, await_some, await_that};
use tests::world::probe::{Transport, expect_answer, expect_blocked};
use tests::world::{Plan, World, scenario};

const APPS: u8 = 5;
const GROUPS: u8 = 2;
const NODES: u8 = 3;
const PORT: u16 = 8080;

fn app(number: u8) -> AppName {
    format!("app{number}").parse().expect("name")
}

fn identity(number: u8) -> Identity {
    Identity::new(256 + u32::from(number)).expect("an app's")
}

fn group(number: u8) -> GroupName {
    format!("group{number}").parse().expect("name")
}

fn node(number: u8) -> NodeName {
    format!("node{number}").parse().expect("name")
}

fn selector() -> impl Strategy<Value = Selector> {
    prop_oneof![
        5 => (0..APPS).prop_map(|number| Selector::App(app(number))),
        2 => (0..GROUPS).prop_map(|number| Selector::Group(group(number))),
        1 => Just(Selector::Any),
        1 => Just(Selector::Host),
    ]
}

fn start() -> Timestamp {
    Timestamp::of_unix_milliseconds(0).expect("time")
}

fn rule(id: u32, (source, destination, deny, audited): (Selector, Selector, bool, bool)) -> Change {
    let rule = Rule {
        id: RuleId(id),
        source,
        destination,
        protocol: Protocol::Tcp,
        ports: Ports::All,
        action: if deny { Action::Deny } else { Action::Allow },
        mode: if audited { Mode::Audit } else { Mode::Enforce },
        expires_at: None,
        on_deny: None,
        reason: None,
        revision: Revision(1),
        created_at: start(),
        created_by: "test".to_owned(),
        team: None,
    };
    Change::PutRule { rule: Arc::new(rule) }
}

fn binding(place: u8, (number, on): (u8, u8)) -> Change {
    let binding = Binding {
        address: IpAddr::from([10, 255, on, place]),
        app: app(number),
        identity: identity(number),
        instance: u32::from(place),
        node: node(on),
        state: if place.is_multiple_of(4) { BindingState::Freed } else { BindingState::Live },
        since: start(),
        labels: BTreeMap::new(),
        revision: Revision(1),
    };
    Change::PutBinding { binding: Arc::new(binding) }
}

fn isolation(number: u8) -> Change {
    let (expires_at, reason, created_by) = (None, None, "test".to_owned());
    let isolation = Isolation {
        app: app(number),
        instance: None,
        expires_at,
        reason,
        created_at: start(),
        created_by,
        revision: Revision(1),
    };
    Change::PutIsolation { isolation: Arc::new(isolation) }
}

/// A whole state: who is in which groups and in audit, which rules there are, who is where, and who is isolated.
fn state() -> impl Strategy<Value = Vec<Change>> {
    let prefix = |text: &str| -> Prefix { text.parse().expect("prefix") };
    let slices = Slices { slice_v4: prefix("10.255.1.0/24"), slice_v6: prefix("fd00:0:0:1::/64") };
    let nodes = (0..NODES).map(move |number| {
        let underlay = IpAddr::from([192, 0, 2, number]);
        Change::PutNode { node: Arc::new(Node::new(node(number), underlay, slices, Revision(1))) }
    });
    let groups = (0..GROUPS).map(|number| {
        let group = Group { name: group(number), number: u32::from(number) + 1, revision: Revision(1) };
        Change::PutGroup { group: Arc::new(group) }
    });
    let fixed: Vec<Change> = nodes.chain(groups).collect();
    let standing = (prop::collection::btree_set(0..GROUPS, 0..2), prop::bool::weighted(0.05));
    let apps = prop::collection::vec(standing, usize::from(APPS)).prop_map(|standings| {
        let app = |(number, (groups, audited)): (u8, (BTreeSet<u8>, bool))| {
            let mode = if audited { Mode::Audit } else { Mode::Enforce };
            let groups = groups.into_iter().map(group).collect();
            let app = App { mode, groups, ..App::new(app(number), identity(number), Revision(1)) };
            Change::PutApp { app: Arc::new(app) }
        };
        (0..).zip(standings).map(app).collect::<Vec<_>>()
    });
    let rule_parts = (selector(), selector(), prop::bool::weighted(0.3), prop::bool::weighted(0.2));
    let rules = prop::collection::vec(rule_parts, 0..8)
        .prop_map(|rules| (1..).zip(rules).map(|(id, parts)| rule(id, parts)).collect::<Vec<_>>());
    let bindings = prop::collection::vec((0..APPS, 0..NODES), 1..10)
        .prop_map(|places| (1..).zip(places).map(|(place, parts)| binding(place, parts)).collect::<Vec<_>>());
    let isolations =
        prop::collection::btree_set(0..APPS, 0..2).prop_map(|apps| apps.into_iter().map(isolation).collect::<Vec<_>>());
    (apps, rules, bindings, isolations).prop_map(move |parts| {
        let (apps, rules, bindings, isolations) = parts;
        [fixed.clone(), apps, rules, bindings, isolations].concat()
    })
}

fn replica(changes: impl IntoIterator<Item = Change>) -> Replica {
    let mut replica = Replica::default();
    replica.apply(Revision(1), &changes.into_iter().collect::<Vec<_>>());
    replica
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    /// With every app of the node's own live: rows, their lengths and the rules behind them are those of the whole state;
    /// the groups of apps and the placements are those of the whole, of every app that a rule lets meet one of the node's,
    /// allowed or denied, by its name, its groups or any; and who is placed in the whole and not in the scope, is one about
    /// whom no row of this node says anything.
    #[test]
    fn a_scope_compiles_to_what_the_whole_does_as_far_as_the_nodes_instances_can_tell(changes in state()) {
        let whole = replica(changes.clone());
        let mut scopes = Scopes::default();
        scopes.apply(&changes);
        for number in 0..NODES {
            let here = node(number);
            let (_, part) = scopes.open(&here);
            let scoped = replica(part.pieces.iter().map(|piece| piece.change().clone()));
            let own = whole.bindings.values().filter(|binding| binding.node == here);
            let own: HashSet<Identity> = own.map(|binding| binding.identity).collect();
            let wanted = compile(&whole, &here, &own, |_| false);
            let found = compile(&scoped, &here, &own, |_| false);
            prop_assert_eq!(&found.rows, &wanted.rows);
            prop_assert_eq!(&found.lengths, &wanted.lengths);
            prop_assert_eq!(&found.rules, &wanted.rules);

            let known: HashSet<u32> = scoped.apps.values().map(|app| app.identity.number()).collect();
            let mut members = wanted.memberships.clone();
            members.retain(|app, _| known.contains(app));
            prop_assert_eq!(&found.memberships, &members);
            for (address, placement) in &found.placements {
                prop_assert_eq!(Some(placement), wanted.placements.get(address));
            }
            for (address, placement) in &wanted.placements {
                if found.placements.contains_key(address) {
                    continue;
                }
                let stranger = placement.end().identity;
                let parties = wanted.parties(stranger);
                for app in &own {
                    let ours = wanted.parties(*app);
                    let meets = wanted.lengths.keys().any(|pair| {
                        let (source, destination) = pair.parties();
                        let between = |from: &[_], to: &[_]| from.contains(&source) && to.contains(&destination);
                        between(&ours, &parties) || between(&parties, &ours)
                    });
                    prop_assert!(!meets, "{} is of {:?}, whom a rule lets meet {:?}", address.ip(), stranger, app);
                }
            }
        }
    }
}

/// What the node's agent holds, by kind and name.
fn journal(world: &World, name: &str) -> Result<Replica> {
    use policy_api::model::{Follower, WatchLine};
    let path = world.node(name)?.state_directory().join("watch.jsonl");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mut follower = Follower::default();
    for line in text.lines() {
        let line: WatchLine = serde_json::from_str(line)?;
        follower.take(line)?;
    }
    Ok(follower.held().context("a state")?.1.clone())
}

#[test]
fn a_node_is_told_of_an_app_when_a_rule_makes_it_a_peer_and_not_before_nor_after() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let (a, b) = (world.run_instance("appA", "n1")?, world.run_instance("appB", "n2")?);
        world.run_instance("appC", "n2")?;
        world.netpol(&["allow", "appB", "appC", "--port", "8080", "--wait"])?.expect_exit(0)?;
        let knows = |world: &World, name: &str| -> Result<bool> {
            Ok(journal(world, "n1")?.apps.contains_key(&name.parse::<AppName>()?))
        };
        ensure!(knows(world, "appA")? && !knows(world, "appB")? && !knows(world, "appC")?);
        expect_blocked(Transport::Tcp, &a, &b, PORT)?;
        // Who it was and why is told all the same: the policy API knows.
        let told = await_some("the denial with its names", PATIENCE, || {
            let lines = agent_socket::get_text(&world.node("n1")?.socket, "/v1/events")?;
            let events = lines.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
            Ok(events.into_iter().find(|event| event["destination"]["instance"] == b.name()))
        })?;
        ensure!(told["reason"] == "no-rule" && told["destination"]["node"] == "n2", "{told}");

        world.netpol(&["allow", "appA", "appB", "--port", "8080", "--wait"])?.expect_exit(0)?;
        expect_answer(Transport::Tcp, &a, &b, PORT)?;
        ensure!(knows(world, "appB")? && !knows(world, "appC")?);

        world.netpol(&["revoke", "appA", "appB", "--port", "8080"])?.expect_exit(0)?;
        expect_blocked(Transport::Tcp, &a, &b, PORT)?;
        await_that("the peer to be forgotten", PATIENCE, || Ok(!knows(world, "appB")?))
    });
}
