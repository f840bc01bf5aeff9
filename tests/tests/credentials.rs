//! What nodes prove themselves by, on the real daemons: joined once by a token, then by a key whose certificate renews itself;
//! and what becomes of a node that is removed.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::world::patience::{PATIENCE, await_that};
use tests::world::probe::Transport::Tcp;
use tests::world::probe::{expect_answer, expect_blocked};
use tests::world::{Plan, World, scenario};

const PORT: u16 = 8080;
const LIFETIME: Duration = Duration::from_secs(10);

fn netpol(world: &World, line: &str) -> Result<String> {
    Ok(world.netpol(&line.split(' ').collect::<Vec<_>>())?.expect_exit(0)?.stdout)
}

fn short_lived(nodes: &[&str]) -> Plan {
    let api_flags = ["--certificate-lifetime", "10s"].map(str::to_owned).into();
    Plan { api_flags, ..Plan::nodes(nodes) }
}

#[test]
fn certificates_renew_themselves_also_after_they_ran_out() {
    scenario(short_lived(&["n1"]), |world| {
        let certificate = |world: &World| world.node("n1").and_then(|node| Ok(format!("{:?}", node.proof()?)));
        let first = certificate(world)?;
        await_that("the agent to renew its certificate", PATIENCE, || Ok(certificate(world)? != first))?;
        // The token is gone, and nobody misses it.
        std::fs::remove_file(world.control.join_token("n1"))?;

        // The machine sleeps until after its certificate ran out, and nothing that it was connected to is there any more.
        world.node("n1")?.freeze_agent()?;
        world.control.kill()?;
        std::thread::sleep(LIFETIME + Duration::from_secs(1));
        world.control.start()?;
        world.node("n1")?.thaw_agent()?;
        await_that("the node to be back", PATIENCE, || Ok(netpol(world, "nodes")?.contains("ready")))?;

        // An API that is away for longer than that: its node cannot renew, and goes on enforcing.
        world.control.kill()?;
        std::thread::sleep(LIFETIME + Duration::from_secs(1));
        world.control.start()?;
        await_that("the node to be back", PATIENCE * 2, || Ok(netpol(world, "nodes")?.contains("ready")))?;

        // And an agent that starts anew has only its key.
        world.node_mut("n1")?.kill_agent()?;
        world.restart_agent("n1")?;
        world.await_connected()?;
        netpol(world, "allow appA appB --port 8080 --wait").map(drop)
    });
}

#[test]
fn what_a_removed_node_sends_is_believed_by_nobody() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let (a, b) = (world.run_instance("appA", "n1")?, world.run_instance("appB", "n2")?);
        netpol(world, "allow appA appB --port 8080 --wait")?;
        netpol(world, "allow appB appA --port 8080 --wait")?;
        expect_answer(Tcp, &a, &b, PORT)?;
        expect_answer(Tcp, &b, &a, PORT)?;

        let said = netpol(world, "node remove n2")?;
        ensure!(said.contains("removed n2, gone with it: appB/0"), "{said}");
        await_that("the removed node to be told", PATIENCE, || Ok(world.node("n2")?.status()?["connected"] == false))?;
        let head = netpol(world, "status -o json")?;
        let head: serde_json::Value = serde_json::from_str(&head)?;
        await_that("the other node to know", PATIENCE, || {
            Ok(world.node("n1")?.status()?["revision"].as_u64() >= head["status"]["revision"].as_u64())
        })?;
        expect_blocked(Tcp, &a, &b, PORT)?;
        // Its agent still enforces what it knew and lets this out; the other node does not believe it any more.
        let before = world.node("n1")?.drops()?.get("unknown-node").copied().unwrap_or(0);
        expect_blocked(Tcp, &b, &a, PORT)?;
        let after = world.node("n1")?.drops()?.get("unknown-node").copied().unwrap_or(0);
        ensure!(after > before, "{:?}", world.node("n1")?.drops()?);
        // Nor does the API, also when the agent starts anew, with its key and its spent token.
        world.node_mut("n2")?.kill_agent()?;
        let mut agent = world.node("n2")?.launch_agent(&[])?;
        await_that("the agent to be refused", PATIENCE, || {
            Ok(agent.log().contains("the policy API refuses this node"))
        })?;
        agent.kill().or_else(|_| Ok(()))
    });
}

#[test]
fn a_node_that_drains_keeps_its_instances_through_a_restart_and_takes_no_new_ones() {
    scenario(Plan::nodes(&["n1"]), |world| {
        let a = world.run_instance("appA", "n1")?;
        let b = world.run_instance("appB", "n1")?;
        netpol(world, "allow appA appB --port 8080 --wait")?;
        let said = netpol(world, "node drain n1")?;
        ensure!(said.contains("n1 is draining: it takes no new instances"), "{said}");
        ensure!(netpol(world, "nodes")?.contains("draining"), "{}", netpol(world, "nodes")?);
        ensure!(world.run_instance("appC", "n1").is_err(), "an instance that came after");
        world.node_mut("n1")?.kill_agent()?;
        world.restart_agent("n1")?;
        world.await_connected()?;
        expect_answer(Tcp, &a, &b, PORT)?;
        netpol(world, "node undrain n1")?;
        world.run_instance("appC", "n1").map(drop)
    });
}
