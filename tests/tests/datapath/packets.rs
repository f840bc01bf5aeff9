//! Random packets: what instances, other nodes and the host send, whole, in parts, dressed up and spoiled.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use agent::datapath::Hook;
use common::{Kind, Protocol, packet::read};
use fastrand::Rng;
use tests::lab::{
    Arrival, HOST, LOCALS, MTU, NODES, REMOTES, STRANGER, Scene,
    traffic::{ABORT, ACK, DATA, Dress, FIN_ACK, INIT, INIT_ACK, Part, RST, SYN, SYN_ACK, Speaking, Speech, family},
    v6_of,
};

use crate::Case;

pub(crate) fn random_case(rng: &mut Rng, scene: &Scene) -> Case {
    let v6 = rng.u8(0..5) < 2;
    let mut case = match rng.u8(0..10) {
        0..=4 => from_endpoint(rng, scene, v6),
        5..=8 => from_overlay(rng, v6),
        _ => to_endpoint(rng, scene, v6),
    };
    if rng.u8(0..12) == 0 {
        spoil(rng, &mut case.frame);
    }
    case
}

/// Whether it is the first part of a datagram.
pub(crate) fn is_head(frame: &[u8]) -> bool {
    let packet = family(frame).and_then(|family| read(frame, family).ok());
    packet.is_some_and(|packet| !packet.fragment.is_whole() && packet.kind != Kind::Tail)
}

/// A later part of a datagram, or one that contradicts it, by the same entrance.
pub(crate) fn rest_of(rng: &mut Rng, head: &Case) -> Case {
    let (Some(said), Some(family)) = (Speech::read(&head.frame), family(&head.frame)) else { return head.clone() };
    let Ok(packet) = read(head.frame.as_slice(), family) else { return head.clone() };
    let id = packet.fragment.id();
    let next = packet.fragment.length() / 8;
    let (offset, more) = match rng.u8(0..8) {
        0 => (1, true),
        1 => (next + rng.u16(1..4), rng.bool()),
        2 => (0, true),
        _ => (next, rng.bool()),
    };
    let mut said = said;
    if offset == 0 && rng.bool() {
        said.destination_port ^= 1;
    }
    let payload = rng.usize(1..5) * 8;
    let mut frame = said.dressed(payload, Dress { part: Some(Part { id, offset, more }), ..Dress::default() });
    frame[..12].copy_from_slice(&head.frame[..12]);
    Case { frame, ..head.clone() }
}

/// A later packet of a flow that was opened, in either direction, through the program that would see it.
pub(crate) fn follow_up(rng: &mut Rng, scene: &Scene, flow: &Speech) -> Case {
    let turned = rng.bool();
    let protocol = match flow.kind {
        Speaking::Tcp(_) => Protocol::Tcp,
        Speaking::Sctp(_) => Protocol::Sctp,
        Speaking::EchoRequest | Speaking::EchoReply => Protocol::Icmp,
        Speaking::Udp | Speaking::Unreachable(_) | Speaking::Redirect | Speaking::Solicitation | Speaking::Gre => {
            Protocol::Udp
        }
    };
    let kind = match (flow.kind, rng.u8(0..12)) {
        (_, 11) => Speaking::Unreachable(protocol),
        (Speaking::Tcp(_), 0) => Speaking::Tcp(SYN),
        (Speaking::Tcp(_), 1) => Speaking::Tcp(FIN_ACK),
        (Speaking::Tcp(_), 2) if rng.bool() => Speaking::Tcp(RST),
        (Speaking::Tcp(_), 3..=5) if turned => Speaking::Tcp(SYN_ACK),
        (Speaking::Tcp(_), _) => Speaking::Tcp(ACK),
        (Speaking::Sctp(_), 0) => Speaking::Sctp(INIT),
        (Speaking::Sctp(_), 1) => Speaking::Sctp(ABORT),
        (Speaking::Sctp(_), 2..=4) if turned => Speaking::Sctp(INIT_ACK),
        (Speaking::Sctp(_), _) => Speaking::Sctp(DATA),
        (Speaking::EchoRequest, 0) => Speaking::EchoRequest,
        (Speaking::EchoRequest, _) if turned => Speaking::EchoReply,
        (kind, _) => kind,
    };
    let said = if turned { Speech { kind, ..flow.turned() } } else { Speech { kind, ..*flow } };
    let frame = dressed(rng, &said);
    if let Some(i) = LOCALS.iter().position(|(_, address)| is_of(said.source, *address)) {
        let arrival = Arrival { ifindex: scene.ifindexes[i], ..Arrival::default() };
        return Case { hook: Hook::FromEndpoint, frame, arrival, tag: None };
    }
    if let Some((home, app, _)) = REMOTES.into_iter().find(|(_, _, address)| is_of(said.source, *address)) {
        let arrival = Arrival { ifindex: 1, ..Arrival::default() };
        return Case { hook: Hook::FromOverlay, frame, arrival, tag: Some((NODES[home], app)) };
    }
    let i = LOCALS.iter().position(|(_, address)| is_of(said.destination, *address)).unwrap_or(0);
    let arrival = Arrival { ifindex: scene.ifindexes[i], ..Arrival::default() };
    Case { hook: Hook::ToEndpoint, frame, arrival, tag: None }
}

fn is_of(address: IpAddr, owner: Ipv4Addr) -> bool {
    address == IpAddr::V4(owner) || address == IpAddr::V6(v6_of(owner))
}

fn in_family(address: Ipv4Addr, v6: bool) -> IpAddr {
    if v6 { v6_of(address).into() } else { address.into() }
}

fn from_endpoint(rng: &mut Rng, scene: &Scene, v6: bool) -> Case {
    let i = rng.usize(0..LOCALS.len());
    let (_, own) = LOCALS[i];
    let source = match rng.u8(0..40) {
        0 | 1 => some_address(rng, v6),
        2 if v6 => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9).into(),
        _ => in_family(own, v6),
    };
    let mut frame = speech(rng, source, |rng| some_address(rng, v6));
    if rng.u8(0..40) == 0 {
        frame[6..12].copy_from_slice(&[2, 9, 9, 9, 9, 9]);
    } else {
        frame[6..12].copy_from_slice(&Scene::mac(own).0);
    }
    let arrival = Arrival { ifindex: scene.ifindexes[i], ..Arrival::default() };
    Case { hook: Hook::FromEndpoint, frame, arrival, tag: None }
}

fn from_overlay(rng: &mut Rng, v6: bool) -> Case {
    let (home, app, own) = REMOTES[rng.usize(0..REMOTES.len())];
    let (node, vni) = match rng.u8(0..16) {
        0 => (NODES[1 - home], app),
        1 => (NODES[home], rng.u32(256..260)),
        2 => (STRANGER, app),
        3 => (NODES[home], rng.u32(0..256)),
        _ => (NODES[home], app),
    };
    let source = if rng.u8(0..20) == 0 { some_address(rng, v6) } else { in_family(own, v6) };
    let frame = speech(rng, source, |rng| match rng.u8(0..10) {
        0 => some_address(rng, v6),
        _ => in_family(LOCALS[rng.usize(0..LOCALS.len())].1, v6),
    });
    Case {
        hook: Hook::FromOverlay,
        frame,
        arrival: Arrival { ifindex: 1, ..Arrival::default() },
        tag: Some((node, vni)),
    }
}

fn to_endpoint(rng: &mut Rng, scene: &Scene, v6: bool) -> Case {
    let i = rng.usize(0..LOCALS.len());
    let source = if rng.u8(0..4) == 0 { some_address(rng, v6) } else { in_family(HOST, v6) };
    let entered_by = if rng.u8(0..8) == 0 { scene.ifindexes[0] } else { 0 };
    let own = in_family(LOCALS[i].1, v6);
    let frame = speech(rng, source, |rng| if rng.u8(0..10) == 0 { some_address(rng, v6) } else { own });
    let arrival = Arrival { ifindex: scene.ifindexes[i], entered_by, mark: 0 };
    Case { hook: Hook::ToEndpoint, frame, arrival, tag: None }
}

fn some_address(rng: &mut Rng, v6: bool) -> IpAddr {
    let placed = LOCALS.iter().map(|(_, address)| *address).chain(REMOTES.iter().map(|(_, _, address)| *address));
    let placed: Vec<IpAddr> = placed.chain([HOST]).map(|address| in_family(address, v6)).collect();
    let others: Vec<IpAddr> = if v6 {
        let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        vec![Ipv6Addr::LOCALHOST.into(), all_nodes.into(), v6_of(Ipv4Addr::new(10, 255, 9, 9)).into()]
    } else {
        let multicast = Ipv4Addr::new(224, 0, 0, 1);
        vec![STRANGER.into(), Ipv4Addr::new(10, 255, 9, 9).into(), Ipv4Addr::BROADCAST.into(), multicast.into()]
    };
    let all: Vec<_> = placed.iter().chain(&placed).chain(&others).copied().collect();
    all[rng.usize(0..all.len())]
}

/// Few ports, so that flows meet: the servers' are those of the rules, the clients' a handful.
fn speech(rng: &mut Rng, source: IpAddr, destination: impl FnOnce(&mut Rng) -> IpAddr) -> Vec<u8> {
    let kind = match rng.u8(0..30) {
        0..=4 => Speaking::Tcp(SYN),
        5..=6 => Speaking::Tcp(SYN_ACK),
        7..=10 => Speaking::Tcp(ACK),
        11 => Speaking::Tcp(FIN_ACK),
        12 => Speaking::Tcp(if rng.bool() { RST } else { SYN | RST }),
        13..=17 => Speaking::Udp,
        18..=19 => Speaking::EchoRequest,
        20 => Speaking::EchoReply,
        21..=23 => Speaking::Sctp(INIT),
        24 => Speaking::Sctp(*rng.choice([INIT_ACK, DATA, ABORT].iter()).expect("not empty")),
        25..=26 => Speaking::Unreachable(*rng.choice(Protocol::ALL.iter()).expect("not empty")),
        27 => Speaking::Redirect,
        28 => Speaking::Solicitation,
        _ => Speaking::Gre,
    };
    let server = if rng.u8(0..30) == 0 { 4789 } else { rng.u16(8075..8085) };
    let client = rng.u16(40_000..40_020);
    let (source_port, destination_port) = if rng.u8(0..3) == 0 { (server, client) } else { (client, server) };
    let destination = destination(rng);
    dressed(rng, &Speech { source, destination, kind, source_port, destination_port })
}

/// Mostly as it is; sometimes with options, in parts, or longer than the overlay takes.
fn dressed(rng: &mut Rng, said: &Speech) -> Vec<u8> {
    let payload = match rng.u8(0..40) {
        0 => MTU as usize + rng.usize(0..100),
        _ => rng.usize(0..32),
    };
    let dress = match rng.u8(0..12) {
        0 => Dress { extras: rng.usize(1..11), whole: true, ..Dress::default() },
        1 => {
            let offset = if rng.u8(0..4) == 0 { rng.u16(1..6) } else { 0 };
            Dress { part: Some(Part { id: rng.u32(1..6), offset, more: true }), ..Dress::default() }
        }
        2 => Dress::default(),
        _ => Dress { whole: true, ..Dress::default() },
    };
    said.dressed(payload, dress)
}

/// Turns bytes over, or cuts the end off; what stays is at least what the kernel takes for a packet.
fn spoil(rng: &mut Rng, frame: &mut Vec<u8>) {
    let least = if frame.get(12) == Some(&0x86) { 54 } else { 34 };
    if rng.bool() {
        frame.truncate(rng.usize(least..=frame.len()));
    }
    for _ in 0..rng.usize(1..4) {
        let at = rng.usize(12..frame.len());
        frame[at] = rng.u8(..);
    }
}
