//! The node and its instances: `host` is what a rule makes of it, in both directions, and nobody else can be it.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use common::verdict::{Direction, DropReason};
use nix::sys::socket::{setsockopt, sockopt};
use tests::forge::{Datagram, MARK, RawSocket, Watcher};
use tests::world::fabric::UPLINK;
use tests::world::instance::{INTERFACE, Instance};
use tests::world::namespace::Namespace;
use tests::world::patience::{PATIENCE, await_that};
use tests::world::{Plan, scenario};

use super::talk::{expect_dropped, instance_socket, passes, route_for_all, turn_forwarding_on, udp_socket};

const PORT: u16 = 8080;
const OVERLAY_PORT: u16 = 4789;

/// A connection from one namespace into another.
fn connect(from: &Namespace, to: &Namespace, address: SocketAddr) -> Result<(TcpStream, TcpStream)> {
    let listener = to.inside(|| TcpListener::bind(address).context("listen"))?;
    let client = from.inside(|| TcpStream::connect_timeout(&address, Duration::from_secs(5)).context("connect"))?;
    let (server, _) = listener.accept().context("accept")?;
    server.set_read_timeout(Some(Duration::from_millis(400)))?;
    client.set_read_timeout(Some(Duration::from_millis(400)))?;
    Ok((client, server))
}

fn says(from: &mut TcpStream, to: &mut TcpStream) -> bool {
    let mut heard = [0];
    from.write_all(b"x").is_ok() && to.read_exact(&mut heard).is_ok()
}

fn reaches(from: &Instance, to: &Namespace, address: impl Into<SocketAddr>) -> Result<bool> {
    let address = address.into();
    let _listener = to.inside(|| TcpListener::bind(address).context("listen"))?;
    from.namespace.inside(|| Ok(TcpStream::connect_timeout(&address, Duration::from_millis(500)).is_ok()))
}

#[test]
fn a_revoke_stops_what_the_node_has_open_with_an_instance_in_both_directions() {
    scenario(Plan::nodes(&["n1"]), |world| {
        let b = world.run_instance("appB", "n1")?;
        world.netpol(&["revoke", "host", "any", "--protocol", "any", "--wait"])?.expect_exit(0)?;
        for protocol in ["tcp", "udp"] {
            let line = ["allow", "host", "appB", "--port", "8080", "--protocol", protocol, "--wait"];
            world.netpol(&line)?.expect_exit(0)?;
        }
        let node = &world.node("n1")?.namespace;
        let (mut near, mut far) = connect(node, &b.namespace, (b.address()?, PORT).into())?;
        let (asker, answerer) = (udp_socket(node, (world.node("n1")?.underlay, 0))?, instance_socket(&b, PORT)?);
        ensure!(says(&mut near, &mut far) && says(&mut far, &mut near), "the stream is live");
        ensure!(passes(&asker, &answerer)? && passes(&answerer, &asker)?, "the datagrams flow");

        for protocol in ["tcp", "udp"] {
            let line = ["revoke", "host", "appB", "--port", "8080", "--protocol", protocol, "--wait"];
            world.netpol(&line)?.expect_exit(0)?;
        }
        ensure!(!says(&mut near, &mut far), "the node still speaks on its stream");
        ensure!(!says(&mut far, &mut near), "the instance still answers on the stream");
        ensure!(!passes(&asker, &answerer)?, "the node still sends datagrams");
        ensure!(!passes(&answerer, &asker)?, "the instance still answers datagrams");
        Ok(())
    });
}

#[test]
fn an_instance_reaches_its_own_node_on_the_port_that_a_rule_names_and_nowhere_else() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let (a, far_a) = (world.run_instance("appA", "n1")?, world.run_instance("appA", "n2")?);
        let c = world.run_instance("appC", "n1")?;
        let (node, address) = (&world.node("n1")?.namespace, world.node("n1")?.underlay);
        ensure!(!reaches(&a, node, (address, PORT))?, "no rule names the host yet");

        world.netpol(&["allow", "appA", "host", "--port", "8080", "--wait"])?.expect_exit(0)?;
        ensure!(reaches(&a, node, (address, PORT))?, "the rule names the host");
        ensure!(!reaches(&a, node, (address, PORT + 1))?, "another port");
        ensure!(!reaches(&c, node, (address, PORT))?, "another app");
        ensure!(!reaches(&far_a, node, (address, PORT))?, "`host` is an endpoint's own node, not any node");

        world.netpol(&["revoke", "appA", "host", "--port", "8080", "--wait"])?.expect_exit(0)?;
        ensure!(!reaches(&a, node, (address, PORT))?, "the rule is gone");
        Ok(())
    });
}

/// The node's stack gets our answers to its own packets by a mark, which no instance can put on what it sends.
#[test]
fn an_instance_that_marks_its_packets_as_the_nodes_answers_gets_none_of_them_past() {
    const ANSWER_TO_HOST: u32 = 0x6e70_2121;
    scenario(Plan::nodes(&["n1"]), |world| {
        let a = world.run_instance("appA", "n1")?;
        let (node, socket) = (world.node("n1")?, instance_socket(&a, 0)?);
        setsockopt(&socket, sockopt::Mark, &ANSWER_TO_HOST).context("mark what the socket sends")?;
        let neighbour = udp_socket(&node.namespace, (node.underlay, PORT))?;
        expect_dropped(node, DropReason::NoRule, Direction::Egress, || {
            socket.send_to(&MARK, (node.underlay, PORT)).map(drop).unwrap_or_default();
            Ok(1)
        })?;
        ensure!(neighbour.recv(&mut [0; 64]).is_err(), "a marked packet got past");
        Ok(())
    });
}

#[test]
fn no_rule_lets_an_instance_speak_to_its_nodes_overlay_port() {
    scenario(Plan::nodes(&["n1"]), |world| {
        let a = world.run_instance("appA", "n1")?;
        world.netpol(&["allow", "appA", "host", "--protocol", "udp", "--wait"])?.expect_exit(0)?;
        let (node, socket) = (world.node("n1")?, instance_socket(&a, 0)?);
        let neighbour = udp_socket(&node.namespace, (node.underlay, OVERLAY_PORT + 1))?;
        ensure!(passes(&socket, &neighbour)?, "every other port is allowed");
        expect_dropped(node, DropReason::OverlayPort, Direction::Egress, || {
            socket.send_to(&MARK, (node.underlay, OVERLAY_PORT)).map(drop).unwrap_or_default();
            Ok(1)
        })
    });
}

#[test]
fn a_forwarded_packet_under_the_nodes_own_address_is_not_the_nodes() {
    const PACKETS: u64 = 50;
    scenario(Plan::nodes(&["n1"]), |world| {
        let c = world.run_instance("appC", "n1")?;
        let line = ["allow", "host", "appC", "--port", "8080", "--protocol", "udp", "--wait"];
        world.netpol(&line)?.expect_exit(0)?;
        let node = world.node("n1")?;
        turn_forwarding_on(node)?;
        route_for_all(node, &c)?;
        let stranger = world.stranger()?;
        let forged = |source: Ipv4Addr| -> Result<Vec<u8>> {
            let datagram = Datagram {
                source_mac: stranger.mac(UPLINK)?,
                destination_mac: node.namespace.mac(UPLINK)?,
                source,
                destination: c.address()?,
                source_port: 40_000,
                destination_port: PORT,
                payload: MARK.to_vec(),
            };
            Ok(datagram.frame())
        };
        let wire = RawSocket::open(&stranger, UPLINK)?;
        let watcher = Watcher::start(&c.namespace, INTERFACE)?;
        let frame = forged(node.underlay)?;
        expect_dropped(node, DropReason::NotFromHost, Direction::Ingress, || {
            (0..PACKETS).try_for_each(|_| wire.send(&frame)).map(|()| PACKETS)
        })?;
        let frame = forged(c.address()?)?;
        expect_dropped(node, DropReason::OverlaySourceFromHost, Direction::Ingress, || {
            (0..PACKETS).try_for_each(|_| wire.send(&frame)).map(|()| PACKETS)
        })?;
        ensure!(watcher.seen() == 0, "{} packets arrived", watcher.seen());

        let own = udp_socket(&node.namespace, (node.underlay, 0))?;
        own.send_to(&MARK, (c.address()?, PORT))?;
        await_that("the node's own packet to arrive", PATIENCE, || Ok(watcher.seen() == 1))
    });
}

#[test]
fn the_nodes_agent_leaves_forwarding_as_it_was() {
    scenario(Plan::nodes(&["n1"]), |world| {
        let _c = world.run_instance("appC", "n1")?;
        let forwards = || Ok(fs::read_to_string("/proc/sys/net/ipv4/ip_forward")?);
        let forwards = world.node("n1")?.namespace.inside(forwards)?;
        ensure!(forwards.trim() == "0", "ip_forward is {forwards}");
        Ok(())
    });
}
