//! A flow is believed for as long as its initiator keeps it alive, and the kernel forgets it with no agent to help.

use std::net::{SocketAddr, TcpListener, TcpStream};

use agent::datapath::{Hook, Sizes};
use anyhow::{Context, Result, ensure};
use common::event::{Charge, EventKind};
use common::verdict::DropReason;
use common::{Action, Layer, Party, PortRange, Protocol, RuleId, Ruling, Term};
use tests::lab::traffic::{ACK, FIN_ACK, RST, SYN, SYN_ACK, Speaking, Speech};
use tests::lab::{Arrival, LOCALS, Lab, Scene, identity};
use tests::world::instance::Instance;
use tests::world::node::Node;
use tests::world::patience::{PATIENCE, await_that};
use tests::world::{Plan, World, scenario};

use super::maps;
use super::talk::{instance_socket, passes};

const PORT: u16 = 8080;
const CLIENT: u16 = 40_000;

/// Flows that are silent for three seconds are forgotten, but for an open stream.
fn plan() -> Plan {
    let names = ["--udp-lifetime", "--unanswered-lifetime", "--tcp-ended-lifetime"];
    let agent_flags = names.into_iter().flat_map(|name| [name.to_owned(), "3".to_owned()]).collect();
    Plan { agent_flags, ..Plan::nodes(&["n1", "n2"]) }
}

fn allow(world: &World, protocol: &str) -> Result<()> {
    let line = ["allow", "appA", "appB", "--port", "8080-8089", "--protocol", protocol, "--wait"];
    world.netpol(&line)?.expect_exit(0).map(drop)
}

fn connect(from: &Instance, to: &Instance, port: u16) -> Result<(TcpStream, TcpStream)> {
    let address = SocketAddr::from((to.address()?, port));
    let listener = to.namespace.inside(|| TcpListener::bind(address).context("listen"))?;
    let client = from.namespace.inside(|| TcpStream::connect_timeout(&address, PATIENCE).context("connect"))?;
    let (server, _) = listener.accept().context("accept")?;
    Ok((client, server))
}

/// How many flows of each kind a node holds, and what their initiator is charged for.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    udp: usize,
    tcp: usize,
    charge: Charge,
}

fn held(node: &Node, initiator: &Instance) -> Result<Held> {
    Ok(Held {
        udp: maps::flows(node, Protocol::Udp)?.len(),
        tcp: maps::flows(node, Protocol::Tcp)?.len(),
        charge: maps::charge(node, initiator.address()?)?,
    })
}

fn await_held(world: &World, initiator: &Instance, expected: &Held) -> Result<()> {
    ["n1", "n2"].into_iter().try_for_each(|name| {
        let node = world.node(name)?;
        await_that("silent flows to be forgotten", PATIENCE, || Ok(held(node, initiator)? == *expected))
            .with_context(|| format!("{name} holds {:?}", held(node, initiator)))
    })
}

#[test]
fn silent_flows_vanish_and_their_charges_return_though_every_agent_is_dead() {
    scenario(plan(), |world| {
        let (a, b) = (world.run_instance("appA", "n1")?, world.run_instance("appB", "n2")?);
        allow(world, "tcp")?;
        allow(world, "udp")?;
        for node in ["n1", "n2"] {
            world.node_mut(node)?.kill_agent()?;
        }
        let (asker, answerer) = (instance_socket(&a, CLIENT)?, instance_socket(&b, PORT)?);
        ensure!(passes(&asker, &answerer)? && passes(&answerer, &asker)?, "an answered flow");
        asker.send_to(b"?", (b.address()?, PORT + 1)).context("an unanswered flow")?;
        let open = connect(&a, &b, PORT)?;
        drop(connect(&a, &b, PORT + 1)?);
        let all = held(world.node("n2")?, &a)?;
        ensure!((all.udp, all.tcp) == (2, 2), "not every flow was held: {all:?}");
        ensure!(
            all.charge == Charge { unanswered: 1, answered: 3, fragmented: 0 },
            "not every flow was charged: {all:?}"
        );

        await_held(world, &a, &Held { udp: 0, tcp: 1, charge: Charge { unanswered: 0, answered: 1, fragmented: 0 } })?;
        drop(open);
        await_held(world, &a, &Held { udp: 0, tcp: 0, charge: Charge::default() })
    });
}

#[test]
fn answers_alone_keep_no_flow_alive() {
    scenario(plan(), |world| {
        let (a, b) = (world.run_instance("appA", "n1")?, world.run_instance("appB", "n2")?);
        allow(world, "udp")?;
        let (asker, answerer) = (instance_socket(&a, CLIENT)?, instance_socket(&b, PORT)?);
        ensure!(passes(&asker, &answerer)?, "the question is allowed");
        ensure!(passes(&answerer, &asker)?, "the first answer is");
        await_that("the answers to be no answers any more", PATIENCE, || Ok(!passes(&answerer, &asker)?))?;
        await_that("the flow to be forgotten under fire", PATIENCE, || {
            ensure!(!passes(&answerer, &asker)?, "the answers pass again");
            Ok(maps::flows(world.node("n2")?, Protocol::Udp)?.is_empty())
        })?;
        ensure!(passes(&asker, &answerer)? && passes(&answerer, &asker)?, "a new question opens the way again");
        Ok(())
    });
}

#[test]
fn questions_keep_a_flow_alive_that_nobody_answers_any_more() {
    scenario(plan(), |world| {
        let (a, b) = (world.run_instance("appA", "n1")?, world.run_instance("appB", "n2")?);
        allow(world, "udp")?;
        let (asker, answerer) = (instance_socket(&a, CLIENT)?, instance_socket(&b, PORT)?);
        let witness = instance_socket(&a, CLIENT + 1)?;
        ensure!(passes(&asker, &answerer)? && passes(&answerer, &asker)?, "an answered flow");
        ensure!(passes(&witness, &answerer)? && passes(&answerer, &witness)?, "another one, which falls silent");
        await_that("the silent flow to be forgotten", PATIENCE, || {
            ensure!(passes(&asker, &answerer)?, "a question got lost");
            Ok(maps::flows(world.node("n2")?, Protocol::Udp)?.len() == 1)
        })?;
        ensure!(passes(&answerer, &asker)?, "the flow that was kept alive is answered still");
        Ok(())
    });
}

/// A stream between two local instances, as the programs see it.
struct Stream {
    lab: Lab,
    scene: Scene,
}

impl Stream {
    fn allowed() -> Self {
        let settings = Scene::settings();
        let mut lab = Lab::open(&Sizes { rows: 64, flows: 1_024, placements: 1_024 }, &settings).expect("lab");
        let scene = Scene::set(&mut lab, settings).expect("scene");
        let mut stream = Self { lab, scene };
        stream.rule(Some(Action::Allow));
        stream
    }

    fn rule(&mut self, action: Option<Action>) {
        let term = action.map(|action| Term {
            source: Party::one(identity(LOCALS[0].0)),
            destination: Party::one(identity(LOCALS[1].0)),
            layer: Layer::Enforced,
            protocol: Protocol::Tcp,
            ports: PortRange::ALL,
            ruling: Ruling { action, rule: RuleId(1) },
        });
        self.scene.set_terms(&mut self.lab, term.into_iter().collect()).expect("rules in force");
    }

    /// A segment from either end. None if it passed in a flow that stood; else why not, or that it opened one.
    fn send(&mut self, from: usize, flags: u8) -> Option<Result<(), DropReason>> {
        let forth = Speech {
            source: LOCALS[0].1.into(),
            destination: LOCALS[1].1.into(),
            kind: Speaking::Tcp(flags),
            source_port: CLIENT,
            destination_port: PORT,
        };
        let said = if from == 0 { forth } else { forth.turned() };
        let arrival = Arrival { ifindex: self.scene.ifindexes[from], ..Arrival::default() };
        let run = self.lab.run(Hook::FromEndpoint, &said.frame(0), arrival).expect("test run");
        // The end of an earlier flow is told too.
        let event = run.events.iter().find(|event| event.kind() != Some(EventKind::End))?;
        Some(match event.drop_reason() {
            None => Ok(()),
            Some(reason) => Err(reason.expect("a reason that exists")),
        })
    }

    fn open(&mut self) {
        assert_eq!(self.send(0, SYN), Some(Ok(())), "a SYN opens a flow");
        assert_eq!(self.send(1, SYN_ACK), None);
        assert_eq!(self.send(0, ACK), None);
    }
}

#[test]
fn a_syn_on_an_ended_flow_opens_a_new_one_if_a_rule_still_says_so() {
    for (name, end) in [("reset", &[(0, RST)][..]), ("closed by both", &[(0, FIN_ACK), (1, FIN_ACK)][..])] {
        let mut stream = Stream::allowed();
        stream.open();
        for (from, flags) in end {
            assert_eq!(stream.send(*from, *flags), None, "{name}");
        }
        assert_eq!(stream.send(0, SYN), Some(Ok(())), "{name}: judged anew, so it is a new flow");
        for (from, flags) in end {
            assert_eq!(stream.send(*from, *flags), None, "{name}");
        }
        stream.rule(None);
        assert_eq!(stream.send(0, SYN), Some(Err(DropReason::NoRule)), "{name}: the rule is gone");
        stream.rule(Some(Action::Deny));
        assert_eq!(stream.send(0, SYN), Some(Err(DropReason::DenyRule)), "{name}: a rule denies it");
    }
}

#[test]
fn a_syn_against_a_live_flow_is_its_senders_own_and_takes_nothing_over() {
    let mut stream = Stream::allowed();
    stream.open();
    assert_eq!(stream.send(1, SYN), Some(Err(DropReason::NoRule)), "the responder may not connect back");
    assert_eq!(stream.send(0, ACK), None, "and the flow goes on");
    stream.rule(None);
    assert_eq!(stream.send(0, ACK), Some(Err(DropReason::FlowRevoked)));
    assert_eq!(stream.send(0, SYN), Some(Err(DropReason::NoRule)));
}
