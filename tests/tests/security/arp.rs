//! ARP is a question about the gateway and nothing else: no instance tells another, or the node, who is where.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use common::address::GATEWAY_V4;
use common::verdict::{Direction, DropReason};
use tests::forge::{MARK, RawSocket, Watcher};
use tests::world::instance::{INTERFACE, Instance};
use tests::world::probe::{Transport, expect_answer};
use tests::world::{Plan, World, scenario};

use super::talk::expect_dropped;

const PORT: u16 = 8080;
const BROADCAST: [u8; 6] = [0xff; 6];
const SOMEBODY: [u8; 6] = [2, 0, 0, 0, 0, 0x66];

#[derive(Clone, Copy)]
enum Operation {
    Request = 1,
    Reply = 2,
}

/// An ARP message with everything that can be lied about.
#[derive(Clone, Copy)]
struct Message {
    frame_source: [u8; 6],
    operation: Operation,
    sender_mac: [u8; 6],
    sender: Ipv4Addr,
    target: Ipv4Addr,
}

impl Message {
    /// The frame, marked behind its end.
    fn frame(&self) -> Vec<u8> {
        let mut frame = [BROADCAST, self.frame_source].concat();
        frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, self.operation as u8]);
        frame.extend(self.sender_mac);
        frame.extend(self.sender.octets());
        frame.extend([0; 6]);
        frame.extend(self.target.octets());
        frame.extend(MARK);
        frame
    }
}

struct Stage {
    a: Instance,
    near_b: Instance,
    b: Instance,
}

impl Stage {
    fn set(world: &mut World) -> Result<Self> {
        let stage = Self {
            a: world.run_instance("appA", "n1")?,
            near_b: world.run_instance("appB", "n1")?,
            b: world.run_instance("appB", "n2")?,
        };
        world.netpol(&["allow", "appA", "appB", "--port", "8080", "--wait"])?.expect_exit(0)?;
        Ok(stage)
    }

    fn works(&self) -> Result<()> {
        expect_answer(Transport::Tcp, &self.a, &self.near_b, PORT).context("on one node")?;
        expect_answer(Transport::Tcp, &self.a, &self.b, PORT).context("across nodes").map(drop)
    }
}

#[test]
fn an_instance_that_forgot_its_gateway_is_told_again() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let stage = Stage::set(world)?;
        for instance in [&stage.a, &stage.near_b, &stage.b] {
            instance.namespace.ip(&format!("neigh del {GATEWAY_V4} dev {INTERFACE}\n"))?;
        }
        stage.works()
    });
}

#[test]
fn no_instance_poisons_its_neighbour_or_its_node() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let stage = Stage::set(world)?;
        let node = world.node("n1")?;
        let own_mac = stage.a.namespace.mac(INTERFACE)?;
        let (own, neighbour) = (stage.a.address()?, stage.near_b.address()?);
        let honest = Message {
            frame_source: own_mac,
            operation: Operation::Request,
            sender_mac: own_mac,
            sender: own,
            target: GATEWAY_V4,
        };
        let lies = [
            ("announces the neighbour as itself", Message { sender: neighbour, target: neighbour, ..honest }),
            ("announces the gateway as itself", Message { sender: GATEWAY_V4, target: GATEWAY_V4, ..honest }),
            (
                "answers for the gateway unasked",
                Message { operation: Operation::Reply, sender: GATEWAY_V4, target: neighbour, ..honest },
            ),
            ("answers unasked", Message { operation: Operation::Reply, ..honest }),
            ("asks for its neighbour", Message { target: neighbour, ..honest }),
            ("asks for its node", Message { target: node.underlay, ..honest }),
            ("asks as its neighbour", Message { sender: neighbour, ..honest }),
            ("asks with somebody's MAC", Message { sender_mac: SOMEBODY, ..honest }),
        ];
        let port = RawSocket::open(&stage.a.namespace, INTERFACE)?;
        let seen_by = [
            Watcher::start(&stage.near_b.namespace, INTERFACE)?,
            Watcher::start(&stage.b.namespace, INTERFACE)?,
            Watcher::start(&stage.a.namespace, INTERFACE)?,
        ];
        for (lie, message) in lies {
            expect_dropped(node, DropReason::SpoofedArp, Direction::Egress, || port.send(&message.frame()).map(|()| 1))
                .with_context(|| format!("an instance {lie}"))?;
        }
        let masked = Message { frame_source: SOMEBODY, ..honest };
        expect_dropped(node, DropReason::SpoofedMac, Direction::Egress, || port.send(&masked.frame()).map(|()| 1))?;
        ensure!(seen_by.iter().all(|watcher| watcher.seen() == 0), "a lie was delivered");
        stage.works()
    });
}

#[test]
fn no_arp_reaches_an_instance_from_its_node() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let stage = Stage::set(world)?;
        let node = world.node("n1")?;
        let veth = &stage.a.attached.host_interface;
        let poison = Message {
            frame_source: SOMEBODY,
            operation: Operation::Reply,
            sender_mac: SOMEBODY,
            sender: GATEWAY_V4,
            target: stage.a.address()?,
        };
        let seen = Watcher::start(&stage.a.namespace, INTERFACE)?;
        let port = RawSocket::open(&node.namespace, veth)?;
        expect_dropped(node, DropReason::SpoofedArp, Direction::Ingress, || port.offer(&poison.frame()).map(|()| 1))?;
        ensure!(seen.seen() == 0, "it was delivered");
        stage.works()
    });
}
