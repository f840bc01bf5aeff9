//! Small pieces of conversation that attacks are made of: counts by reason, datagrams that arrive or do not.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result};
use common::verdict::{Direction, DropReason};
use tests::world::agent_socket;
use tests::world::instance::Instance;
use tests::world::namespace::Namespace;
use tests::world::node::Node;
use tests::world::patience::{PATIENCE, await_that};
use tests::world::{Plan, World};

/// Long enough for what is on its way on a loaded machine; what must not come is awaited no longer.
const ON_ITS_WAY: Duration = Duration::from_millis(400);

/// How many packets a node dropped for a reason, in a direction.
pub(super) fn dropped(node: &Node, reason: DropReason, direction: Direction) -> Result<u64> {
    let counts = agent_socket::drops(&node.socket)?;
    let own = counts.iter().find(|count| count.reason == reason.name() && count.direction == direction.name());
    Ok(own.with_context(|| format!("no count of {} {}", reason.name(), direction.name()))?.packets)
}

/// Does something, and waits until it was dropped as often as it says, for this reason in this direction.
pub(super) fn expect_dropped(
    node: &Node,
    reason: DropReason,
    direction: Direction,
    attack: impl FnOnce() -> Result<u64>,
) -> Result<()> {
    let before = dropped(node, reason, direction)?;
    let packets = attack()?;
    let what = format!("{packets} packets to be counted as {} {}", reason.name(), direction.name());
    await_that(&what, PATIENCE, || Ok(dropped(node, reason, direction)? - before == packets))
        .with_context(|| format!("counted: {:?}", node.drops()))
}

pub(super) fn udp_socket(namespace: &Namespace, address: impl Into<SocketAddr>) -> Result<UdpSocket> {
    let address = address.into();
    let socket = namespace.inside(|| UdpSocket::bind(address).with_context(|| format!("bind {address}")))?;
    socket.set_read_timeout(Some(ON_ITS_WAY))?;
    Ok(socket)
}

pub(super) fn instance_socket(instance: &Instance, port: u16) -> Result<UdpSocket> {
    udp_socket(&instance.namespace, (instance.address()?, port))
}

/// Whether a datagram gets from one socket to another.
pub(super) fn passes(from: &UdpSocket, to: &UdpSocket) -> Result<bool> {
    const WORDS: &[u8] = b"may I?";
    // The kernel may tell the sender that its packet was dropped; that is no failure here.
    from.send_to(WORDS, to.local_addr()?).map(drop).unwrap_or_default();
    let mut heard = [0; 64];
    let length = to.recv(&mut heard).unwrap_or(0);
    Ok(heard.get(..length) == Some(WORDS))
}

/// A world whose API runs and whose agents do not yet.
pub(super) fn before_the_agents_start(nodes: &[&str], test: impl FnOnce(&mut World) -> Result<()>) {
    let mut world = World::make(Plan::nodes(nodes)).unwrap_or_else(|error| panic!("{error:?}"));
    let result = world.control.start().and_then(|()| test(&mut world));
    if let Err(error) = result {
        panic!("{error:?}");
    }
}

/// Gives the node a route to an instance that forwarded packets find; the agent's own are for what the node sends.
pub(super) fn route_for_all(node: &Node, instance: &Instance) -> Result<()> {
    let (address, interface) = (instance.address()?, &instance.attached.host_interface);
    node.namespace.ip(&format!("route add {address}/32 dev {interface}\n"))
}

/// Passes packets on between the node's interfaces, as every machine that runs containers does.
pub(super) fn turn_forwarding_on(node: &Node) -> Result<()> {
    let settings = ["ip_forward", "conf/all/accept_local"];
    node.namespace.inside(|| {
        settings.into_iter().try_for_each(|name| {
            std::fs::write(format!("/proc/sys/net/ipv4/{name}"), "1").with_context(|| format!("set {name}"))
        })
    })
}
