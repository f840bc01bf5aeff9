//! Identity is proven, not claimed: 10,000 packets that lie about who they are, none delivered, each counted
//! under its own reason.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};

use anyhow::{Context, Result, ensure};
use common::verdict::DropReason;
use tests::forge::{Datagram, MARK, RawSocket, Watcher, in_vxlan};
use tests::rounds;
use tests::world::fabric::UPLINK;
use tests::world::instance::{INTERFACE, Instance};
use tests::world::namespace::Namespace;
use tests::world::node::Drops;
use tests::world::patience::{PATIENCE, await_that};
use tests::world::probe::{Transport, expect_answer};
use tests::world::{Plan, World, scenario};

const PORT: u16 = 8080;
const OVERLAY_PORT: u16 = 4789;

/// Of each kind; there are eight.
fn packets_of_a_kind() -> usize {
    rounds(1_250, 125_000)
}

/// `appA` on the first node may speak to `appB` on the second, and so may `appC` there: only the proof of
/// identity stands between a lie and its target.
struct Stage {
    a: Instance,
    other_a: Instance,
    b: Instance,
    c: Instance,
    stranger: Namespace,
}

impl Stage {
    fn set(world: &mut World) -> Result<Self> {
        let stage = Self {
            a: world.run_instance("appA", "n1")?,
            other_a: world.run_instance("appA", "n1")?,
            b: world.run_instance("appB", "n2")?,
            c: world.run_instance("appC", "n2")?,
            stranger: world.stranger()?,
        };
        for source in ["appA", "appC"] {
            let line = ["allow", source, "appB", "--port", "8080", "--protocol", "udp", "--wait"];
            world.netpol(&line)?.expect_exit(0)?;
        }
        expect_answer(Transport::Udp, &stage.a, &stage.b, PORT)?;
        Ok(stage)
    }

    /// What a true instance would send, but for the payload.
    fn inner(&self, source: Ipv4Addr) -> Result<Datagram> {
        Ok(Datagram {
            source_mac: self.a.namespace.mac(INTERFACE)?,
            destination_mac: self.b.namespace.mac(INTERFACE)?,
            source,
            destination: self.b.address()?,
            source_port: 40_000,
            destination_port: PORT,
            payload: MARK.to_vec(),
        })
    }

    /// A tunnel packet to the second node, sent by the stranger under this outer source.
    fn tunnelled(&self, world: &World, outer_source: Ipv4Addr, vni: u32, inner: &Datagram) -> Result<Vec<u8>> {
        let receiver = world.node("n2")?;
        let outer = Datagram {
            source_mac: self.stranger.mac(UPLINK)?,
            destination_mac: receiver.namespace.mac(UPLINK)?,
            source: outer_source,
            destination: receiver.underlay,
            source_port: 50_000,
            destination_port: OVERLAY_PORT,
            payload: in_vxlan(vni, &inner.frame()),
        };
        Ok(outer.frame())
    }
}

/// Does `send` many times, and waits until each time was counted under `reason` on `node`, and nowhere else.
fn expect_each_dropped(
    world: &World,
    node: &str,
    reason: DropReason,
    mut send: impl FnMut() -> Result<()>,
) -> Result<()> {
    let node = world.node(node)?;
    let packets = packets_of_a_kind();
    let before = node.drops()?;
    for _ in 0..packets {
        send()?;
    }
    let expected = u64::try_from(packets)?;
    let counted = || -> Result<Drops> { Ok(difference(&before, &node.drops()?)) };
    await_that("each packet to be counted", PATIENCE, || Ok(counted()?.get(reason.name()).copied() >= Some(expected)))
        .with_context(|| format!("{packets} packets for `{}`, counted {:?}", reason.name(), counted()))?;
    let only = Drops::from([(reason.name().to_owned(), expected)]);
    let counted = counted()?;
    ensure!(counted == only, "{packets} packets for `{}`, counted {counted:?}", reason.name());
    Ok(())
}

/// What was counted since, but for what every Linux says by itself: it looks for IPv6 routers and tells its groups.
fn difference(before: &Drops, after: &Drops) -> Drops {
    let since = after.iter().map(|(reason, count)| (reason.clone(), count - before.get(reason).copied().unwrap_or(0)));
    let by_itself = [DropReason::LinkLocal, DropReason::Multicast].map(DropReason::name);
    since.filter(|(reason, count)| *count > 0 && !by_itself.contains(&reason.as_str())).collect()
}

#[test]
fn no_packet_that_lies_in_the_tunnel_is_delivered_and_each_lie_has_its_own_count() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let stage = Stage::set(world)?;
        let delivered = Watcher::start(&stage.b.namespace, INTERFACE)?;
        let wire = RawSocket::open(&stage.stranger, UPLINK)?;

        let first_node = world.node("n1")?.underlay;
        let stranger = Ipv4Addr::new(192, 0, 2, 200);
        let nobody = nobody_on_the_node_of(&stage.a)?;
        let (a, c) = (stage.a.address()?, stage.c.address()?);
        let (app_a, app_c) = (stage.a.attached.identity, stage.c.attached.identity);
        let lies = [
            (DropReason::UnknownNode, stranger, app_a, a),
            (DropReason::WrongTag, first_node, app_c, a),
            (DropReason::WrongNode, first_node, app_c, c),
            (DropReason::UnknownSource, first_node, app_a, nobody),
            (DropReason::ReservedTag, first_node, 1, a),
        ];
        for (reason, outer_source, vni, source) in lies {
            let frame = stage.tunnelled(world, outer_source, vni, &stage.inner(source)?)?;
            expect_each_dropped(world, "n2", reason, || wire.send(&frame))?;
        }
        ensure!(delivered.seen() == 0, "{} forged packets were delivered", delivered.seen());

        // The same bytes, but true: so it was the lie that stopped them.
        let truth = stage.tunnelled(world, first_node, app_a, &stage.inner(a)?)?;
        wire.send(&truth)?;
        await_that("the true packet to be delivered", PATIENCE, || Ok(delivered.seen() == 1))
    });
}

#[test]
fn no_endpoint_passes_for_another_and_none_speaks_to_the_overlay_port() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let stage = Stage::set(world)?;
        let delivered = Watcher::start(&stage.b.namespace, INTERFACE)?;
        let arrived = Watcher::start(&world.node("n2")?.namespace, UPLINK)?;
        let port = RawSocket::open(&stage.a.namespace, INTERFACE)?;
        let to_gateway = |source, source_mac| -> Result<Vec<u8>> {
            let destination_mac = gateway_mac(world, &stage.a)?;
            Ok(Datagram { source_mac, destination_mac, ..stage.inner(source)? }.frame())
        };
        let (own, own_mac) = (stage.a.address()?, stage.a.namespace.mac(INTERFACE)?);

        let borrowed = to_gateway(stage.other_a.address()?, own_mac)?;
        expect_each_dropped(world, "n1", DropReason::SpoofedSource, || port.send(&borrowed))?;
        let masked = to_gateway(own, [2, 0, 0, 0, 0, 0x66])?;
        expect_each_dropped(world, "n1", DropReason::SpoofedMac, || port.send(&masked))?;

        let second_node = world.node("n2")?.underlay;
        let tunnel = in_vxlan(stage.c.attached.identity, &stage.inner(own)?.frame());
        let endpoint = open_socket(&stage.a.namespace)?;
        let overlay = SocketAddrV4::new(second_node, OVERLAY_PORT);
        expect_each_dropped(world, "n1", DropReason::OverlayPort, || {
            endpoint.send_to(&tunnel, overlay).map(drop).context("send to the overlay port")
        })?;
        let process = open_socket(&world.node("n1")?.namespace)?;
        expect_each_dropped(world, "n1", DropReason::OverlayPort, || {
            // The kernel may tell the sender that its packet was dropped; that is no failure here.
            process.send_to(&tunnel, overlay).map(drop).or(Ok(()))
        })?;
        ensure!(delivered.seen() == 0, "{} forged packets were delivered", delivered.seen());
        ensure!(arrived.seen() == 0, "{} forged packets reached the other node", arrived.seen());

        port.send(&to_gateway(own, own_mac)?)?;
        await_that("the true packet to be delivered", PATIENCE, || Ok(delivered.seen() == 1))
    });
}

/// An address of the node's slice that no instance holds.
fn nobody_on_the_node_of(instance: &Instance) -> Result<Ipv4Addr> {
    let [first, second, third, _] = instance.address()?.octets();
    Ok(Ipv4Addr::new(first, second, third, 250))
}

fn open_socket(namespace: &Namespace) -> Result<UdpSocket> {
    namespace.inside(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("open a UDP socket"))
}

/// The instance's way out: its veth's other end on the node.
fn gateway_mac(world: &World, instance: &Instance) -> Result<[u8; 6]> {
    world.node(&instance.node)?.namespace.mac(&instance.attached.host_interface)
}
