//! The node around its instances: what comes from its own stack is `host` or nothing, and an address never yields an app.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use common::verdict::DropReason;
use nix::sys::socket::sockopt::IpTransparent;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket};
use tests::forge::{MARK, Watcher};
use tests::world::instance::{INTERFACE, Instance};
use tests::world::namespace::Namespace;
use tests::world::patience::{PATIENCE, await_that};
use tests::world::probe::{Transport, expect_answer};
use tests::world::{Plan, World, scenario};

const PORT: u16 = 8080;
const PACKETS: u64 = 100;

/// A socket whose datagrams leave under an address that need not be the machine's own; root may have one.
fn socket_of(namespace: &Namespace, source: Ipv4Addr) -> Result<UdpSocket> {
    namespace.inside(|| {
        let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&socket, IpTransparent, &true).context("borrow an address")?;
        bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(source, 0))).context("bind")?;
        Ok(socket.into())
    })
}

/// Sends datagrams from a namespace under a source address, and waits until each was dropped for this reason.
fn expect_dropped(world: &World, from: &Namespace, source: Ipv4Addr, to: &Instance, reason: DropReason) -> Result<()> {
    let node = world.node(&to.node)?;
    let count = || -> Result<u64> { Ok(node.drops()?.get(reason.name()).copied().unwrap_or(0)) };
    let watcher = Watcher::start(&to.namespace, INTERFACE)?;
    let before = count()?;
    let socket = socket_of(from, source)?;
    for _ in 0..PACKETS {
        // The kernel may tell the sender that its packet was dropped.
        socket.send_to(&MARK, (to.address()?, PORT)).map(drop).or(Ok::<_, std::io::Error>(()))?;
    }
    await_that("each packet to be counted", PATIENCE, || Ok(count()? - before == PACKETS))
        .with_context(|| format!("under `{}`: {:?}", reason.name(), node.drops()))?;
    ensure!(watcher.seen() == 0, "{} packets arrived", watcher.seen());
    Ok(())
}

#[test]
fn an_apps_address_borrowed_by_the_nodes_own_stack_yields_no_app() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let (c, b) = (world.run_instance("appC", "n1")?, world.run_instance("appB", "n2")?);
        world.netpol(&["allow", "appB", "appC", "--port", "8080", "--protocol", "udp", "--wait"])?.expect_exit(0)?;
        let node = &world.node("n1")?.namespace;
        expect_dropped(world, node, b.address()?, &c, DropReason::OverlaySourceFromHost)
    });
}

#[test]
fn an_apps_address_on_the_nodes_own_interface_takes_it_from_nobody() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let (a, b) = (world.run_instance("appA", "n1")?, world.run_instance("appB", "n2")?);
        let near_b = world.run_instance("appB", "n1")?;
        for line in [["allow", "appA", "appB", "--port"], ["allow", "host", "appA", "--port"]] {
            let line = [&line[..], &["8080", "--protocol", "udp", "--wait"]].concat();
            world.netpol(&line)?.expect_exit(0)?;
        }
        let node = &world.node("n1")?.namespace;
        for instance in [&b, &near_b] {
            node.ip(&format!("addr add {}/32 dev lo\n", instance.address()?))?;
            // Neither is the borrower `host` by it, nor does the instance lose its own.
            expect_dropped(world, node, instance.address()?, &a, DropReason::OverlaySourceFromHost)?;
            expect_answer(Transport::Udp, &a, instance, PORT)?;
            node.ip(&format!("addr del {}/32 dev lo\n", instance.address()?))?;
            expect_answer(Transport::Udp, &a, instance, PORT)?;
        }
        Ok(())
    });
}

#[test]
fn what_a_node_forwards_is_not_taken_for_its_own() {
    scenario(Plan::nodes(&["n1"]), |world| {
        let c = world.run_instance("appC", "n1")?;
        world.netpol(&["allow", "host", "appC", "--port", "8080", "--protocol", "udp", "--wait"])?.expect_exit(0)?;
        let node = world.node("n1")?;
        node.namespace.inside(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("turn forwarding on"))?;
        // The agent's own routes are for what the node sends; somebody made one for all.
        node.namespace.ip(&format!("route add {}/32 dev {}\n", c.address()?, c.attached.host_interface))?;
        let stranger = world.stranger()?;
        stranger.ip(&format!("route add {}/32 via {}\n", c.address()?, node.underlay))?;
        expect_dropped(world, &stranger, Ipv4Addr::UNSPECIFIED, &c, DropReason::NotFromHost)
    });
}

/// Whether a node's own stack gets to an instance, in so many milliseconds.
fn reaches(node: &Namespace, instance: &Instance, patience: u64) -> Result<bool> {
    let address = SocketAddr::from((instance.address()?, PORT));
    let _listener = instance.namespace.inside(|| TcpListener::bind(address).context("listen"))?;
    let patience = Duration::from_millis(patience);
    node.inside(|| Ok(TcpStream::connect_timeout(&address, patience).is_ok()))
}

#[test]
fn the_node_reaches_its_instances_by_a_rule_for_host_only() {
    scenario(Plan::nodes(&["n1", "n2"]), |world| {
        let (near, far) = (world.run_instance("appC", "n1")?, world.run_instance("appC", "n2")?);
        let node = &world.node("n1")?.namespace;
        let reaches = |instance, patience| reaches(node, instance, patience);
        ensure!(reaches(&near, 5_000)?, "the rule that a store is born with");
        world.netpol(&["revoke", "host", "any", "--protocol", "any", "--wait"])?.expect_exit(0)?;
        ensure!(!reaches(&near, 500)?, "no rule names the host now");
        world.netpol(&["allow", "host", "appC", "--port", "8080", "--wait"])?.expect_exit(0)?;
        ensure!(reaches(&near, 5_000)?, "the rule names the host");
        ensure!(!reaches(&far, 500)?, "`host` is an endpoint's own node, not any node");
        world.netpol(&["revoke", "host", "appC", "--port", "8080", "--wait"])?.expect_exit(0)?;
        ensure!(!reaches(&near, 500)?, "the rule is gone");
        Ok(())
    });
}

#[test]
fn the_node_reaches_an_app_that_never_ran_here_while_the_api_is_away_unless_a_deny_bars_it() {
    scenario(Plan::nodes(&["n1"]), |world| {
        world.run_instance("appB", "n1")?;
        for line in [["allow", "appZ", "appB"], ["allow", "appY", "appB"], ["deny", "host", "appY"]] {
            world.netpol(&[&line[..], &["--port", "8080", "--wait"]].concat())?.expect_exit(0)?;
        }
        world.control.kill()?;
        let (checked, barred) = (world.run_instance("appZ", "n1")?, world.run_instance("appY", "n1")?);
        for instance in [&checked, &barred] {
            let note = instance.attached.note.clone().unwrap_or_default();
            ensure!(note.contains("does not know all of its rules"), "{note}");
        }
        let node = &world.node("n1")?.namespace;
        ensure!(reaches(node, &checked, 5_000)?, "no health check gets there");
        ensure!(!reaches(node, &barred, 500)?, "a deny that stands is passed over");
        Ok(())
    });
}
