//! Who wraps what goes to another node: our programs where nothing else is to happen to it on its way, the VXLAN device
//! where something is. Both speak the same on the wire, and changing over loses nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::world::agent_socket;
use tests::world::flow::{BothWays, Flow, Totals};
use tests::world::instance::{Family, Instance};
use tests::world::patience::{PATIENCE, await_that};
use tests::world::probe::Transport::{Tcp, Udp};
use tests::world::probe::{expect_answer_over, expect_blocked_over, ping_over};
use tests::world::{Plan, World, scenario};

const PORT: u16 = 8080;
const QUIET: Duration = Duration::from_millis(300);

fn await_tunnel(world: &World, node: &str, who: &str) -> Result<()> {
    let what = format!("{node} to have its packets wrapped by {who}");
    await_that(&what, PATIENCE, || Ok(world.node(node)?.status()?["tunnel"] == who))
}

/// What the VXLAN device of a node sent and received so far.
fn device_packets(world: &World, node: &str) -> Result<[u64; 2]> {
    let mut command: Command = world.node(node)?.namespace.command("ip");
    let output = command.args(["-s", "-j", "link", "show", "netpol0"]).output().context("ask for counters")?;
    let links: Value = serde_json::from_slice(&output.stdout).context("counters in JSON")?;
    let count = |side| links[0]["stats64"][side]["packets"].as_u64().context("a count of packets");
    Ok([count("tx")?, count("rx")?])
}

/// Packets and bytes that passed on a node in a direction, as its metrics say.
fn passed(world: &World, node: &str, direction: &str) -> Result<[u64; 2]> {
    let text = agent_socket::get_text(&world.node(node)?.socket, "/metrics")?;
    let count = |family: &str| {
        let name = format!("{family}{{outcome=\"passed\",direction=\"{direction}\"}} ");
        let found = text.lines().find_map(|line| line.strip_prefix(name.as_str()));
        found.and_then(|count| count.parse::<u64>().ok()).with_context(|| format!("no {name}in\n{text}"))
    };
    Ok([count("netpol_datapath_packets_total")?, count("netpol_datapath_bytes_total")?])
}

/// Datagrams are counted as they were sent, on both nodes: nothing of what carries them between.
fn expect_counted(world: &World, a: &Instance, b: &Instance) -> Result<()> {
    const DATAGRAMS: u64 = 10;
    const PAYLOAD: [u8; 72] = [7; 72];
    for (family, headers) in [(Family::V4, 14 + 20 + 8), (Family::V6, 14 + 40 + 8)] {
        let now = || -> Result<_> { Ok([passed(world, "n1", "egress")?, passed(world, "n2", "ingress")?]) };
        // Connections that were closed say their last words in their own time.
        let mut last = now()?;
        await_that("the nodes to fall silent", PATIENCE, || {
            std::thread::sleep(QUIET);
            let before = std::mem::replace(&mut last, now()?);
            Ok(before == last)
        })?;
        let before = last;
        let address = SocketAddr::new(b.address_of(family)?, PORT + 3);
        let server = b.namespace.inside(|| UdpSocket::bind(address).context("bind"))?;
        server.set_read_timeout(Some(PATIENCE))?;
        let source = SocketAddr::new(a.address_of(family)?, 0);
        let client = a.namespace.inside(|| UdpSocket::bind(source).context("bind"))?;
        for _ in 0..DATAGRAMS {
            client.send_to(&PAYLOAD, address)?;
            server.recv(&mut [0; PAYLOAD.len()]).context("an allowed datagram")?;
        }
        let after = now()?;
        let wanted = [DATAGRAMS, DATAGRAMS * (PAYLOAD.len() as u64 + headers)];
        for (before, after) in before.into_iter().zip(after) {
            let more = [after[0] - before[0], after[1] - before[1]];
            ensure!(more == wanted, "counted {more:?}, not {wanted:?} ({family:?})");
        }
    }
    Ok(())
}

fn expect_policy(a: &Instance, b: &Instance) -> Result<()> {
    for family in Family::BOTH {
        expect_answer_over(family, Tcp, a, b, PORT)?;
        expect_answer_over(family, Udp, a, b, PORT)?;
        ensure!(ping_over(family, a, b)?, "no echo ({family:?})");
        expect_blocked_over(family, Tcp, b, a, PORT)?;
    }
    Ok(())
}

/// A megabyte and back, in segments as large as the stack makes them.
fn expect_bulk(a: &Instance, b: &Instance) -> Result<()> {
    const BYTES: usize = 1 << 20;
    for family in Family::BOTH {
        let address = SocketAddr::new(b.address_of(family)?, PORT + 1);
        let listener = b.namespace.inside(|| TcpListener::bind(address).context("listen"))?;
        let mut near = a.namespace.inside(|| TcpStream::connect(address).context("connect"))?;
        let (mut far, _) = listener.accept().context("accept")?;
        for socket in [&near, &far] {
            socket.set_read_timeout(Some(PATIENCE))?;
        }
        let sent: Vec<u8> = (0..BYTES).map(|i| u8::try_from(i % 251).unwrap_or(0)).collect();
        std::thread::scope(|scope| -> Result<()> {
            let echo = scope.spawn(move || -> Result<()> {
                let mut heard = vec![0; BYTES];
                far.read_exact(&mut heard).context("read what was sent")?;
                far.write_all(&heard).context("send it back")
            });
            near.write_all(&sent).context("send")?;
            let mut heard = vec![0; BYTES];
            near.read_exact(&mut heard).context("read what came back")?;
            ensure!(heard == sent, "what came back is not what was sent ({family:?})");
            echo.join().expect("the thread returns its errors")
        })?;
    }
    Ok(())
}

fn world_of(underlay: Family, play: impl FnOnce(&mut World, &Instance, &Instance) -> Result<()>) {
    scenario(Plan { underlay, ..Plan::nodes(&["n1", "n2"]) }, |world| {
        let (a, b) = (world.run_instance("appA", "n1")?, world.run_instance("appB", "n2")?);
        world.netpol(&["allow", "appA", "appB", "--protocol", "any", "--wait"])?.expect_exit(0)?;
        play(world, &a, &b)
    });
}

fn by_programs(underlay: Family) {
    world_of(underlay, |world, a, b| {
        for node in ["n1", "n2"] {
            await_tunnel(world, node, "programs")?;
        }
        let before = [device_packets(world, "n1")?, device_packets(world, "n2")?];
        expect_policy(a, b)?;
        expect_bulk(a, b)?;
        expect_counted(world, a, b)?;
        let after = [device_packets(world, "n1")?, device_packets(world, "n2")?];
        ensure!(before == after, "the VXLAN devices carried something: {before:?}, then {after:?}");
        Ok(())
    });
}

#[test]
fn programs_wrap_and_unwrap_all_that_is_plain_over_ipv4() {
    by_programs(Family::V4);
}

#[test]
fn programs_wrap_and_unwrap_all_that_is_plain_over_ipv6() {
    by_programs(Family::V6);
}

fn mixed(underlay: Family) {
    world_of(underlay, |world, a, b| {
        world.node_mut("n2")?.kill_agent()?;
        world.set_agent_flags(&["--tunnel", "device"]);
        world.restart_agent("n2")?;
        await_tunnel(world, "n1", "programs")?;
        await_tunnel(world, "n2", "device")?;
        let [sent, _] = device_packets(world, "n2")?;
        expect_policy(a, b)?;
        expect_bulk(a, b)?;
        ensure!(device_packets(world, "n2")?[0] > sent, "the device sends");
        expect_counted(world, a, b)?;
        Ok(())
    });
}

#[test]
fn a_node_by_programs_and_one_by_the_device_speak_with_each_other_over_ipv4() {
    mixed(Family::V4);
}

#[test]
fn a_node_by_programs_and_one_by_the_device_speak_with_each_other_over_ipv6() {
    mixed(Family::V6);
}

fn expect_whole(totals: BothWays<Totals>) -> Result<()> {
    for way in [totals.forth, totals.back] {
        ensure!(way.sent == way.delivered, "changing over lost something: {totals:?}");
    }
    Ok(())
}

#[test]
fn where_ipsec_or_another_interface_has_a_say_the_kernel_wraps_and_no_message_is_lost() {
    const IPSEC: &str = "src 198.51.100.0/24 dst 203.0.113.0/24 dir out";
    world_of(Family::V4, |world, a, b| {
        await_tunnel(world, "n1", "programs")?;
        let flows = [Flow::open(Tcp, a, b, PORT + 2)?, Flow::open(Udp, a, b, PORT + 2)?];
        let node = world.node("n1")?;
        for _ in 0..2 {
            let tmpl = "tmpl src 198.51.100.1 dst 203.0.113.1 proto esp mode tunnel";
            node.namespace.ip(&format!("xfrm policy add {IPSEC} {tmpl}\n"))?;
            await_tunnel(world, "n1", "device")?;
            flows.iter().try_for_each(|flow| flow.await_deliveries(50))?;
            node.namespace.ip(&format!("xfrm policy delete {IPSEC}\n"))?;
            await_tunnel(world, "n1", "programs")?;
            flows.iter().try_for_each(|flow| flow.await_deliveries(50))?;
        }
        for flow in flows {
            expect_whole(flow.finish())?;
        }

        let other = world.node("n2")?.underlay;
        node.namespace
            .ip("link add elsewhere type veth peer name nowhere\nlink set elsewhere up\nlink set nowhere up\n")?;
        node.namespace.ip(&format!("route add {other}/32 dev elsewhere\n"))?;
        await_tunnel(world, "n1", "device")?;
        node.namespace.ip(&format!("route del {other}/32 dev elsewhere\n"))?;
        await_tunnel(world, "n1", "programs")?;
        expect_policy(a, b)
    });
}
