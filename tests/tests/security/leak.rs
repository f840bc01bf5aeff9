//! What comes and goes leaves nothing behind, whichever way it goes.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use common::conntrack::Record;
use common::event::Charge;
use common::placement::Placement;
use common::{Address, FlowKey};
use tests::rounds;
use tests::world::instance::Instance;
use tests::world::node::Node;
use tests::world::patience::{PATIENCE, await_that};
use tests::world::pins;
use tests::world::{Plan, World, scenario};

use super::maps;

/// Descriptors that come and go: connections to the API, sockets of whoever asks.
const PASSING: usize = 8;

/// Everything of a node that grows with its instances.
#[derive(Debug, PartialEq, Eq)]
struct Belongings {
    pins: BTreeSet<String>,
    interfaces: BTreeSet<PathBuf>,
    /// Endpoints, placements, accounts and flows.
    elements: [usize; 4],
    endpoints: usize,
    /// Of both families and all tables.
    routes: BTreeSet<String>,
    neighbours: BTreeSet<String>,
}

impl Belongings {
    fn of(node: &Node) -> Result<Self> {
        Ok(Self {
            pins: pins::read(&node.pins)?.into_keys().collect(),
            interfaces: interfaces(node)?,
            elements: [
                maps::endpoints(node)?.len(),
                maps::count::<Address, Placement>(node, "PLACEMENTS")?,
                maps::count::<Address, Charge>(node, "CHARGES")?,
                maps::count::<FlowKey, Record>(node, "FLOWS")?,
            ],
            endpoints: endpoints(node)?,
            routes: routes(node)?,
            neighbours: shown(node, "neigh show nud permanent")?.lines().map(str::to_owned).collect(),
        })
    }
}

/// Without those of the kernel's own link-local addresses, which it makes in its own time.
fn routes(node: &Node) -> Result<BTreeSet<String>> {
    let both = [shown(node, "-4 route show table all")?, shown(node, "-6 route show table all")?].concat();
    Ok(both.lines().filter(|route| !route.contains("fe80::")).map(str::to_owned).collect())
}

fn shown(node: &Node, line: &str) -> Result<String> {
    let output = node.namespace.command("ip").args(line.split(' ')).output()?;
    ensure!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn endpoints(node: &Node) -> Result<usize> {
    node.status()?["endpoints"].as_array().map(Vec::len).context("the agent lists its endpoints")
}

fn interfaces(node: &Node) -> Result<BTreeSet<PathBuf>> {
    let listed = node.namespace.inside(|| Ok(std::fs::read_to_string("/proc/thread-self/net/dev")?))?;
    let names = listed.lines().skip(2).filter_map(|line| line.split(':').next());
    Ok(names.map(|name| name.trim().into()).collect())
}

/// Ends an instance in one of the ways in which instances end.
fn end(world: &World, instance: Instance, way: usize) -> Result<()> {
    match way {
        0 => world.stop_instance(instance),
        1 => {
            drop(instance);
            Ok(())
        }
        2 => {
            let veth = &instance.attached.host_interface;
            world.node(&instance.node)?.namespace.ip(&format!("link del {veth}\n"))
        }
        _ => instance.namespace.ip("link del eth0\n"),
    }
}

#[test]
fn instances_that_come_and_go_leave_nothing_in_the_kernel_and_nothing_open_in_the_agent() {
    scenario(Plan::nodes(&["n1"]), |world| come_and_go(world, rounds(40, 1_000)));
}

#[test]
fn instances_held_by_filters_leave_as_little() {
    let agent_flags = ["--attach", "tc"].map(str::to_owned).to_vec();
    scenario(Plan { agent_flags, ..Plan::nodes(&["n1"]) }, |world| come_and_go(world, rounds(8, 100)));
}

fn come_and_go(world: &mut World, rounds: usize) -> Result<()> {
    let before = Belongings::of(world.node("n1")?)?;
    let descriptors = world.node("n1")?.agent_descriptors()?;
    for round in 0..rounds {
        let instance = world.run_instance("appA", "n1")?;
        end(world, instance, round % 4)?;
        await_that("the endpoint to be forgotten", PATIENCE, || Ok(endpoints(world.node("n1")?)? == 0))
            .with_context(|| format!("round {round}"))?;
    }
    let now = || Belongings::of(world.node("n1")?);
    await_that("the node to be as it was", PATIENCE, || Ok(now()? == before))
        .with_context(|| format!("it was {before:#?}\nand became {:#?}", now()))?;
    let open = world.node("n1")?.agent_descriptors()?;
    ensure!(open <= descriptors + PASSING, "the agent had {descriptors} descriptors open, and now {open}");
    ensure!(world.node("n1")?.status()?["ready"] == true, "the node is not ready");
    Ok(())
}

#[test]
fn an_address_whose_veth_vanished_is_released() {
    scenario(Plan::nodes(&["n1"]), |world| {
        let a = world.run_instance("appA", "n1")?;
        let address = a.address()?.to_string();
        end(world, a, 2)?;
        await_that("the address to be released", PATIENCE, || {
            Ok(world.netpol(&["lookup", &address])?.said().contains("nobody has it now"))
        })?;
        let next = world.run_instance("appA", "n1")?;
        ensure!(next.address()?.to_string() == address, "it was not given out again: {:?}", next.attached);
        ensure!(next.attached.instance == 0, "its number was not given out again: {:?}", next.attached);
        Ok(())
    });
}
