//! What the agent refuses to stand on, and what it puts back in place.

use std::fs::DirBuilder;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::DirBuilderExt;

use anyhow::{Context, Result, bail, ensure};
use common::verdict::DropReason;
use tests::world::flow::Flow;
use tests::world::patience::{PATIENCE, await_that};
use tests::world::pins;
use tests::world::probe::{Outcome, Transport, ask, expect_answer};
use tests::world::{Plan, World, scenario};

const PORT: u16 = 8080;

/// A world whose API runs and whose agents do not yet.
fn before_the_agents_start(nodes: &[&str], test: impl FnOnce(&mut World) -> Result<()>) {
    let mut world = World::make(Plan::nodes(nodes)).unwrap_or_else(|error| panic!("{error:?}"));
    let result = world.control.start().and_then(|()| test(&mut world));
    if let Err(error) = result {
        panic!("{error:?}");
    }
}

fn expect_refusal(world: &mut World, words: &[&str]) -> Result<()> {
    let Err(error) = world.start_agents() else { bail!("the agent started") };
    let said = format!("{error:?}");
    let missing: Vec<_> = words.iter().filter(|&&word| !said.contains(word)).collect();
    ensure!(missing.is_empty(), "the agent does not say {missing:?}: {said}");
    Ok(())
}

#[test]
fn a_pin_directory_that_others_may_enter_is_refused() {
    before_the_agents_start(&["n1"], |world| {
        let pins = world.node("n1")?.pins.clone();
        DirBuilder::new().mode(0o755).create(&pins)?;
        let result = expect_refusal(world, &["0700", &pins.display().to_string()]);
        std::fs::remove_dir(&pins)?;
        result
    });
}

#[test]
fn an_overlay_port_that_somebody_holds_is_refused_and_its_holder_named() {
    before_the_agents_start(&["n1"], |world| {
        let node = &world.node("n1")?.namespace;
        let _holder = node.inside(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 4789)).context("take the port"))?;
        expect_refusal(world, &["4789", &std::process::id().to_string()])
    });
}

#[test]
fn programs_that_somebody_detached_are_put_back_and_the_endpoints_are_shut_meanwhile() {
    scenario(Plan::nodes(&["n1"]), |world| {
        let (a, b) = (world.run_instance("appA", "n1")?, world.run_instance("appB", "n1")?);
        let c = world.run_instance("appC", "n1")?;
        world.netpol(&["allow", "appA", "appB", "--port", "8080-8081", "--wait"])?.expect_exit(0)?;
        expect_answer(Transport::Tcp, &a, &b, PORT)?;
        let denied = Flow::start(Transport::Udp, &c, &b, PORT)?;
        let repairs =
            |world: &World| -> Result<u64> { Ok(world.node("n1")?.status()?["repairs"].as_u64().unwrap_or(0)) };
        ensure!(repairs(world)? == 0, "nothing was to be repaired yet");

        ensure!(pins::detach_links(&world.node("n1")?.pins)? > 0, "no link is pinned");

        await_that("the agent to put them back", PATIENCE, || Ok(repairs(world)? > 0))?;
        await_that("the allowed way to be open again", PATIENCE, || {
            let outcome = ask(Transport::Tcp, &a, &b, PORT + 1, std::time::Duration::from_millis(300))?;
            Ok(matches!(outcome, Outcome::Answered(_)))
        })?;
        let totals = denied.finish();
        ensure!(totals.forth.sent > 0 && totals.forth.delivered == 0, "denied messages passed: {totals:?}");
        Ok(())
    });
}

#[test]
fn one_instances_flood_of_flows_costs_no_other_instance_a_packet() {
    let flags = ["--unanswered-flows", "64", "--flows", "512"].map(str::to_owned).to_vec();
    scenario(Plan { agent_flags: flags, ..Plan::nodes(&["n1", "n2"]) }, |world| {
        let (flooder, neighbour) = (world.run_instance("appA", "n1")?, world.run_instance("appA", "n1")?);
        let b = world.run_instance("appB", "n2")?;
        world.netpol(&["allow", "appA", "appB", "--protocol", "udp", "--wait"])?.expect_exit(0)?;
        let live = Flow::open(Transport::Udp, &neighbour, &b, PORT)?;

        // Far more flows than its quota, and than the whole table.
        let (source, target) = (flooder.address()?, b.address()?);
        flooder.namespace.inside(|| {
            let socket = UdpSocket::bind((source, 0)).context("bind")?;
            for port in 10_000..14_000_u16 {
                // What does not get out shows in the counts below.
                socket.send_to(b"flood", (target, port)).map(drop).unwrap_or_default();
            }
            Ok(())
        })?;
        let reason = DropReason::QuotaUnanswered.name();
        let refused = world.node("n1")?.drops()?.get(reason).copied().unwrap_or(0);
        ensure!(refused >= 3_000, "only {refused} of 4,000 flows were over quota: {:?}", world.node("n1")?.drops());

        expect_answer(Transport::Udp, &neighbour, &b, PORT + 1).context("a new flow of the neighbour")?;
        live.await_deliveries(200)?;
        let totals = live.finish();
        ensure!(totals.forth.sent == totals.forth.delivered, "the neighbour's flow lost messages: {totals:?}");
        ensure!(totals.back.sent == totals.back.delivered, "the neighbour's flow lost messages: {totals:?}");
        Ok(())
    });
}
