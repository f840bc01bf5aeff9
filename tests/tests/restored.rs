//! A store that was put back is an old copy: no node follows it by itself, and every node does once an operator says so.

use anyhow::{Context, Result, ensure};
use tests::world::instance::Instance;
use tests::world::patience::{PATIENCE, await_that};
use tests::world::probe::Transport::Tcp;
use tests::world::probe::{expect_answer, expect_blocked};
use tests::world::{Plan, World, scenario};

const PORT: u16 = 8080;

fn netpol(world: &World, line: &str) -> Result<()> {
    world.netpol(&line.split(' ').collect::<Vec<_>>())?.expect_exit(0).map(drop)
}

fn await_refusal(world: &World) -> Result<()> {
    await_that("both nodes to refuse the restored store", PATIENCE, || {
        let refuses = |node: &str| -> Result<bool> {
            let status = world.node(node)?.status()?;
            let detail = status["detail"].as_str().unwrap_or_default().to_owned();
            Ok(status["connected"] == false && detail.contains("netpol-api accept"))
        };
        Ok(refuses("n1")? && refuses("n2")?)
    })
    .with_context(|| format!("{:?}", world.node("n1").map(|node| node.status())))
}

fn expect_denied(a: &Instance, b: &Instance) -> Result<()> {
    expect_blocked(Tcp, a, b, PORT)
}

#[test]
fn nodes_enforce_what_they_had_until_an_operator_accepts_the_restored_store() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let (a, b) = (world.run_instance("appA", "n1")?, world.run_instance("appB", "n2")?);
        netpol(world, "allow appA appB --port 8080 --wait")?;
        let scratch = world.control.ca();
        let backup = scratch.with_file_name("backup.db").display().to_string();
        world.control.on_store("backup", &[&backup])?.expect_exit(0)?;
        // What came after the copy: an attacker who can put the old one back must not undo it.
        netpol(world, "deny appA appB --port 8080 --wait")?;
        expect_denied(&a, &b)?;

        world.control.kill()?;
        let restored = world.control.on_store("restore", &["--replace", &backup])?.expect_exit(0)?;
        restored.expect_said("netpol-api accept")?;
        world.control.start()?;
        await_refusal(world)?;
        expect_denied(&a, &b)?;
        // Also an agent that starts anew has its last state and its history from its own disk.
        world.node_mut("n2")?.kill_agent()?;
        world.restart_agent("n2")?;
        await_refusal(world)?;
        expect_denied(&a, &b)?;

        world.control.on_store("accept", &[])?.expect_exit(0)?.expect_said("go over to")?;
        world.await_connected()?;
        await_that("the old rule to be in force again", PATIENCE, || Ok(expect_answer(Tcp, &a, &b, PORT).is_ok()))?;
        netpol(world, "revoke appA appB --port 8080 --wait")?;
        expect_denied(&a, &b)?;
        ensure!(world.node("n1")?.status()?["ready"] == true, "all is well again");
        Ok(())
    });
}
