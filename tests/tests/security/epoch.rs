//! When every flow is judged again: after each change of what a verdict reads, and after a restart that may have cut one
//! short; not because an instance started somewhere.

use anyhow::{Context, Result, ensure};
use tests::world::patience::{PATIENCE, await_that};
use tests::world::{Plan, World, scenario};

fn epoch(world: &World) -> Result<u64> {
    world.node("n1")?.status()?["epoch"].as_u64().context("the agent tells its epoch")
}

fn revision(world: &World) -> Result<u64> {
    world.node("n1")?.status()?["revision"].as_u64().context("the agent tells its revision")
}

/// What the operator says, in force everywhere, raises the epoch.
fn expect_raise(world: &World, line: &[&str]) -> Result<()> {
    let before = epoch(world)?;
    world.netpol(line)?.expect_exit(0)?;
    let after = epoch(world)?;
    ensure!(after > before, "the epoch stayed at {before} after `netpol {}`", line.join(" "));
    Ok(())
}

#[test]
fn every_change_of_a_rule_raises_the_epoch() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let _a = world.run_instance("appA", "n1")?;
        expect_raise(world, &["allow", "appA", "appB", "--port", "8080", "--wait"])?;
        expect_raise(world, &["deny", "appA", "appB", "--port", "8080", "--wait"])?;
        expect_raise(world, &["allow", "appB", "appA", "--port", "8000-8010", "--wait"])?;
        expect_raise(world, &["revoke", "appB", "appA", "--port", "8000-8010", "--wait"])
    });
}

#[test]
fn a_restarted_agent_raises_the_epoch_though_nothing_changed() {
    scenario(Plan::nodes(&["n1"]), |world| {
        let _a = world.run_instance("appA", "n1")?;
        world.netpol(&["allow", "appA", "appB", "--port", "8080", "--wait"])?.expect_exit(0)?;
        let before = epoch(world)?;
        world.node_mut("n1")?.kill_agent()?;
        world.restart_agent("n1")?;
        let after = epoch(world)?;
        ensure!(after > before, "a kill between rows and epoch would leave revoked flows stamped for ever: {after}");
        Ok(())
    });
}

#[test]
fn an_instance_that_starts_or_stops_elsewhere_leaves_the_epoch_as_it_is() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let _a = world.run_instance("appA", "n1")?;
        world.netpol(&["allow", "appA", "appB", "--port", "8080", "--wait"])?.expect_exit(0)?;
        let (before, known) = (epoch(world)?, revision(world)?);
        let b = world.run_instance("appB", "n2")?;
        await_that("the placement to be known here", PATIENCE, || Ok(revision(world)? > known))?;
        let known = revision(world)?;
        world.stop_instance(b)?;
        await_that("the end to be known here", PATIENCE, || Ok(revision(world)? > known))?;
        ensure!(epoch(world)? == before, "the epoch went from {before} to {}", epoch(world)?);
        Ok(())
    });
}
