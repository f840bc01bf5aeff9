//! Nothing but our own programs speaks to the overlay port, however the packet is dressed and wherever it comes from.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context, Result, ensure};
use common::verdict::{Direction, DropReason};
use tests::forge::{Datagram, MARK, RawSocket, Watcher, in_vxlan};
use tests::world::fabric::UPLINK;
use tests::world::instance::{INTERFACE, Instance};
use tests::world::namespace::Namespace;
use tests::world::patience::{PATIENCE, await_that};
use tests::world::{Plan, World, scenario};

use super::talk::{expect_dropped, turn_forwarding_on, udp_socket};

const OVERLAY_PORT: u16 = 4789;
/// Where the IPv4 header begins in a frame.
const IPV4: usize = 14;

/// What `a` would send to `b`, had it been asked.
fn inner(a: &Instance, b: &Instance, payload: Vec<u8>) -> Result<Vec<u8>> {
    let datagram = Datagram {
        source_mac: a.namespace.mac(INTERFACE)?,
        destination_mac: b.namespace.mac(INTERFACE)?,
        source: a.address()?,
        destination: b.address()?,
        source_port: 40_000,
        destination_port: 8080,
        payload,
    };
    Ok(datagram.frame())
}

/// From the first node's uplink to the second one's, to this port.
fn outer(world: &World, destination_port: u16, payload: Vec<u8>) -> Result<Vec<u8>> {
    let (from, to) = (world.node("n1")?, world.node("n2")?);
    let datagram = Datagram {
        source_mac: from.namespace.mac(UPLINK)?,
        destination_mac: to.namespace.mac(UPLINK)?,
        source: from.underlay,
        destination: to.underlay,
        source_port: 50_000,
        destination_port,
        payload,
    };
    Ok(datagram.frame())
}

/// The same packet, as the first fragment of several.
fn as_fragment_head(mut frame: Vec<u8>) -> Vec<u8> {
    const MORE_FRAGMENTS: u8 = 0x20;
    frame[IPV4 + 6] |= MORE_FRAGMENTS;
    with_checksum(frame)
}

/// The same packet with options in its header, so that ports are not where they mostly are.
fn with_options(mut frame: Vec<u8>) -> Vec<u8> {
    const NO_OPERATION: u8 = 1;
    frame[IPV4] = 0x47;
    let length = u16::from_be_bytes([frame[IPV4 + 2], frame[IPV4 + 3]]) + 8;
    frame[IPV4 + 2..IPV4 + 4].copy_from_slice(&length.to_be_bytes());
    frame.splice(IPV4 + 20..IPV4 + 20, [NO_OPERATION; 8]);
    with_checksum(frame)
}

fn with_checksum(mut frame: Vec<u8>) -> Vec<u8> {
    let end = IPV4 + usize::from(frame[IPV4] & 0x0f) * 4;
    frame[IPV4 + 10..IPV4 + 12].fill(0);
    let words = frame[IPV4..end].chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = u16::try_from((folded & 0xffff) + (folded >> 16)).expect("the carries were folded in");
    frame[IPV4 + 10..IPV4 + 12].copy_from_slice(&(!folded).to_be_bytes());
    frame
}

/// The same UDP datagram over IPv6, behind these extension headers: each the number that announces it, all of 8 bytes.
fn over_ipv6(frame: &[u8], extensions: &[u8]) -> Vec<u8> {
    const UDP: u8 = 17;
    let udp = &frame[IPV4 + 20..];
    let announced: Vec<u8> = extensions.iter().copied().chain([UDP]).collect();
    let mut dressed = frame[..12].to_vec();
    dressed.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    dressed.extend(u16::try_from(udp.len() + extensions.len() * 8).expect("a small packet").to_be_bytes());
    dressed.extend([announced[0], 64]);
    for last in [1, 2] {
        dressed.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    // Padding for those that hold options; no offset and no more to come for a fragment's.
    announced[1..].iter().for_each(|next| dressed.extend([*next, 0, 0, 0, 0, 0, 0, 0]));
    dressed.extend(udp);
    dressed
}

#[test]
fn no_disguise_gets_a_nodes_process_to_the_overlay_port() {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const DESTINATION: u8 = 60;
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let (a, b) = (world.run_instance("appA", "n1")?, world.run_instance("appB", "n2")?);
        let truth = in_vxlan(a.attached.identity, &inner(&a, &b, MARK.to_vec())?);
        let plain = outer(world, OVERLAY_PORT, truth.clone())?;
        let disguises = [
            ("nothing", plain.clone()),
            ("a fragment's head", as_fragment_head(plain.clone())),
            ("options", with_options(plain.clone())),
            ("options and a fragment's head", as_fragment_head(with_options(plain.clone()))),
            ("IPv6", over_ipv6(&plain, &[])),
            ("IPv6 and a fragment's head", over_ipv6(&plain, &[FRAGMENT])),
            ("IPv6 and extensions", over_ipv6(&plain, &[HOP_BY_HOP, DESTINATION, ROUTING, FRAGMENT, DESTINATION])),
        ];
        let node = world.node("n1")?;
        let arrived = Watcher::start(&world.node("n2")?.namespace, UPLINK)?;
        let wire = RawSocket::open(&node.namespace, UPLINK)?;
        for (disguise, frame) in disguises {
            expect_dropped(node, DropReason::OverlayPort, Direction::Underlay, || wire.offer(&frame).map(|()| 1))
                .with_context(|| format!("behind {disguise}"))?;
        }
        ensure!(arrived.seen() == 0, "{} packets reached the other node", arrived.seen());

        // The neighbouring port is nobody's business.
        wire.send(&outer(world, OVERLAY_PORT + 1, truth)?)?;
        await_that("the harmless packet to arrive", PATIENCE, || Ok(arrived.seen() == 1))
    });
}

#[test]
fn a_tunnel_packet_that_the_kernel_cuts_in_pieces_is_never_put_together() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let (a, b) = (world.run_instance("appA", "n1")?, world.run_instance("appB", "n2")?);
        let line = ["allow", "appA", "appB", "--port", "8080", "--protocol", "udp", "--wait"];
        world.netpol(&line)?.expect_exit(0)?;
        let delivered = Watcher::start(&b.namespace, INTERFACE)?;
        let node = world.node("n1")?;
        let process = udp_socket(&node.namespace, (Ipv4Addr::UNSPECIFIED, 0))?;
        let long = [MARK.to_vec(), vec![0x5a; 3_000]].concat();
        let tunnel = in_vxlan(a.attached.identity, &inner(&a, &b, long)?);
        let target = SocketAddrV4::new(world.node("n2")?.underlay, OVERLAY_PORT);
        expect_dropped(node, DropReason::OverlayPort, Direction::Underlay, || {
            process.send_to(&tunnel, target).map(drop).unwrap_or_default();
            Ok(1)
        })?;
        ensure!(delivered.seen() == 0, "it was delivered");
        Ok(())
    });
}

#[test]
fn a_container_that_the_node_forwards_for_cannot_pass_for_the_node() {
    const CONTAINER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let (a, b) = (world.run_instance("appA", "n1")?, world.run_instance("appB", "n2")?);
        let (node, target) = (world.node("n1")?, world.node("n2")?.underlay);
        let container = Namespace::create(&format!("{}-container", node.namespace.name()))?;
        let cable = format!("link add container type veth peer name eth0 netns {}", container.name());
        node.namespace.ip(&format!("{cable}\naddr add 203.0.113.1/24 dev container\nlink set container up\n"))?;
        container
            .ip(&format!("addr add {CONTAINER}/24 dev eth0\nlink set eth0 up\nroute add default via 203.0.113.1\n"))?;
        turn_forwarding_on(node)?;
        let arrived = Watcher::start(&world.node("n2")?.namespace, UPLINK)?;
        let socket = udp_socket(&container, (CONTAINER, 0))?;
        let tunnel = in_vxlan(a.attached.identity, &inner(&a, &b, MARK.to_vec())?);
        let send = |port| socket.send_to(&tunnel, (target, port)).context("send from the container");

        send(OVERLAY_PORT + 1)?;
        await_that("a harmless packet to be forwarded", PATIENCE, || Ok(arrived.seen() == 1))?;
        expect_dropped(node, DropReason::OverlayPort, Direction::Underlay, || send(OVERLAY_PORT).map(|_| 1))?;
        ensure!(arrived.seen() == 1, "the tunnel packet reached the other node");
        Ok(())
    });
}
