//! Who is denied knows at once, by his own node's word, as a closed port would tell him: never by waiting.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tests::world::fabric::add_ipv6;
use tests::world::instance::{Family, Instance};
use tests::world::namespace::Namespace;
use tests::world::node::Node;
use tests::world::patience::{PATIENCE, await_that};
use tests::world::{Plan, World, scenario};

const PORT: u16 = 8080;
/// Far more than any answer takes, far less than the second after which a stack asks again.
const AT_ONCE: Duration = Duration::from_millis(500);
const CONNECTS: usize = 1_000;

/// Tries to connect, which must be refused before a stack would ask a second time.
fn expect_refused(from: &Namespace, to: SocketAddr) -> Result<()> {
    from.inside(|| {
        let started = Instant::now();
        match TcpStream::connect_timeout(&to, AT_ONCE).map_err(|error| error.kind()) {
            Err(ErrorKind::ConnectionRefused) => Ok(()),
            other => bail!("{to} is denied, but a connect ends with {other:?} after {:?}", started.elapsed()),
        }
    })
}

/// Sends by a connected socket, which must hear of it.
fn expect_prohibited(from: &Namespace, to: SocketAddr) -> Result<()> {
    from.inside(|| {
        let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(AT_ONCE))?;
        socket.send(b"may I?").context("send")?;
        match socket.recv(&mut [0; 8]).map_err(|error| error.kind()) {
            // What RFC 1122 and RFC 4443 have a stack make of `administratively prohibited`.
            Err(ErrorKind::HostUnreachable | ErrorKind::PermissionDenied) => Ok(()),
            other => bail!("{to} is denied, but the next receive ends with {other:?}"),
        }
    })
}

fn expect_both(from: &Namespace, to: IpAddr) -> Result<()> {
    let to = SocketAddr::new(to, PORT);
    expect_refused(from, to)?;
    expect_prohibited(from, to)
}

/// An IPv6 address of the node, as its instances know it.
fn second_address(node: &Node) -> Result<IpAddr> {
    Ok(add_ipv6(&node.namespace, node.underlay)?.into())
}

#[test]
fn an_instance_is_refused_at_once_whomever_it_asks_by_either_family() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let a = world.run_instance("appA", "n1")?;
        let others = [world.run_instance("appB", "n2")?, world.run_instance("appB", "n1")?];
        let node = world.node("n1")?;
        let hosts = [node.underlay.into(), second_address(node)?];
        for family in Family::BOTH {
            for to in &others {
                expect_both(&a.namespace, to.address_of(family)?)?;
            }
        }
        for host in hosts {
            expect_both(&a.namespace, host)?;
        }
        expect_both(&a.namespace, nobody(&a)?)
    });
}

/// An address of the overlay that no instance has.
fn nobody(neighbour: &Instance) -> Result<IpAddr> {
    let [a, b, c, _] = neighbour.address()?.octets();
    Ok([a, b, c, 250].into())
}

#[test]
fn the_node_itself_is_refused_at_once_where_its_rule_is_gone() {
    scenario(Plan::nodes(&["n1"]), |world| {
        let b = world.run_instance("appB", "n1")?;
        let node = world.node("n1")?;
        second_address(node)?;
        let addresses = [b.address_of(Family::V4)?, b.address_of(Family::V6)?];
        let listeners = addresses.map(|address| {
            b.namespace
                .inside(|| TcpListener::bind((address, PORT)).context("listen"))
                .map(|listener| (listener, address))
        });
        let open = listeners.into_iter().collect::<Result<Vec<_>>>()?;
        for (_, address) in &open {
            node.namespace.inside(|| TcpStream::connect((*address, PORT)).context("the built-in rule allows it"))?;
        }
        let revoke = ["revoke", "host", "any", "--protocol", "any", "--wait"];
        world.netpol(&revoke)?.expect_exit(0)?;
        addresses.into_iter().try_for_each(|address| expect_both(&node.namespace, address))
    });
}

#[test]
fn a_thousand_denied_connects_in_a_row_are_all_refused() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let (a, b) = (world.run_instance("appA", "n1")?, world.run_instance("appB", "n2")?);
        let address = SocketAddr::new(b.address()?.into(), PORT);
        (0..CONNECTS).try_for_each(|number| {
            expect_refused(&a.namespace, address).with_context(|| format!("after {number} that were refused"))
        })
    });
}

/// A connect that nobody answers.
fn expect_silence(world: &World, from: &Instance, to: &Instance) -> Result<()> {
    let address = SocketAddr::new(to.address()?.into(), PORT);
    let heard =
        from.namespace.inside(|| Ok(TcpStream::connect_timeout(&address, AT_ONCE).map_err(|error| error.kind())));
    match heard? {
        Err(ErrorKind::TimedOut) => Ok(()),
        other => bail!("{} was to hear nothing, and heard {other:?}\n{}", from.name(), world.netpol(&["list"])?),
    }
}

#[test]
fn a_deny_rule_may_say_that_nothing_is_said() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let (a, far) = (world.run_instance("appA", "n1")?, world.run_instance("appB", "n2")?);
        let near = world.run_instance("appB", "n1")?;
        let deny = ["deny", "appA", "appB", "--port", "8080", "--wait", "--on-deny"];
        world.netpol(&[&deny[..], &["drop"]].concat())?.expect_exit(0)?;
        for to in [&far, &near] {
            expect_silence(world, &a, to)?;
        }
        world.netpol(&[&deny[..], &["reset"]].concat())?.expect_exit(0)?;
        for to in [&far, &near] {
            expect_refused(&a.namespace, SocketAddr::new(to.address()?.into(), PORT))?;
        }
        Ok(())
    });
}

#[test]
fn what_is_too_long_for_the_overlay_is_told_so_by_the_senders_own_node_and_then_comes_in_pieces() {
    const LONG: usize = 4_000;
    const MOMENT: Duration = Duration::from_millis(50);
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let (a, far) = (world.run_instance("appA", "n1")?, world.run_instance("appB", "n2")?);
        let near = world.run_instance("appB", "n1")?;
        world.netpol(&["allow", "appA", "appB", "--protocol", "udp", "--wait"])?.expect_exit(0)?;
        // As a workload may that is root in its namespace.
        a.namespace.ip("link set eth0 mtu 9000\n")?;
        for family in Family::BOTH {
            for to in [&far, &near] {
                let address = SocketAddr::new(to.address_of(family)?, PORT);
                let server = to.namespace.inside(|| UdpSocket::bind(address).context("bind"))?;
                server.set_read_timeout(Some(MOMENT))?;
                let source = SocketAddr::new(a.address_of(family)?, 0);
                let socket = a.namespace.inside(|| UdpSocket::bind(source).context("bind"))?;
                // What is too long in one piece is told to its stack, which cuts the next.
                let arrived = || {
                    socket.send_to(&[1; LONG], address)?;
                    Ok(server.recv(&mut [0; LONG + 1]).is_ok_and(|length| length == LONG))
                };
                await_that("a long datagram to arrive", PATIENCE, arrived)
                    .with_context(|| format!("{} ({family:?})", to.name()))?;
            }
        }
        let told = world.node("n1")?.drops()?.get("too-big").copied().unwrap_or_default();
        ensure!(told == 2, "once for each family on the way to the other node, but {told} times");
        Ok(())
    });
}
