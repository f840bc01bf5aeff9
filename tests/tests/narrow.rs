//! Nodes whose own links carry more than a link between two routers on the way: nothing may be lost in silence.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tests::world::instance::{Family, Instance};
use tests::world::{Plan, World, scenario};

const PORT: u16 = 8080;
/// Of the link between the routers; the nodes' own carry 1,500 bytes.
const NARROW: u32 = 1_400;
const MUCH: usize = 10_000_000;
/// How long something may take that is not lost.
const PATIENCE: Duration = Duration::from_secs(10);

fn plan(underlay: Family) -> Plan {
    Plan { underlay, narrow: Some(NARROW), ..Plan::nodes(&["n1", "n2"]) }
}

/// Two instances, each on a node of its own, that may speak to each other both ways.
fn set(world: &mut World) -> Result<[Instance; 2]> {
    let ends = [world.run_instance("appA", "n1")?, world.run_instance("appB", "n2")?];
    for (source, destination) in [("appA", "appB"), ("appB", "appA")] {
        for protocol in ["tcp", "udp"] {
            world.netpol(&["allow", source, destination, "--protocol", protocol, "--wait"])?.expect_exit(0)?;
        }
    }
    Ok(ends)
}

/// Sends much by TCP, and returns how much arrived.
fn carry(from: &Instance, to: &Instance, address: IpAddr) -> Result<usize> {
    let listener = to.namespace.inside(|| TcpListener::bind((address, PORT)).context("listen"))?;
    std::thread::scope(|scope| {
        let receiver = scope.spawn(move || -> Result<usize> {
            let (mut stream, _) = listener.accept().context("accept")?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut received = 0;
            let mut buffer = vec![0; 1 << 16];
            loop {
                match stream.read(&mut buffer).context("read")? {
                    0 => return Ok(received),
                    length => received += length,
                }
            }
        });
        from.namespace.inside(|| {
            let mut stream = TcpStream::connect_timeout(&SocketAddr::new(address, PORT), PATIENCE)?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(stream.write_all(&vec![7; MUCH])?)
        })?;
        receiver.join().expect("it returns its errors")
    })
}

/// Sends a datagram of each size, whole packets of at most `largest` bytes, and returns the sizes that did not arrive.
fn lost(from: &Instance, to: &Instance, family: Family, sizes: impl Iterator<Item = usize>) -> Result<Vec<usize>> {
    let receiver = bind(to, family, PORT)?;
    let sender = bind(from, family, 0)?;
    sender.connect(receiver.local_addr()?)?;
    receiver.set_read_timeout(Some(Duration::from_millis(500)))?;
    let mut buffer = vec![0; 1 << 16];
    let mut lost = Vec::new();
    for size in sizes {
        let datagram = vec![7; size];
        // The first call may only hand out what the socket was told of the one before; nothing is sent then.
        let sent = sender.send(&datagram).or_else(|_| sender.send(&datagram));
        let arrived = sent.is_ok() && receiver.recv(&mut buffer).is_ok_and(|length| length == size);
        if !arrived {
            lost.push(size);
        }
    }
    Ok(lost)
}

fn bind(instance: &Instance, family: Family, port: u16) -> Result<UdpSocket> {
    let address = instance.address_of(family)?;
    instance.namespace.inside(|| UdpSocket::bind((address, port)).context("bind"))
}

/// The most that one datagram of this family can hold without being fragmented inside the overlay.
fn largest(family: Family, underlay: Family) -> usize {
    let overlay = if underlay == Family::V4 { 1_450 } else { 1_430 };
    overlay - if family == Family::V4 { 28 } else { 48 }
}

#[test]
fn over_ipv4_all_that_fits_into_the_overlay_gets_through_in_fragments() {
    scenario(plan(Family::V4), |world| {
        let [a, b] = set(world)?;
        for family in Family::BOTH {
            for (from, to) in [(&a, &b), (&b, &a)] {
                let lost = lost(from, to, family, 0..=largest(family, Family::V4))?;
                ensure!(lost.is_empty(), "datagrams of these sizes were lost ({family:?}): {lost:?}");
                let arrived = carry(from, to, to.address_of(family)?)?;
                ensure!(arrived == MUCH, "{arrived} of {MUCH} bytes arrived ({family:?})");
            }
        }
        Ok(())
    });
}

/// How often datagrams of all sizes were sent until each had arrived, beyond once.
fn repeated(from: &Instance, to: &Instance, family: Family, largest: usize) -> Result<u64> {
    const MOST: usize = 4;
    let mut missing: Vec<usize> = (0..=largest).collect();
    let mut repeated = 0;
    for _ in 0..MOST {
        missing = lost(from, to, family, missing.into_iter())?;
        repeated += u64::try_from(missing.len())?;
        if missing.is_empty() {
            return Ok(repeated);
        }
    }
    bail!("datagrams of these sizes never arrived: {missing:?}")
}

/// The router that cannot pass a packet on says so to the node that sent it. From then on that node says so to its
/// instances, which cut their datagrams and shorten their segments. What is sent in the moment in between, once the kernel knows
/// and before its agent does, may be lost without a word.
#[test]
fn over_ipv6_what_does_not_fit_is_told_to_the_node_and_nothing_is_lost_once_it_is_known() {
    scenario(plan(Family::V6), |world| {
        let [a, b] = set(world)?;
        for family in Family::BOTH {
            for (from, to) in [(&a, &b), (&b, &a)] {
                let what = || format!("from {} ({family:?})", from.name());
                let told = || -> Result<u64> {
                    let by_node = world.node(&from.node)?.drops()?.get("too-big").copied().unwrap_or_default();
                    Ok(by_node + world.way.as_ref().context("there is a way")?.told_too_big()?)
                };
                let before = told()?;
                let lost = repeated(from, to, family, largest(family, Family::V6)).with_context(what)?;
                let told = told()? - before;
                ensure!(lost == 0 || told > 0, "{lost} datagrams were lost, and nobody was told, {}", what());
                ensure!(repeated(from, to, family, largest(family, Family::V6))? == 0, "lost again, {}", what());
                let arrived = carry(from, to, to.address_of(family)?).with_context(what)?;
                ensure!(arrived == MUCH, "{arrived} of {MUCH} bytes arrived, {}", what());
            }
        }
        Ok(())
    });
}
