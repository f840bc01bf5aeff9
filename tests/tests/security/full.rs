//! Maps that are full: whoever asks for more is refused by name, nothing half made stays, and what is in force goes on.

use anyhow::{Result, ensure};
use common::verdict::{Direction, DropReason};
use tests::world::flow::Flow;
use tests::world::node::Node;
use tests::world::patience::{PATIENCE, await_that};
use tests::world::probe::{Transport, expect_answer, expect_blocked};
use tests::world::{Plan, World, scenario};

use super::talk::{before_the_agents_start, dropped, instance_socket, passes};

const PORT: u16 = 8080;

fn flags(name: &str, value: &str) -> Vec<String> {
    [name, value].map(str::to_owned).to_vec()
}

/// Attaches a namespace and expects to be refused with these words, and that nothing of it stays.
fn expect_refusal(world: &mut World, node: &str, words: &str) -> Result<()> {
    let interfaces = interfaces(world.node(node)?)?;
    let namespace = world.namespace()?;
    let path = namespace.path().display().to_string();
    let refused = world.netpol_on(node, &["attach", "--app", "appZ", "--netns", &path])?;
    ensure!(refused.exit != 0, "it was attached\n{refused}");
    refused.expect_said(words)?;
    ensure!(self::interfaces(world.node(node)?)? == interfaces, "an interface was left behind");
    await_that("its addresses to be released", PATIENCE, || {
        Ok(!world.netpol(&["instances", "appZ", "-o", "name"])?.stdout.contains("appZ/0"))
    })
}

fn interfaces(node: &Node) -> Result<String> {
    let listed = node.namespace.inside(|| Ok(std::fs::read_to_string("/proc/thread-self/net/dev")?))?;
    let names = listed.lines().skip(2).filter_map(|line| line.split(':').next());
    Ok(names.map(str::trim).collect::<Vec<_>>().join(" "))
}

#[test]
fn where_addresses_are_full_an_attachment_is_refused_by_name() {
    // The node's own address is one; each instance has two.
    scenario(Plan { agent_flags: flags("--placements", "5"), ..Plan::nodes(&["n1"]) }, |world| {
        let (a, b) = (world.run_instance("appA", "n1")?, world.run_instance("appB", "n1")?);
        world.netpol(&["allow", "appA", "appB", "--port", "8080", "--wait"])?.expect_exit(0)?;
        expect_refusal(world, "n1", " is full")?;
        expect_answer(Transport::Tcp, &a, &b, PORT).map(drop)
    });
}

#[test]
fn a_node_that_cannot_hold_every_placement_says_so_and_believes_nobody_whom_it_does_not_know() {
    before_the_agents_start(&["n1", "n2"], |world| {
        // Its own address, both of its instance's, and both of one instance elsewhere.
        world.node_mut("n1")?.start_agent(&flags("--placements", "5"))?;
        world.restart_agent("n2")?;
        let b = world.run_instance("appB", "n1")?;
        world.netpol(&["allow", "appA", "appB", "--port", "8080-8089", "--wait"])?.expect_exit(0)?;
        let known = world.run_instance("appA", "n2")?;
        let live = Flow::open(Transport::Tcp, &known, &b, PORT)?;

        let unknown = world.run_instance("appA", "n2")?;
        ensure!(unknown.attached.missing == ["n1"], "n1 is said to know it: {:?}", unknown.attached);
        let status = world.node("n1")?.status()?;
        let detail = status["detail"].as_str().unwrap_or_default();
        ensure!(status["ready"] == false && detail.contains(" is full"), "n1 says that all is well: {status}");
        expect_blocked(Transport::Tcp, &unknown, &b, PORT + 1)?;
        live.await_deliveries(100)?;
        expect_answer(Transport::Tcp, &known, &b, PORT + 2).map(drop)
    });
}

#[test]
fn where_flows_are_full_a_new_one_is_dropped_and_counted_and_those_that_are_open_go_on() {
    const FLOWS: usize = 16;
    scenario(Plan { agent_flags: flags("--flows", "16"), ..Plan::nodes(&["n1"]) }, |world| {
        let (a, b) = (world.run_instance("appA", "n1")?, world.run_instance("appB", "n1")?);
        world.netpol(&["allow", "appA", "appB", "--protocol", "udp", "--wait"])?.expect_exit(0)?;
        let live = Flow::open(Transport::Udp, &a, &b, PORT)?;
        let target = instance_socket(&b, PORT + 1)?;
        let mut passed = 1;
        for _ in 0..FLOWS {
            passed += usize::from(passes(&instance_socket(&a, 0)?, &target)?);
        }
        ensure!(passed == FLOWS, "{passed} flows fit into a map of {FLOWS}");
        let counted = dropped(world.node("n1")?, DropReason::TableFull, Direction::Egress)?;
        ensure!(counted == 1, "{counted} packets are counted as found no room");
        live.await_deliveries(100)?;
        let totals = live.finish();
        ensure!(totals.forth.sent == totals.forth.delivered, "an open flow lost messages: {totals:?}");
        ensure!(totals.back.sent == totals.back.delivered, "an open flow lost messages: {totals:?}");
        Ok(())
    });
}
