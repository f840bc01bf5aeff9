//! How a namespace becomes an instance and ceases to be one, by the real command line and the agent's socket.

use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, ensure};
use tests::world::patience::{PATIENCE, await_that};
use tests::world::probe::{Transport, expect_answer, expect_blocked, ping};
use tests::world::{Plan, World, scenario};

const PORT: u16 = 8080;

fn endpoints(world: &World, node: &str) -> Result<usize> {
    let status = world.node(node)?.status()?;
    status["endpoints"].as_array().map(Vec::len).context("the agent lists its endpoints")
}

#[test]
fn a_command_run_as_an_app_speaks_as_that_app_and_ends_with_its_own_code() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let b = world.run_instance("appB", "n2")?;
        world.netpol(&["allow", "appA", "appB", "--protocol", "icmp", "--wait"])?.expect_exit(0)?;
        let command = format!("ip -o -4 addr show eth0 && ping -n -c 1 -W 5 {} && exit 7", b.address()?);
        let line = ["run", "--app", "appA", "--", "sh", "-c", &command];
        let invocation = world.netpol_on("n1", &line)?.expect_exit(7)?;
        ensure!(invocation.stdout.contains("10.255.1."), "it has no address of this node\n{invocation}");
        ensure!(endpoints(world, "n1")? == 0, "the endpoint outlived its command");
        world.netpol(&["instances", "appA", "-o", "name"])?.expect_exit(0).map(drop)
    });
}

#[test]
fn run_says_125_where_netpol_itself_failed() {
    scenario(Plan::nodes(&["n1"]), |world| {
        world.node_mut("n1")?.kill_agent()?;
        world.netpol_on("n1", &["run", "--app", "appA", "--", "true"])?.expect_exit(125).map(drop)
    });
}

#[test]
fn echo_requests_pass_the_way_the_rule_goes_and_no_other() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let (a, b) = (world.run_instance("appA", "n1")?, world.run_instance("appB", "n2")?);
        let near_b = world.run_instance("appB", "n1")?;
        ensure!(!ping(&a, &b)? && !ping(&a, &near_b)?, "nothing is allowed yet");
        world.netpol(&["allow", "appA", "appB", "--protocol", "icmp", "--wait"])?.expect_exit(0)?;
        ensure!(ping(&a, &b)?, "across nodes");
        ensure!(ping(&a, &near_b)?, "on one node");
        ensure!(!ping(&b, &a)? && !ping(&near_b, &a)?, "the rule goes one way");
        world.netpol(&["revoke", "appA", "appB", "--protocol", "icmp", "--wait"])?.expect_exit(0)?;
        ensure!(!ping(&a, &b)? && !ping(&a, &near_b)?, "the rule is gone");
        Ok(())
    });
}

#[test]
fn the_nodes_own_namespace_is_never_an_endpoint_and_none_is_attached_twice() {
    scenario(Plan::nodes(&["n1"]), |world| {
        let own = world.node("n1")?.namespace.path().display().to_string();
        let refused = world.netpol_on("n1", &["attach", "--app", "appA", "--netns", &own])?.expect_exit(2)?;
        refused.expect_said("own network namespace")?;

        let a = world.run_instance("appA", "n1")?;
        let path = a.namespace.path().display().to_string();
        let refused = world.netpol_on("n1", &["attach", "--app", "appB", "--netns", &path])?.expect_exit(6)?;
        refused.expect_said("appA/0")?;
        ensure!(endpoints(world, "n1")? == 1, "one endpoint stands");
        Ok(())
    });
}

#[test]
fn the_agents_socket_is_for_root_alone() {
    scenario(Plan::nodes(&["n1"]), |world| {
        let mode = std::fs::metadata(&world.node("n1")?.socket)?.permissions().mode();
        ensure!(mode & 0o777 == 0o600, "mode {mode:o}");
        Ok(())
    });
}

#[test]
fn a_detached_instance_is_unreachable_and_its_address_still_tells_who_had_it() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let (a, b) = (world.run_instance("appA", "n1")?, world.run_instance("appB", "n2")?);
        let near_b = world.run_instance("appB", "n1")?;
        world.netpol(&["allow", "appA", "appB", "--port", "8080", "--wait"])?.expect_exit(0)?;
        expect_answer(Transport::Tcp, &a, &b, PORT)?;
        let address = b.address()?.to_string();
        let path = b.namespace.path().display().to_string();
        world.netpol_on("n2", &["detach", "--netns", &path])?.expect_exit(0)?;

        world.netpol(&["lookup", &address])?.expect_exit(0)?.expect_said("appB/0")?.expect_said("nobody has it now")?;
        expect_answer(Transport::Tcp, &a, &near_b, PORT).context("the other instance of the app")?;
        world.netpol_on("n2", &["detach", "--netns", &path])?.expect_exit(1).map(drop)
    });
}

#[test]
fn a_namespace_that_is_deleted_takes_its_endpoint_along() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let (a, b) = (world.run_instance("appA", "n1")?, world.run_instance("appB", "n2")?);
        world.netpol(&["allow", "appA", "appB", "--port", "8080", "--wait"])?.expect_exit(0)?;
        drop(b);
        await_that("the agent to notice", PATIENCE, || Ok(endpoints(world, "n2")? == 0))?;
        // Whoever comes next starts afresh: same app, same node, and a lookup that names the new one.
        let next = world.run_instance("appB", "n2")?;
        expect_answer(Transport::Tcp, &a, &next, PORT)?;
        let c = world.run_instance("appC", "n2")?;
        expect_blocked(Transport::Tcp, &a, &c, PORT)
    });
}
