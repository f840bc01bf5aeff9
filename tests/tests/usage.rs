//! What each rule did, counted: packets, bytes, flows and the last hit, by `netpol list`; and what was denied, exactly.

use std::net::UdpSocket;

use anyhow::{Context, Result, ensure};
use common::DropReason;
use serde_json::Value;
use tests::world::instance::Instance;
use tests::world::patience::{PATIENCE, await_some, await_that};
use tests::world::{Plan, World, scenario};

const PORT: u16 = 8080;
const DATAGRAMS: u64 = 10;
const PAYLOAD: [u8; 72] = [7; 72];
/// With the headers of UDP, IPv4 and Ethernet.
const LENGTH: u64 = 114;
const FLOOD: u64 = 20_000;

/// What `netpol list` says of a rule's usage; none where the rule is not listed.
fn usage(world: &World, id: &str) -> Result<Option<Value>> {
    let listed = world.netpol(&["list", "-o", "json"])?.expect_exit(0)?.json()?;
    let rules = listed["items"].as_array().with_context(|| format!("no items in {listed}"))?;
    Ok(rules.iter().find(|rule| rule["id"] == id).map(|rule| rule["usage"].clone()))
}

fn make(world: &World, action: &str) -> Result<String> {
    let line = [action, "appA", "appB", "--port", "8080", "--protocol", "udp", "--wait", "-o", "json"];
    let made = world.netpol(&line)?.expect_exit(0)?.json()?;
    made["id"].as_str().map(str::to_owned).with_context(|| format!("a rule without an id: {made}"))
}

fn sender(from: &Instance) -> Result<UdpSocket> {
    let address = from.address()?;
    from.namespace.inside(|| UdpSocket::bind((address, 0)).context("bind"))
}

#[test]
fn a_rule_counts_what_it_let_pass_and_what_it_refused_once_on_the_node_that_began_it() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let (a, far) = (world.run_instance("appA", "n1")?, world.run_instance("appB", "n2")?);
        let near = world.run_instance("appB", "n1")?;
        let allow = make(world, "allow")?;
        let fresh = usage(world, &allow)?.context("the rule is listed")?;
        ensure!(fresh["packets"] == 0 && fresh["last_hit"].is_null(), "a new rule has done nothing: {fresh}");
        let sockets = [sender(&a)?, sender(&a)?, sender(&a)?];
        for (socket, to) in sockets.iter().zip([&far, &far, &near]) {
            let server = to.namespace.inside(|| UdpSocket::bind((to.address()?, PORT)).context("bind"))?;
            server.set_read_timeout(Some(PATIENCE))?;
            for _ in 0..DATAGRAMS {
                socket.send_to(&PAYLOAD, (to.address()?, PORT))?;
                server.recv(&mut [0; PAYLOAD.len()]).context("an allowed datagram")?;
            }
        }
        let counted = await_some("the rule's flows to be counted", PATIENCE, || {
            let usage = usage(world, &allow)?.context("the rule is listed")?;
            Ok((usage["packets"].as_u64() >= Some(3 * DATAGRAMS)).then_some(usage))
        })?;
        ensure!(counted["flows"] == 3 && counted["packets"] == 3 * DATAGRAMS, "30 datagrams of 3 flows: {counted}");
        ensure!(counted["bytes"] == 3 * DATAGRAMS * LENGTH, "of {LENGTH} bytes each: {counted}");
        ensure!(counted["last_hit"].is_string(), "and when the last came: {counted}");
        await_that("the flows that live to be counted, once each", PATIENCE, || {
            Ok(usage(world, &allow)?.context("the rule is listed")?["live"] == 3)
        })?;

        let deny = make(world, "deny")?;
        for _ in 0..DATAGRAMS {
            // The kernel says on the next call that the last was refused.
            let _ = sockets[0].send_to(&PAYLOAD, (far.address()?, PORT));
        }
        await_that("the deny rule's work to be counted", PATIENCE, || {
            Ok(usage(world, &deny)?.context("the rule is listed")?["packets"] == DATAGRAMS)
        })?;
        world.netpol(&["list", "--color", "never"])?.expect_exit(0)?.expect_said("deny").map(drop)
    });
}

#[test]
fn a_rule_that_leaves_a_node_and_comes_back_goes_on_with_its_count() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let (a, b) = (world.run_instance("appA", "n1")?, world.run_instance("appB", "n2")?);
        let group = |flag: &str| world.netpol(&["app", "set", "appA", flag, "edge"])?.expect_exit(0).map(drop);
        group("--add-group")?;
        let line = ["allow", "group:edge", "appB", "--port", "8080", "--protocol", "udp", "--wait", "-o", "json"];
        let made = world.netpol(&line)?.expect_exit(0)?.json()?;
        let rule = made["id"].as_str().context("an id")?;
        let server = b.namespace.inside(|| UdpSocket::bind((b.address()?, PORT)).context("bind"))?;
        server.set_read_timeout(Some(PATIENCE))?;
        for times in 1..=3 {
            let socket = sender(&a)?;
            for _ in 0..DATAGRAMS {
                socket.send_to(&PAYLOAD, (b.address()?, PORT))?;
                server.recv(&mut [0; PAYLOAD.len()]).context("an allowed datagram")?;
            }
            await_that("all to be counted", PATIENCE, || {
                Ok(usage(world, rule)?.context("the rule is listed")?["packets"] == times * DATAGRAMS)
            })
            .with_context(|| format!("{times} times {DATAGRAMS}: {:?}", usage(world, rule)))?;
            // With nobody of the group on n1, the rule is not n1's business.
            group("--remove-group")?;
            group("--add-group")?;
            world.netpol(&["allow", "appA", "appA", "--port", &times.to_string(), "--wait"])?.expect_exit(0)?;
        }
        Ok(())
    });
}

#[test]
fn every_denied_packet_of_a_flood_is_counted_though_not_every_one_is_told() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let (a, far) = (world.run_instance("appA", "n1")?, world.run_instance("appB", "n2")?);
        let socket = sender(&a)?;
        // No rule lets appA speak with appB, so n1 was not told who that is; its programs count what they know.
        let denied = DropReason::UnknownDestination.name();
        let before = world.node("n1")?.drops()?.get(denied).copied().unwrap_or_default();
        for _ in 0..FLOOD {
            socket.send_to(&PAYLOAD, (far.address()?, PORT))?;
        }
        await_that("each to be counted", PATIENCE, || {
            let now = world.node("n1")?.drops()?.get(denied).copied().unwrap_or_default();
            Ok(now - before == FLOOD)
        })
        .with_context(|| format!("{:?}", world.node("n1").map(|node| node.drops())))
    });
}
