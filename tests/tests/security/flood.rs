//! Whoever floods pays alone: at the node that sends and at the node that receives, with SYNs as with datagrams.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use common::verdict::{Direction, DropReason};
use tests::forge::RawSocket;
use tests::lab::traffic::{SYN, Speaking, Speech};
use tests::world::flow::Flow;
use tests::world::instance::{INTERFACE, Instance};
use tests::world::patience::{PATIENCE, await_that};
use tests::world::probe::{Transport, expect_answer};
use tests::world::{Plan, World, scenario};

use super::maps;
use super::talk::{dropped, instance_socket, passes};

const PORT: u16 = 8080;
const QUOTA: u64 = 32;
const FLOOD: u16 = 1_000;

fn quota() -> Vec<String> {
    ["--unanswered-flows".to_owned(), QUOTA.to_string()].to_vec()
}

/// One instance that floods, its neighbour of the same app, and their target, each with a live flow.
struct Stage {
    flooder: Instance,
    neighbour: Instance,
    target: Instance,
    transport: Transport,
    live: Vec<Flow>,
}

impl Stage {
    fn set(world: &mut World, transport: Transport) -> Result<Self> {
        let (flooder, neighbour) = (world.run_instance("appA", "n1")?, world.run_instance("appA", "n1")?);
        let target = world.run_instance("appB", "n2")?;
        world.netpol(&["allow", "appA", "appB", "--protocol", transport.name(), "--wait"])?.expect_exit(0)?;
        let live = vec![
            Flow::open(transport, &neighbour, &target, PORT)?,
            // What the flooder itself had is answered, and charged apart.
            Flow::open(transport, &flooder, &target, PORT + 1)?,
        ];
        Ok(Self { flooder, neighbour, target, transport, live })
    }

    /// The flood was cut at its quota on this node, and nobody's flow lost a message by it.
    fn expect_only_the_flood_cut(self, world: &World, node: &str, direction: Direction) -> Result<()> {
        let node = world.node(node)?;
        let over = u64::from(FLOOD) - 2 * QUOTA;
        await_that("the flood to be cut", PATIENCE, || {
            Ok(dropped(node, DropReason::QuotaUnanswered, direction)? >= over)
        })
        .with_context(|| format!("counted: {:?}", node.drops()))?;
        let charge = maps::charge(node, self.flooder.address()?)?;
        ensure!(charge.unanswered <= QUOTA, "the flooder has {charge:?}");
        expect_answer(self.transport, &self.neighbour, &self.target, PORT + 2)
            .context("a new flow of the neighbour")?;
        for flow in self.live {
            flow.await_deliveries(100)?;
            let totals = flow.finish();
            ensure!(totals.forth.sent == totals.forth.delivered, "a live flow lost messages: {totals:?}");
            ensure!(totals.back.sent == totals.back.delivered, "a live flow lost messages: {totals:?}");
        }
        Ok(())
    }
}

/// SYNs from ever other ports, past the flooder's own stack; nobody completes a handshake.
fn flood_with_syns(world: &World, stage: &Stage) -> Result<()> {
    let wire = RawSocket::open(&stage.flooder.namespace, INTERFACE)?;
    let own_mac = stage.flooder.namespace.mac(INTERFACE)?;
    let gateway = world.node("n1")?.namespace.mac(&stage.flooder.attached.host_interface)?;
    let (source, destination): (Ipv4Addr, Ipv4Addr) = (stage.flooder.address()?, stage.target.address()?);
    for source_port in 20_000..20_000 + FLOOD {
        let kind = Speaking::Tcp(SYN);
        let mut frame = Speech {
            source: source.into(),
            destination: destination.into(),
            kind,
            source_port,
            destination_port: 9_999,
        }
        .frame(0);
        frame[..6].copy_from_slice(&gateway);
        frame[6..12].copy_from_slice(&own_mac);
        wire.send(&frame)?;
    }
    Ok(())
}

#[test]
fn a_syn_flood_is_cut_where_it_starts_and_costs_nobody_else_a_packet() {
    scenario(Plan { agent_flags: quota(), ..Plan::nodes(&["n1", "n2"]) }, |world| {
        let stage = Stage::set(world, Transport::Tcp)?;
        flood_with_syns(world, &stage)?;
        stage.expect_only_the_flood_cut(world, "n1", Direction::Egress)
    });
}

#[test]
fn a_flood_that_its_own_node_lets_through_is_cut_where_it_arrives() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let receiver = world.node_mut("n2")?;
        receiver.kill_agent()?;
        receiver.start_agent(&quota())?;
        let stage = Stage::set(world, Transport::Udp)?;
        let socket = instance_socket(&stage.flooder, 0)?;
        for port in 10_000..10_000 + FLOOD {
            // What does not get out shows in the counts.
            socket.send_to(b"flood", (stage.target.address()?, port)).map(drop).unwrap_or_default();
        }
        stage.expect_only_the_flood_cut(world, "n2", Direction::Ingress)
    });
}

#[test]
fn answered_flows_have_a_limit_of_their_own_that_spares_everybody_else() {
    const ANSWERED: u64 = 4;
    let agent_flags = ["--answered-flows".to_owned(), ANSWERED.to_string()].to_vec();
    scenario(Plan { agent_flags, ..Plan::nodes(&["n1", "n2"]) }, |world| {
        let (greedy, neighbour) = (world.run_instance("appA", "n1")?, world.run_instance("appA", "n1")?);
        let target = world.run_instance("appB", "n2")?;
        world.netpol(&["allow", "appA", "appB", "--protocol", "udp", "--wait"])?.expect_exit(0)?;
        let answerer = instance_socket(&target, PORT)?;
        let mut answered = Vec::new();
        for _ in 0..=ANSWERED {
            let asker = instance_socket(&greedy, 0)?;
            ensure!(passes(&asker, &answerer)?, "a question of its own passes");
            answered.push(passes(&answerer, &asker)?);
        }
        ensure!(answered == [true, true, true, true, false], "answered: {answered:?}");
        ensure!(dropped(world.node("n2")?, DropReason::QuotaAnswered, Direction::Egress)? > 0, "not counted as such");
        let other = instance_socket(&neighbour, 0)?;
        ensure!(passes(&other, &answerer)? && passes(&answerer, &other)?, "the neighbour pays for it");
        Ok(())
    });
}
