//! An address that changed owner lends no verdict: what `appA` had open is nothing to `appC`, who has its address now.

use std::net::{Ipv4Addr, UdpSocket};

use anyhow::{Context, Result, ensure};
use common::Protocol;
use common::verdict::{Direction, DropReason};
use serde_json::json;
use tests::forge::{Datagram, RawSocket, in_vxlan};
use tests::world::fabric::UPLINK;
use tests::world::http::Request;
use tests::world::instance::{INTERFACE, Instance};
use tests::world::patience::{PATIENCE, await_that};
use tests::world::{Plan, World, scenario};

use super::maps;
use super::talk::{expect_dropped, instance_socket, passes};

const CLIENT: u16 = 40_000;
const PORT: u16 = 8080;

/// Claims every address of a node's slice that nobody has or had, so that the next instance takes one that was freed.
fn fill_the_slice(world: &World, like: Ipv4Addr) -> Result<()> {
    const MOST_IN_A_CLAIM: usize = 16;
    let [first, second, third, _] = like.octets();
    let fresh: Vec<_> =
        (1..255).map(|last| Ipv4Addr::new(first, second, third, last)).filter(|ip| *ip != like).collect();
    let node = world.node("n1")?.proof()?;
    let mut claimed = 0;
    for addresses in fresh.chunks(MOST_IN_A_CLAIM) {
        let body = json!({"app": "filler", "addresses": addresses}).to_string().into_bytes();
        let request = Request { method: "POST", path: "/v1/bindings", headers: &[], body };
        let answer = world.control.request_of(&node, &request)?;
        ensure!(answer.status == 201, "{answer:?}");
        claimed = answer.body["revision"].as_u64().context("the claim's revision")?;
    }
    await_that("the node to know", PATIENCE, || {
        Ok(world.node("n1")?.status()?["revision"].as_u64().is_some_and(|known| known >= claimed))
    })
}

/// A flow of `appA` that is live on both nodes when its address goes to `appC`.
struct Inheritance {
    b: Instance,
    c: Instance,
    of_b: UdpSocket,
    of_c: UdpSocket,
}

impl Inheritance {
    fn bring_about(world: &mut World) -> Result<Self> {
        let (a, b) = (world.run_instance("appA", "n1")?, world.run_instance("appB", "n2")?);
        let line = ["allow", "appA", "appB", "--port", "8080", "--protocol", "udp", "--wait"];
        world.netpol(&line)?.expect_exit(0)?;
        // So that the other node knows who appC is: what stops it shall be policy, and not that it is a stranger.
        let other_port = ["allow", "appC", "appB", "--port", "8081", "--protocol", "udp", "--wait"];
        world.netpol(&other_port)?.expect_exit(0)?;
        let (of_a, of_b) = (instance_socket(&a, CLIENT)?, instance_socket(&b, PORT)?);
        ensure!(passes(&of_a, &of_b)? && passes(&of_b, &of_a)?, "the flow is live");
        let address = a.address()?;
        world.stop_instance(a)?;
        fill_the_slice(world, address)?;

        let c = world.run_instance("appC", "n1")?;
        ensure!(c.address()? == address, "appC has {} instead of {address}", c.address()?);
        ensure!(c.attached.missing.is_empty(), "not every node knows of appC: {:?}", c.attached);
        let of_c = instance_socket(&c, CLIENT)?;
        Ok(Self { b, c, of_b, of_c })
    }

    /// What `appC` would send on that flow, in the tunnel from its node; sent by a machine that passes for that node, so
    /// that only the receiving node judges it.
    fn send_past_the_first_node(&self, world: &World) -> Result<u64> {
        let (from, to) = (world.node("n1")?, world.node("n2")?);
        let stranger = world.stranger()?;
        let inner = Datagram {
            source_mac: self.c.namespace.mac(INTERFACE)?,
            destination_mac: self.b.namespace.mac(INTERFACE)?,
            source: self.c.address()?,
            destination: self.b.address()?,
            source_port: CLIENT,
            destination_port: PORT,
            payload: b"may I?".to_vec(),
        };
        let outer = Datagram {
            source_mac: stranger.mac(UPLINK)?,
            destination_mac: to.namespace.mac(UPLINK)?,
            source: from.underlay,
            destination: to.underlay,
            source_port: 50_000,
            destination_port: 4789,
            payload: in_vxlan(self.c.attached.identity, &inner.frame()),
        };
        RawSocket::open(&stranger, UPLINK)?.send(&outer.frame())?;
        Ok(1)
    }
}

#[test]
fn an_address_that_changed_owner_lends_no_verdict() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let Inheritance { of_b, of_c, .. } = &Inheritance::bring_about(world)?;
        let (first, second) = (world.node("n1")?, world.node("n2")?);
        for node in [first, second] {
            ensure!(
                maps::flows(node, Protocol::Udp)?.len() == 1,
                "the old flow is not there any more on {}",
                node.name
            );
        }
        let send = |from: &UdpSocket, to: &UdpSocket| -> Result<u64> {
            ensure!(!passes(from, to)?, "it passed on the flow of somebody else");
            Ok(1)
        };
        expect_dropped(second, DropReason::NoRule, Direction::Egress, || send(of_b, of_c)).context("towards appC")?;
        expect_dropped(first, DropReason::NoRule, Direction::Egress, || send(of_c, of_b)).context("from appC")?;

        let line = ["allow", "appC", "appB", "--port", "8080", "--protocol", "udp", "--wait"];
        world.netpol(&line)?.expect_exit(0)?;
        ensure!(passes(of_c, of_b)? && passes(of_b, of_c)?, "as appC's own flow it may");
        world.netpol(&["revoke", "appA", "appB", "--port", "8080", "--protocol", "udp", "--wait"])?.expect_exit(0)?;
        ensure!(passes(of_c, of_b)? && passes(of_b, of_c)?, "what appA may is nothing to appC's flow");
        Ok(())
    });
}

#[test]
fn the_receiving_node_alone_tells_the_new_owner_from_the_old() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let inheritance = Inheritance::bring_about(world)?;
        let node = world.node("n2")?;
        expect_dropped(node, DropReason::NoRule, Direction::Ingress, || inheritance.send_past_the_first_node(world))?;
        let mut heard = [0; 16];
        ensure!(inheritance.of_b.recv(&mut heard).is_err(), "it was delivered");
        Ok(())
    });
}
