//! Programs that somebody took away or put himself ahead of: one lost hook alone lets nothing through, and the agent
//! puts it back.

use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::programs::tc::TcAttachType;
use common::SCHEMA;
use common::verdict::{Direction, DropReason};
use tests::forge::{Datagram, MARK, RawSocket, Watcher, in_vxlan};
use tests::world::fabric::UPLINK;
use tests::world::flow::Flow;
use tests::world::instance::{INTERFACE, Instance};
use tests::world::namespace::Namespace;
use tests::world::node::Node;
use tests::world::patience::{PATIENCE, await_that};
use tests::world::probe::{Outcome, Transport, ask};
use tests::world::{Plan, World, scenario};

use super::intruder::Intruder;
use super::maps::{has_account, open_account};
use super::talk::{expect_dropped, route_for_all, turn_forwarding_on, udp_socket};

const PORT: u16 = 8080;
const OVERLAY: &str = "netpol0";
const STRANGER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 200);
/// Enough for an answer on an idle machine; what asks so briefly asks again.
const A_MOMENT: Duration = Duration::from_millis(300);

/// `appA` may reach ports of `appB` on its own node; `appC` tries all the time, and the node would forward for it.
struct Siege {
    a: Instance,
    b: Instance,
    c: Instance,
    denied: Flow,
}

impl Siege {
    fn lay(world: &mut World) -> Result<Self> {
        let (a, b) = (world.run_instance("appA", "n1")?, world.run_instance("appB", "n1")?);
        let c = world.run_instance("appC", "n1")?;
        world.netpol(&["allow", "appA", "appB", "--port", "8080-8089", "--wait"])?.expect_exit(0)?;
        turn_forwarding_on(world.node("n1")?)?;
        let denied = Flow::start(Transport::Udp, &c, &b, PORT)?;
        ensure!(repairs(world.node("n1")?)? == 0, "nothing was to be repaired yet");
        Ok(Self { a, b, c, denied })
    }

    /// Waits for the repair and until the allowed way is open; nothing denied may have passed.
    fn lift(self, world: &World) -> Result<()> {
        await_that("the agent to repair it", PATIENCE, || Ok(repairs(world.node("n1")?)? > 0))?;
        await_that("the allowed way to be open", PATIENCE, || {
            let outcome = ask(Transport::Tcp, &self.a, &self.b, PORT + 1, A_MOMENT)?;
            Ok(matches!(outcome, Outcome::Answered(_)))
        })?;
        let totals = self.denied.finish();
        ensure!(totals.forth.sent > 0, "the denied flow never tried: {totals:?}");
        ensure!(totals.forth.delivered == 0, "denied messages passed: {totals:?}");
        Ok(())
    }
}

fn repairs(node: &Node) -> Result<u64> {
    node.status()?["repairs"].as_u64().context("the agent counts its repairs")
}

/// Deletes the pin that holds a program on an interface, and with it the attachment.
fn unpin(node: &Node, program: &str, interface: &str) -> Result<()> {
    let index = node.namespace.inside(|| Ok(nix::net::if_::if_nametoindex(interface)?))?;
    let pin = node.pins.join(format!("v{SCHEMA}")).join("link").join(format!("{program}-{index}"));
    fs::remove_file(&pin).with_context(|| format!("delete {}", pin.display()))
}

#[test]
fn a_deleted_pin_behind_the_sender_lets_nothing_through_and_is_put_back() {
    scenario(Plan::nodes(&["n1"]), |world| {
        let siege = Siege::lay(world)?;
        route_for_all(world.node("n1")?, &siege.b)?;
        unpin(world.node("n1")?, "from_endpoint", &siege.c.attached.host_interface)?;
        siege.lift(world)
    });
}

#[test]
fn a_deleted_pin_before_the_receiver_lets_nothing_through_and_is_put_back() {
    scenario(Plan::nodes(&["n1"]), |world| {
        let siege = Siege::lay(world)?;
        route_for_all(world.node("n1")?, &siege.b)?;
        unpin(world.node("n1")?, "to_endpoint", &siege.b.attached.host_interface)?;
        siege.lift(world)
    });
}

#[test]
fn even_with_both_hooks_gone_a_node_that_forwards_carries_nothing_between_its_instances() {
    scenario(Plan::nodes(&["n1"]), |world| {
        let siege = Siege::lay(world)?;
        unpin(world.node("n1")?, "from_endpoint", &siege.c.attached.host_interface)?;
        unpin(world.node("n1")?, "to_endpoint", &siege.b.attached.host_interface)?;
        siege.lift(world)
    });
}

#[test]
fn a_program_ahead_of_ours_on_an_endpoint_is_overtaken_again() {
    scenario(Plan::nodes(&["n1"]), |world| {
        let siege = Siege::lay(world)?;
        route_for_all(world.node("n1")?, &siege.b)?;
        let node = &world.node("n1")?.namespace;
        let _intruder = Intruder::ahead_of_ours(node, &siege.c.attached.host_interface, TcAttachType::Ingress)?;
        siege.lift(world)
    });
}

#[test]
fn a_program_ahead_of_ours_on_the_uplink_is_overtaken_once_and_costs_the_node_no_route() {
    const STEADY_LOOKS: u32 = 3;
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let node = world.node("n1")?;
        node.namespace.ip("route add 198.51.100.0/24 via 192.0.2.250\n")?;
        let _intruder = Intruder::ahead_of_ours(&node.namespace, UPLINK, TcAttachType::Egress)?;
        await_that("the agent to overtake it", PATIENCE, || Ok(repairs(node)? > 0))?;

        let process = udp_socket(&node.namespace, (node.underlay, 0))?;
        let target = (world.node("n2")?.underlay, 4789);
        expect_dropped(node, DropReason::OverlayPort, Direction::Underlay, || {
            process.send_to(&MARK, target).map(drop).unwrap_or_default();
            Ok(1)
        })?;
        let routes = node.namespace.inside(|| Ok(fs::read_to_string("/proc/thread-self/net/route")?))?;
        // 198.51.100.0, as that file writes it.
        ensure!(routes.contains("006433C6"), "the node lost a route:\n{routes}");
        await_steady(node, STEADY_LOOKS)
    });
}

#[test]
fn a_deleted_pin_at_the_overlay_lets_no_lie_through_and_is_put_back() {
    const LIES: usize = 200;
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let (a, b) = (world.run_instance("appA", "n1")?, world.run_instance("appB", "n2")?);
        world.netpol(&["allow", "appA", "appB", "--port", "8080-8089", "--wait"])?.expect_exit(0)?;
        let (node, stranger) = (world.node("n2")?, world.stranger()?);
        turn_forwarding_on(node)?;
        let delivered = Watcher::start(&b.namespace, INTERFACE)?;
        let wire = RawSocket::open(&stranger, UPLINK)?;
        let lie = lie_to(world, &stranger, &a, &b)?;

        unpin(node, "from_overlay", OVERLAY)?;
        (0..LIES).try_for_each(|_| wire.send(&lie))?;
        await_that("the agent to repair it", PATIENCE, || Ok(repairs(node)? > 0))?;
        await_that("the allowed way to be open", PATIENCE, || {
            let outcome = ask(Transport::Tcp, &a, &b, PORT, A_MOMENT)?;
            Ok(matches!(outcome, Outcome::Answered(_)))
        })?;
        ensure!(delivered.seen() == 0, "{} lies were delivered", delivered.seen());
        Ok(())
    });
}

/// A tunnel packet of nobody's, for the node's own stack to take: it says that it comes from `a`.
fn lie_to(world: &World, stranger: &Namespace, a: &Instance, b: &Instance) -> Result<Vec<u8>> {
    let node = world.node(&b.node)?;
    let inner = Datagram {
        source_mac: [2, 0, 0, 0, 0, 0x66],
        destination_mac: node.namespace.mac(OVERLAY)?,
        source: a.address()?,
        destination: b.address()?,
        source_port: 40_000,
        destination_port: PORT,
        payload: MARK.to_vec(),
    };
    let outer = Datagram {
        source_mac: stranger.mac(UPLINK)?,
        destination_mac: node.namespace.mac(UPLINK)?,
        source: STRANGER,
        destination: node.underlay,
        source_port: 50_000,
        destination_port: 4789,
        payload: in_vxlan(a.attached.identity, &inner.frame()),
    };
    Ok(outer.frame())
}

/// Waits until the agent has looked this often since, by the accounts that it closes at each look, and repaired nothing.
fn await_steady(node: &Node, looks: u32) -> Result<()> {
    let before = repairs(node)?;
    for look in 0..looks {
        // An account that nobody holds is gone after the agent's next look.
        let address = Ipv4Addr::new(10, 255, 200, 1 + u8::try_from(look)?);
        open_account(node, address)?;
        await_that("the agent to look", PATIENCE, || Ok(!has_account(node, address)?))?;
    }
    let after = repairs(node)?;
    ensure!(after == before, "it repaired {} times more", after - before);
    Ok(())
}
