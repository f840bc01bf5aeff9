//! The instruments of the other tests, tried on a link that nobody guards: what they call delivered was delivered.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::forge::{Datagram, MARK, RawSocket, Watcher, in_vxlan};
use tests::world::capture::Capture;
use tests::world::flow::Flow;
use tests::world::instance::{Attached, Instance};
use tests::world::namespace::Namespace;
use tests::world::patience::{PATIENCE, await_that};
use tests::world::probe::{self, Outcome, Transport};

const LEFT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const RIGHT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// Two namespaces on one cable; both ends are called like an uplink.
struct Cable {
    left: Instance,
    right: Instance,
}

impl Cable {
    fn lay(name: &str) -> Result<Self> {
        let prefix = format!("np{}-{name}", std::process::id());
        let left = Namespace::create(&format!("{prefix}-left"))?;
        let right = Namespace::create(&format!("{prefix}-right"))?;
        left.ip(&format!("link add uplink type veth peer name uplink netns {}\n", right.name()))?;
        for (end, address) in [(&left, LEFT), (&right, RIGHT)] {
            end.ip(&format!("addr add {address}/24 dev uplink\nlink set uplink up\n"))?;
        }
        Ok(Self { left: standing_at(left, LEFT), right: standing_at(right, RIGHT) })
    }
}

fn standing_at(namespace: Namespace, address: Ipv4Addr) -> Instance {
    let attached = Attached {
        instance: 0,
        identity: 0,
        addresses: vec![address.into()],
        host_interface: "uplink".into(),
        missing: Vec::new(),
        note: None,
    };
    Instance { app: namespace.name().to_owned(), node: "none".into(), attached, namespace }
}

fn in_the_sandbox(test: impl FnOnce() -> Result<()>) {
    assert!(std::env::var_os("NETPOL_SANDBOX").is_some(), "run this by `cargo xtask test instruments`");
    test().unwrap_or_else(|error| panic!("{error:?}"));
}

#[test]
fn a_probe_on_a_plain_cable_is_answered() {
    in_the_sandbox(|| {
        let cable = Cable::lay("probe")?;
        for transport in [Transport::Tcp, Transport::Udp] {
            probe::expect_answer(transport, &cable.left, &cable.right, 8080)?;
        }
        ensure!(probe::ping(&cable.left, &cable.right)?, "ping works on a plain cable");
        Ok(())
    });
}

#[test]
fn a_flow_on_a_plain_cable_delivers_every_message_both_ways() {
    in_the_sandbox(|| {
        let cable = Cable::lay("flow")?;
        for transport in [Transport::Tcp, Transport::Udp] {
            let flow = Flow::open(transport, &cable.left, &cable.right, 8080)?;
            flow.await_deliveries(200)?;
            let totals = flow.finish();
            ensure!(totals.forth.sent == totals.forth.delivered, "{transport:?}: {totals:?}");
            ensure!(totals.back.sent == totals.back.delivered, "{transport:?}: {totals:?}");
        }
        Ok(())
    });
}

#[test]
fn a_flow_whose_cable_is_cut_falls_silent() {
    in_the_sandbox(|| {
        let cable = Cable::lay("cut")?;
        let flow = Flow::open(Transport::Udp, &cable.left, &cable.right, 8080)?;
        cable.left.namespace.ip("link set uplink down\n")?;
        flow.await_silence(Duration::from_millis(300))
    });
}

#[test]
fn a_forged_tunnel_packet_is_one_to_the_witness_and_to_the_watcher() {
    in_the_sandbox(|| {
        let cable = Cable::lay("forge")?;
        let capture = Capture::start(&cable.right.namespace)?;
        let watcher = Watcher::start(&cable.right.namespace, "uplink")?;
        let inner = datagram(&cable, 1, 2, MARK.to_vec())?.frame();
        let outer = datagram(&cable, 4000, 4789, in_vxlan(4242, &inner))?.frame();
        RawSocket::open(&cable.left.namespace, "uplink")?.send(&outer)?;
        let packets = capture.await_packet(&["192.0.2.1.1 > 192.0.2.2.2"])?;
        ensure!(packets.iter().all(|packet| packet.vni == 4242), "{packets:?}");
        ensure!(packets.iter().all(|packet| packet.flags == "[I] (0x08)"), "{packets:?}");
        await_that("the watcher to see it", PATIENCE, || Ok(watcher.seen() == 1))
    });
}

fn datagram(cable: &Cable, source_port: u16, destination_port: u16, payload: Vec<u8>) -> Result<Datagram> {
    Ok(Datagram {
        source_mac: cable.left.namespace.mac("uplink")?,
        destination_mac: cable.right.namespace.mac("uplink")?,
        source: LEFT,
        destination: RIGHT,
        source_port,
        destination_port,
        payload,
    })
}

#[test]
fn a_probe_over_a_dead_cable_is_silence() {
    in_the_sandbox(|| {
        let cable = Cable::lay("silence")?;
        cable.right.namespace.ip("link set uplink down\n")?;
        for transport in [Transport::Tcp, Transport::Udp] {
            let outcome = probe::ask(transport, &cable.left, &cable.right, 8080, Duration::from_millis(300))?;
            ensure!(outcome == Outcome::Blocked, "{outcome:?}");
        }
        Ok(())
    });
}
