//! A rule that does not fit is refused whole, or guards by closing: never half in force.

use std::net::Ipv4Addr;

use agent::compile::Desired;
use agent::datapath::{Hook, Sizes};
use agent::reconcile::Programmed;
use anyhow::{Context, Result, ensure};
use common::placement::Standing;
use common::rule::RowKey;
use common::verdict::{Direction, DropReason};
use common::{Action, Layer, Party, PortRange, Protocol, RuleId, Ruling, Term};
use serde_json::{Value, json};
use tests::lab::traffic::{ACK, SYN, Speaking, Speech};
use tests::lab::{Arrival, LOCALS, Lab, NODES, Preparation, REMOTES, Run, Scene, identity};
use tests::world::http::{Answer, Request};
use tests::world::patience::{PATIENCE, await_that};
use tests::world::probe::{Transport, expect_answer, expect_blocked};
use tests::world::{Plan, World, scenario};

use super::talk::{dropped, instance_socket, passes};

const PORT: u16 = 8080;
const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

fn rows(count: &str) -> Vec<String> {
    vec!["--rows".to_owned(), count.to_owned()]
}

fn ask_the_api(world: &World, method: &str, path: &str, body: &Value) -> Result<Answer> {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    world.control.request(&Request { method, path, headers: &[], body })
}

#[test]
fn the_api_refuses_a_rule_that_a_node_cannot_hold_and_changes_nothing() {
    scenario(Plan { agent_flags: rows("4"), ..Plan::nodes(&["n1"]) }, |world| {
        let (a, b) = (world.run_instance("appA", "n1")?, world.run_instance("appB", "n1")?);
        await_that("the API to know the node's capacity", PATIENCE, || {
            let nodes = ask_the_api(world, "GET", "/v1/nodes", &Value::Null)?.body;
            Ok(nodes.to_string().contains("\"rows_capacity\":4"))
        })?;
        world.netpol(&["revoke", "host", "any", "--protocol", "any", "--wait"])?.expect_exit(0)?;
        world.netpol(&["allow", "appA", "appB", "--port", "8080", "--wait"])?.expect_exit(0)?;
        let rules = || ask_the_api(world, "GET", "/v1/rules", &Value::Null);
        let before = rules()?.body;

        let wide = json!({"source": "appB", "destination": "appA", "ports": ["1-65535"], "action": "allow"});
        let refused = ask_the_api(world, "POST", "/v1/rules", &wide)?;
        ensure!(refused.status == 409, "{refused:?}");
        let both = json!({"create": [wide], "delete": []});
        let refused = ask_the_api(world, "POST", "/v1/changes", &both)?;
        ensure!(refused.status == 409, "{refused:?}");

        ensure!(rules()?.body == before, "a refused rule changed {before} to {}", rules()?.body);
        expect_answer(Transport::Tcp, &a, &b, PORT)?;
        expect_blocked(Transport::Tcp, &b, &a, PORT)
    });
}

#[test]
fn an_instance_whose_deny_does_not_fit_is_closed_until_it_does() {
    let mut world = World::make(Plan { agent_flags: rows("8"), ..Plan::nodes(&["n1"]) })
        .unwrap_or_else(|error| panic!("{error:?}"));
    if let Err(error) = deny_what_does_not_fit(&mut world) {
        panic!("{error:?}");
    }
}

/// The rules come before the node, so that nobody can refuse them.
fn deny_what_does_not_fit(world: &mut World) -> Result<()> {
    world.control.start()?;
    let built_in = ask_the_api(world, "DELETE", "/v1/rules/r1", &Value::Null)?;
    ensure!(built_in.status == 200, "{built_in:?}");
    let many: Vec<String> = (9_001..9_033).step_by(2).map(|port| port.to_string()).collect();
    for (source, ports, action) in [("appC", vec!["8080".to_owned()], "allow"), ("appA", many, "deny")] {
        let rule = json!({"source": source, "destination": "appB", "ports": ports, "action": action});
        let written = ask_the_api(world, "POST", "/v1/rules", &rule)?;
        ensure!(written.status < 300, "{written:?}");
    }
    world.start_agents()?;
    let (c, d) = (world.run_instance("appC", "n1")?, world.run_instance("appD", "n1")?);
    let b = world.run_instance("appB", "n1")?;
    let status = world.node("n1")?.status()?;
    ensure!(status["ready"] == false && status["detail"].is_string(), "it says that all is well: {status}");
    ensure!(status["closed"] == json!([b.address()?]), "not appB's instance alone is closed: {status}");
    expect_blocked(Transport::Tcp, &c, &b, PORT).context("a rule allows it, but the instance is closed")?;
    let (of_b, of_d) = (instance_socket(&b, 0)?, instance_socket(&d, 0)?);
    ensure!(!passes(&of_b, &of_d)?, "a closed instance reaches another");
    // What its kernel says by itself is dropped and counted, too.
    let counted = dropped(world.node("n1")?, DropReason::EndpointClosed, Direction::Egress)?;
    ensure!(counted >= 2, "only {counted} packets were counted as stopped by the closure");

    let removed = ask_the_api(world, "DELETE", "/v1/rules/r3", &Value::Null)?;
    ensure!(removed.status == 200, "{removed:?}");
    await_that("the node to be ready", PATIENCE, || Ok(world.node("n1")?.status()?["ready"] == true))?;
    ensure!(world.node("n1")?.status()?["closed"] == json!([]), "still closed");
    expect_answer(Transport::Tcp, &c, &b, PORT).map(drop)
}

fn term(source: u32, destination: u32, port: u16, action: Action, rule: u32) -> Term {
    let ports = PortRange::new(port, port).expect("ordered");
    let ruling = Ruling { action, rule: RuleId(rule) };
    let (source, destination) = (Party::one(identity(source)), Party::one(identity(destination)));
    Term { source, destination, protocol: Protocol::Tcp, ports, layer: Layer::Enforced, ruling }
}

fn speech(from: usize, to: Ipv4Addr, kind: Speaking) -> Speech {
    Speech { source: LOCALS[from].1.into(), destination: to.into(), kind, source_port: 40_000, destination_port: PORT }
}

fn reason(run: &Run) -> Option<DropReason> {
    run.events.first().and_then(|event| event.drop_reason()).and_then(Result::ok)
}

#[test]
fn where_a_deny_does_not_fit_removals_and_the_epoch_go_on_and_the_app_is_named() {
    let settings = Scene::settings();
    let mut lab = Lab::open(&Sizes { rows: 4, flows: 1_024, placements: 1_024 }, &settings).expect("lab");
    let scene = Scene::set(&mut lab, settings).expect("scene");
    let mut programmed = Programmed::default();
    let revoked = term(256, 257, PORT, Action::Allow, 1);
    let standing = term(256, 258, PORT, Action::Allow, 2);
    let desired = |terms: &[Term]| Desired::of_terms(terms.iter().copied());
    assert!(programmed.reconcile(&mut lab.datapath, &desired(&[revoked, standing]), true).is_complete());

    let arrival = Arrival { ifindex: scene.ifindexes[0], ..Arrival::default() };
    let send = |lab: &mut Lab, kind| {
        lab.run(Hook::FromEndpoint, &speech(0, LOCALS[1].1, kind).frame(0), arrival).expect("test run")
    };
    assert_eq!(reason(&send(&mut lab, Speaking::Tcp(SYN))), None, "the flow is allowed");
    let epoch = lab.datapath.epoch.read();

    let denies = (9_001..9_017).step_by(2).map(|port| term(258, 259, port, Action::Deny, 3));
    let tight: Vec<Term> = denies.chain([standing]).collect();
    let outcome = programmed.reconcile(&mut lab.datapath, &desired(&tight), false);

    assert!(!outcome.is_complete(), "eight denies do not fit into four rows");
    assert_eq!(
        outcome.unguarded,
        [identity(258), identity(259)].map(Party::one).into(),
        "both ends of the denies, and nobody else"
    );
    assert_ne!(lab.datapath.epoch.read(), epoch, "the epoch is raised all the same");
    let prefix = revoked.ports.prefixes().next().expect("a port is a prefix");
    let row = lab.datapath.rows.get(&RowKey::new(revoked.pair(), prefix)).expect("read the rows");
    assert_eq!(row, None, "the revoked row is gone all the same");
    assert_eq!(reason(&send(&mut lab, Speaking::Tcp(ACK))), Some(DropReason::FlowRevoked));

    assert!(programmed.reconcile(&mut lab.datapath, &desired(&[standing]), false).is_complete(), "it fits again");
}

#[test]
fn a_closed_endpoint_neither_sends_nor_receives_whoever_is_at_the_other_end() {
    let settings = Scene::settings();
    let mut lab = Lab::open(&Sizes { rows: 64, flows: 1_024, placements: 1_024 }, &settings).expect("lab");
    let mut scene = Scene::set(&mut lab, settings).expect("scene");
    let ends = [1, 256, 257, 258, 259];
    let pairs = ends.iter().flat_map(|source| ends.iter().map(move |destination| (*source, *destination)));
    let everything = (1..).zip(pairs).map(|(rule, (source, destination))| Term {
        ports: PortRange::ALL,
        ..term(source, destination, PORT, Action::Allow, rule)
    });
    scene.set_terms(&mut lab, everything.collect()).expect("rules in force");

    let closed = 1;
    let (ifindex, address) = (scene.ifindexes[closed], LOCALS[closed].1);
    let shut = scene.model.endpoints[&ifindex].standing_as(Standing::CLOSED);
    lab.datapath.endpoints.put(&shut).expect("close the endpoint");
    lab.datapath.placements.put(&address.into(), shut.placement()).expect("close its address");

    let syn = Speaking::Tcp(SYN);
    let at = |ifindex| Arrival { ifindex, ..Arrival::default() };
    let (home, app, remote) = REMOTES[1];
    let tunnel = Preparation::default().tunnel(NODES[home], app);
    let from_remote = Speech { source: remote.into(), ..speech(0, address, syn) }.frame(0);
    let from_host = Speech { source: HOST.into(), ..speech(0, address, syn) }.frame(0);
    let runs = [
        ("to a neighbour", lab.run(Hook::FromEndpoint, &speech(closed, LOCALS[0].1, syn).frame(0), at(ifindex))),
        ("to another node", lab.run(Hook::FromEndpoint, &speech(closed, remote, syn).frame(0), at(ifindex))),
        ("to its node", lab.run(Hook::FromEndpoint, &speech(closed, HOST, syn).frame(0), at(ifindex))),
        ("from a neighbour", lab.run(Hook::FromEndpoint, &speech(0, address, syn).frame(0), at(scene.ifindexes[0]))),
        ("from another node", lab.run_prepared(Hook::FromOverlay, &from_remote, at(1), tunnel)),
        ("from its node", lab.run(Hook::ToEndpoint, &from_host, at(ifindex))),
    ];
    for (way, run) in runs {
        assert_eq!(reason(&run.expect("test run")), Some(DropReason::EndpointClosed), "{way}");
    }
    let elsewhere = lab.run(Hook::FromEndpoint, &speech(0, LOCALS[2].1, syn).frame(0), at(scene.ifindexes[0]));
    assert_eq!(reason(&elsewhere.expect("test run")), None, "the others go on");
}
