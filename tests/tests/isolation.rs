//! Isolation cuts an app, or one instance, off from everybody at once, and nobody else; it outlives the agent and ends on
//! time.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tests::world::flow::Flow;
use tests::world::instance::{Family, Instance};
use tests::world::netpol::Invocation;
use tests::world::patience::{PATIENCE, await_that};
use tests::world::probe::Transport::{Tcp, Udp};
use tests::world::probe::{expect_answer, expect_blocked_over, ping_over};
use tests::world::{Plan, World, scenario};

const PORT: u16 = 8080;
/// Of the flows that stay open.
const FLOW_PORT: u16 = 9090;
/// Nothing for this long is silence: hundreds of messages would have come.
const QUIET: Duration = Duration::from_millis(300);

fn netpol(world: &World, line: &str) -> Result<Invocation> {
    world.netpol(&line.split(' ').collect::<Vec<_>>())?.expect_exit(0)
}

/// Two of each app, one per node, and everything between them allowed, with a flow each way between each pair of nodes.
struct Cast {
    a: [Instance; 2],
    b: [Instance; 2],
}

impl Cast {
    fn gather(world: &mut World) -> Result<Self> {
        let a = [world.run_instance("appA", "n1")?, world.run_instance("appA", "n2")?];
        let b = [world.run_instance("appB", "n1")?, world.run_instance("appB", "n2")?];
        netpol(world, "allow appA appB --protocol any")?;
        netpol(world, "allow appB appA --protocol any --wait")?;
        Ok(Self { a, b })
    }

    /// From the first instance of the first app, and to it, near and far.
    fn open_flows(&self) -> Result<Vec<Flow>> {
        let mut flows = Vec::new();
        for (number, b) in (0..).zip(&self.b) {
            flows.push(Flow::open(Tcp, &self.a[0], b, FLOW_PORT)?);
            flows.push(Flow::open_over(Family::V6, Udp, &self.a[0], b, FLOW_PORT)?);
            flows.push(Flow::open(Udp, b, &self.a[0], FLOW_PORT + number)?);
        }
        Ok(flows)
    }

    fn expect_cut_off(&self, which: &Instance) -> Result<()> {
        for b in &self.b {
            for family in Family::BOTH {
                expect_blocked_over(family, Tcp, which, b, PORT)?;
                expect_blocked_over(family, Udp, b, which, PORT)?;
                ensure!(!ping_over(family, which, b)?, "an echo gets out");
            }
        }
        Ok(())
    }

    fn expect_open(&self, which: &Instance) -> Result<()> {
        for b in &self.b {
            expect_answer(Tcp, which, b, PORT)?;
            expect_answer(Udp, b, which, PORT)?;
        }
        Ok(())
    }
}

fn host_reaches(world: &World, to: &Instance) -> Result<bool> {
    let address = to.address()?;
    let mut ping = world.node(&to.node)?.namespace.command("ping");
    ping.args(["-n", "-c", "1", "-W", "1"]).arg(address.to_string());
    Ok(Invocation::run(&mut ping, "ping".into())?.exit == 0)
}

#[test]
fn an_isolated_instance_is_cut_off_both_ways_and_its_twin_goes_on() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let cast = Cast::gather(world)?;
        let flows = cast.open_flows()?;
        let twin = Flow::open(Tcp, &cast.a[1], &cast.b[0], FLOW_PORT + 5)?;
        ensure!(host_reaches(world, &cast.a[0])?, "the built-in rule lets the node in");

        // One of the six of n1 is the node's own echo.
        let cut = "7 live flows cut: 6 on n1, 1 on n2";
        netpol(world, &format!("isolate {} --reason INC-7 --wait", cast.a[0].name()))?.expect_said(cut)?;
        flows.iter().try_for_each(|flow| flow.await_silence(QUIET))?;
        cast.expect_cut_off(&cast.a[0])?;
        ensure!(!host_reaches(world, &cast.a[0])?, "isolation holds for the node too");
        cast.expect_open(&cast.a[1])?;
        netpol(world, "isolations")?.expect_said("INC-7")?;
        world.netpol(&["check", "appA", "appB", "--port", "8080"])?.expect_exit(0)?.expect_said("isolated")?;

        twin.await_deliveries(100)?;
        let totals = twin.finish();
        for way in [totals.forth, totals.back] {
            ensure!(way.sent == way.delivered, "the twin's flow lost something: {totals:?}");
        }
        drop(flows);
        netpol(world, &format!("release {} --wait", cast.a[0].name()))?;
        cast.expect_open(&cast.a[0])?;
        ensure!(host_reaches(world, &cast.a[0])?, "released, for the node too");
        world.netpol(&["release", &cast.a[0].name()])?.expect_exit(1).map(drop)
    });
}

#[test]
fn an_isolated_app_is_cut_off_with_every_instance_also_those_to_come_and_no_audit_softens_it() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let cast = Cast::gather(world)?;
        let flows = cast.open_flows()?;
        for app in ["appA", "appB"] {
            netpol(world, &format!("app set {app} --mode audit --wait"))?;
        }
        netpol(world, "isolate appA --wait")?;
        flows.iter().try_for_each(|flow| flow.await_silence(QUIET))?;
        drop(flows);
        let late = world.run_instance("appA", "n2")?;
        for which in [&cast.a[0], &cast.a[1], &late] {
            cast.expect_cut_off(which)?;
        }
        netpol(world, "release appA --wait")?;
        [&cast.a[0], &cast.a[1], &late].into_iter().try_for_each(|which| cast.expect_open(which))
    });
}

#[test]
fn an_isolation_ends_on_time_by_the_apis_word_and_never_without_it() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let cast = Cast::gather(world)?;
        let isolate = format!("isolate {} --ttl 2s --wait", cast.a[0].name());
        let started = Instant::now();
        netpol(world, &isolate)?;
        cast.expect_cut_off(&cast.a[0])?;
        await_that("the isolation to end", PATIENCE, || Ok(cast.expect_open(&cast.a[0]).is_ok()))?;
        let lasted = started.elapsed();
        ensure!(lasted > Duration::from_millis(1_900), "it ended after {lasted:?} of two seconds");

        netpol(world, &isolate)?;
        world.control.kill()?;
        std::thread::sleep(Duration::from_secs(3));
        cast.expect_cut_off(&cast.a[0])?;
        world.control.start()?;
        await_that("the isolation to end", PATIENCE, || Ok(cast.expect_open(&cast.a[0]).is_ok()))
    });
}

#[test]
fn an_isolation_outlives_kill_9_of_the_agent() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let cast = Cast::gather(world)?;
        netpol(world, &format!("isolate {} --wait", cast.a[0].name()))?;
        world.node_mut("n1")?.kill_agent()?;
        cast.expect_cut_off(&cast.a[0])?;
        world.restart_agent("n1")?;
        cast.expect_cut_off(&cast.a[0])?;
        world.await_connected()?;
        cast.expect_cut_off(&cast.a[0])
    });
}
