//! Kernels without tcx: the same programs as tc filters, by forcing it. What holds for links holds for filters, and one
//! changes over into the other with nothing lost or unjudged.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::programs::tc::{NlOptions, SchedClassifier, TcAttachOptions, TcAttachType, TcHandle};
use common::SCHEMA;
use tests::lab::Yardstick;
use tests::rounds;
use tests::world::fabric::UPLINK;
use tests::world::namespace::Namespace;
use tests::world::node::Node;
use tests::world::patience::{PATIENCE, await_that};
use tests::world::probe::{Outcome, Transport, ask, expect_answer, expect_blocked};
use tests::world::stage::{NODES, PORT, Stage, Traffic};
use tests::world::{Plan, World, scenario};

const BY_FILTERS: [&str; 2] = ["--attach", "tc"];
const BY_LINKS: [&str; 2] = ["--attach", "tcx"];
const OVERLAY: &str = "netpol0";
/// Enough for an answer on an idle machine; what asks so briefly asks again.
const A_MOMENT: Duration = Duration::from_millis(300);

fn plan(flags: [&str; 2]) -> Plan {
    Plan { agent_flags: flags.map(str::to_owned).to_vec(), ..Plan::nodes(&NODES) }
}

/// How many filters and links hold our programs on an interface's side.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    filters: usize,
    links: usize,
}

const BY_ONE_FILTER: Held = Held { filters: 1, links: 0 };
const BY_ONE_LINK: Held = Held { filters: 0, links: 1 };

impl Held {
    fn on(node: &Namespace, interface: &str, side: &str) -> Result<Self> {
        let listed = tc(node, &format!("filter show dev {interface} {side}"))?;
        let side = if side == "ingress" { TcAttachType::Ingress } else { TcAttachType::Egress };
        let (_, links) = node.inside(|| Ok(SchedClassifier::query_tcx(interface, side)?))?;
        Ok(Self { filters: listed.lines().filter(|line| line.contains("handle 0x")).count(), links: links.len() })
    }
}

/// Every hook of a node with this instance's host end.
fn hooks(host_interface: &str) -> [(&str, &str); 4] {
    [(UPLINK, "egress"), (OVERLAY, "ingress"), (host_interface, "ingress"), (host_interface, "egress")]
}

fn expect_held(node: &Node, host_interface: &str, expected: &Held) -> Result<()> {
    for (interface, side) in hooks(host_interface) {
        let held = Held::on(&node.namespace, interface, side)?;
        ensure!(held == *expected, "{side} of {interface} is held by {held:?} instead of {expected:?}");
    }
    Ok(())
}

fn pinned_links(node: &Node) -> Result<usize> {
    Ok(fs::read_dir(node.pins.join(format!("v{SCHEMA}")).join("link"))?.count())
}

/// Runs the tool of that name in a namespace, by its own means.
fn tc(namespace: &Namespace, line: &str) -> Result<String> {
    run(Command::new("tc").args(["-n", namespace.name()]).args(line.split(' ')))
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn repairs(node: &Node) -> Result<u64> {
    node.status()?["repairs"].as_u64().context("the agent counts its repairs")
}

/// Waits for one repair more, and until everything is as it should be.
fn await_repair(node: &Node, before: u64, stage: &Stage) -> Result<()> {
    await_that("the agent to repair it", PATIENCE, || Ok(repairs(node)? > before))?;
    await_that("the allowed way to be open", PATIENCE, || {
        let outcome = ask(Transport::Tcp, &stage.a, &stage.near_b, PORT + 1, A_MOMENT)?;
        Ok(matches!(outcome, Outcome::Answered(_)))
    })?;
    expect_blocked(Transport::Tcp, &stage.c, &stage.near_b, PORT + 1)
}

#[test]
fn by_filters_what_is_allowed_passes_what_is_not_does_not_and_killing_agents_loses_nothing() {
    scenario(plan(BY_FILTERS), |world| {
        let stage = Stage::set(world)?;
        expect_held(world.node("n1")?, &stage.a.attached.host_interface, &BY_ONE_FILTER)?;
        let traffic = stage.open_traffic()?;
        for round in 0..rounds(2, 20) {
            let node = NODES[round % NODES.len()];
            world.node_mut(node)?.kill_agent()?;
            traffic.await_a_while()?;
            expect_blocked(Transport::Tcp, &stage.c, &stage.b, PORT + 2)?;
            expect_answer(Transport::Tcp, &stage.a, &stage.b, PORT + 2)
                .context("a new flow while the agent is dead")?;
            world.restart_agent(node)?;
            traffic.await_a_while()?;
        }
        expect_held(world.node("n1")?, &stage.a.attached.host_interface, &BY_ONE_FILTER)?;
        ensure!(pinned_links(world.node("n1")?)? == 0, "links are pinned as well");
        traffic.finish()
    });
}

#[test]
fn a_rule_revoked_stops_live_flows_through_filters_too() {
    scenario(plan(BY_FILTERS), |world| {
        let stage = Stage::set(world)?;
        expect_answer(Transport::Tcp, &stage.a, &stage.b, PORT)?;
        world.netpol(&["revoke", "appA", "appB", "--port", "8080-8089"])?.expect_exit(0)?;
        await_that("the revoke to be in force", PATIENCE, || {
            Ok(ask(Transport::Tcp, &stage.a, &stage.near_b, PORT, A_MOMENT)? == Outcome::Blocked)
        })?;
        expect_blocked(Transport::Tcp, &stage.a, &stage.b, PORT)
    });
}

/// Restarts every agent, one after the other, so that it attaches in this way.
fn change_over(world: &mut World, flags: [&str; 2], traffic: &Traffic) -> Result<()> {
    world.set_agent_flags(&flags);
    for node in NODES {
        world.node_mut(node)?.kill_agent()?;
        world.restart_agent(node)?;
        traffic.await_a_while()?;
    }
    Ok(())
}

#[test]
fn changing_from_filters_to_links_loses_nothing_and_leaves_no_filter() {
    scenario(plan(BY_FILTERS), |world| {
        let stage = Stage::set(world)?;
        let traffic = stage.open_traffic()?;
        change_over(world, BY_LINKS, &traffic)?;
        expect_held(world.node("n1")?, &stage.a.attached.host_interface, &BY_ONE_LINK)?;
        ensure!(repairs(world.node("n1")?)? == 0, "something was missing in between");
        traffic.finish()
    });
}

/// Where the kernel adds the qdisc that filters need to an interface that is up, it first silences the interface's queues
/// (`qdisc_graft`, `dev_deactivate`; 6.18) and drops what is sent in that moment, whoever adds it. Measured: one in 20 of
/// these additions costs a message of a flow that sends every millisecond; on a machine that has much else to do, more.
#[test]
fn changing_from_links_to_filters_passes_nothing_unjudged_and_loses_what_the_kernel_drops_while_it_adds_a_qdisc() {
    const WHILE_QDISCS_ARE_ADDED: u64 = 100;
    scenario(plan(BY_LINKS), |world| {
        let stage = Stage::set(world)?;
        let traffic = stage.open_traffic()?;
        change_over(world, BY_FILTERS, &traffic)?;
        expect_held(world.node("n1")?, &stage.a.attached.host_interface, &BY_ONE_FILTER)?;
        ensure!(pinned_links(world.node("n1")?)? == 0, "links are pinned as well");
        ensure!(repairs(world.node("n1")?)? == 0, "something was missing in between");
        traffic.finish_but(WHILE_QDISCS_ARE_ADDED)?;

        // Once the qdiscs are there, one way changes into the other and back with nothing lost.
        let traffic = stage.open_traffic()?;
        change_over(world, BY_LINKS, &traffic)?;
        change_over(world, BY_FILTERS, &traffic)?;
        traffic.finish()
    });
}

#[test]
fn a_filter_that_somebody_removed_is_put_back_also_with_its_qdisc() {
    scenario(plan(BY_FILTERS), |world| {
        let stage = Stage::set(world)?;
        let (node, veth) = (world.node("n1")?, &stage.c.attached.host_interface);
        for removal in ["filter del dev VETH ingress prio 1", "qdisc del dev VETH clsact"] {
            let before = repairs(node)?;
            tc(&node.namespace, &removal.replace("VETH", veth))?;
            await_repair(node, before, &stage).context(removal)?;
            ensure!(Held::on(&node.namespace, veth, "ingress")? == BY_ONE_FILTER, "after {removal}");
            ensure!(Held::on(&node.namespace, veth, "egress")? == BY_ONE_FILTER, "after {removal}");
        }
        Ok(())
    });
}

#[test]
fn a_filter_ahead_of_ours_is_overtaken_again() {
    scenario(plan(BY_FILTERS), |world| {
        let stage = Stage::set(world)?;
        let (node, veth) = (world.node("n1")?, &stage.c.attached.host_interface);
        let mut foreign = Yardstick::load()?;
        node.namespace.inside(|| {
            let options = NlOptions { priority: 1, handle: TcHandle::new(0, 7), classid: None };
            let options = TcAttachOptions::Netlink(options);
            Ok(foreign.program("empty")?.attach_with_options(veth, TcAttachType::Ingress, options).map(drop)?)
        })?;
        await_repair(node, 0, &stage)?;
        let listed = tc(&node.namespace, &format!("filter show dev {veth} ingress"))?;
        let first = listed.lines().find(|line| line.contains("handle 0x")).unwrap_or_default();
        ensure!(first.contains("from_endpoint"), "ours is not the first:\n{listed}");
        Ok(())
    });
}

#[test]
fn where_somebody_has_a_tcx_program_filters_cannot_guard_so_the_endpoint_is_shut_and_he_is_named() {
    scenario(plan(BY_FILTERS), |world| {
        let stage = Stage::set(world)?;
        let (node, veth) = (world.node("n1")?, &stage.c.attached.host_interface);
        let mut foreign = Yardstick::load()?;
        node.namespace.inside(|| {
            let options = TcAttachOptions::TcxOrder(Default::default());
            Ok(foreign.program("empty")?.attach_with_options(veth, TcAttachType::Ingress, options).map(drop)?)
        })?;
        await_that("the node to say so", PATIENCE, || {
            let status = node.status()?;
            let detail = status["detail"].as_str().unwrap_or_default();
            Ok(status["ready"] == false && detail.contains("--attach tcx") && detail.contains(veth.as_str()))
        })?;
        let link = run(Command::new("ip").args(["-n", node.namespace.name(), "-o", "link", "show", "dev", veth]))?;
        ensure!(!link.contains(",UP"), "the endpoint is open though nobody judges what it sends: {link}");
        drop(foreign);
        await_that("the node to be ready again", PATIENCE, || Ok(node.status()?["ready"] == true))?;
        expect_answer(Transport::Tcp, &stage.a, &stage.near_b, PORT).map(drop)
    });
}
