//! What an app feels: latency, connections and throughput between two nodes, against the same path without any program
//! (plain VXLAN with routes), pair by pair in one run.

use std::{fs, net::Ipv4Addr};

use anyhow::{Context as _, Result};

use super::{
    Row,
    load::{ACCEPT, ECHO, SINK, Services, connect_rate, request_response, stream},
    median, publish,
};
use crate::world::{Plan, World, fabric::Fabric, namespace::Namespace};

const BENCH: &str = "path";
const PAIRS: usize = 21;

/// A measurement: its name, unit, service and load.
type Case = (&'static str, &'static str, u16, fn(&Namespace, std::net::SocketAddr) -> Result<f64>);

const CASES: [Case; 3] = [
    ("request/response", "1/s", ECHO, request_response),
    ("connect rate", "1/s", ACCEPT, connect_rate),
    ("one stream", "B/s", SINK, stream),
];

pub fn run() -> Result<()> {
    let plain = Plain::start()?;
    let mut world = World::start(Plan::nodes(&["n1", "n2"]))?;
    let client = world.run_instance("appA", "n1")?;
    let server = world.run_instance("appB", "n2")?;
    world.netpol(&["allow", "appA", "appB", "--port", "8080-8082", "--wait"])?.expect_exit(0)?;
    let ours = Services::start(&server.namespace, server.address()?)?;
    let theirs = Services::start(&plain.server, SERVER)?;
    let mut rows = Vec::new();
    for (case, unit, port, load) in CASES {
        let mut samples: [Vec<f64>; 2] = Default::default();
        for pair in 0..PAIRS {
            eprint!("\rbench path: {case}, pair {} of {PAIRS}    ", pair + 1);
            // Who goes first changes, so that drift hits both alike.
            for turn in [pair % 2, 1 - pair % 2] {
                let (namespace, services) =
                    if turn == 0 { (&client.namespace, &ours) } else { (&plain.client, &theirs) };
                samples[turn].push(load(namespace, services.at(port)).with_context(|| case)?);
            }
        }
        let ratios: Vec<f64> = samples[0].iter().zip(&samples[1]).map(|(ours, theirs)| ours / theirs).collect();
        rows.push(Row::of(BENCH, case, 1, unit, &samples[0]).against("plain-vxlan", median(&ratios)));
        rows.push(Row::of(BENCH, format!("{case}, plain VXLAN"), 0, unit, &samples[1]));
    }
    eprintln!();
    ours.stop(&client.namespace)?;
    theirs.stop(&plain.client)?;
    publish(BENCH, &rows)
}

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 98, 1, 2);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 98, 2, 2);

/// Two machines that route between their containers over an ordinary VXLAN device: what an overlay costs by itself.
struct Plain {
    client: Namespace,
    server: Namespace,
    _machines: [Namespace; 2],
    _fabric: Fabric,
}

impl Plain {
    fn start() -> Result<Self> {
        let fabric = Fabric::create("plain-fabric")?;
        let underlay = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];
        let machines =
            [fabric.machine("plain-m1", "p-m1", underlay[0])?, fabric.machine("plain-m2", "p-m2", underlay[1])?];
        let client = Self::container("plain-client", &machines[0], 1, CLIENT)?;
        let server = Self::container("plain-server", &machines[1], 2, SERVER)?;
        for (here, there) in [(1, 2), (2, 1)] {
            machines[here - 1].ip(&format!(
                "link add vx type vxlan id 42 dstport 4789 local {} remote {} dev uplink nolearning\n\
                 link set vx mtu 1450 up\naddr add 10.97.0.{here}/24 dev vx\nroute add 10.98.{there}.0/24 via 10.97.0.{there}\n",
                underlay[here - 1],
                underlay[there - 1]
            ))?;
            machines[here - 1].inside(|| Ok(fs::write("/proc/sys/net/ipv4/ip_forward", "1")?))?;
        }
        Ok(Self { client, server, _machines: machines, _fabric: fabric })
    }

    fn container(name: &str, machine: &Namespace, subnet: u8, address: Ipv4Addr) -> Result<Namespace> {
        let container = Namespace::create(name)?;
        machine.ip(&format!(
            "link add c{subnet} mtu 1450 type veth peer name eth0 netns {name}\nlink set c{subnet} up\naddr add 10.98.{subnet}.1/24 dev c{subnet}\n"
        ))?;
        container.ip(&format!(
            "link set eth0 mtu 1450 up\naddr add {address}/24 dev eth0\nroute add default via 10.98.{subnet}.1\n"
        ))?;
        Ok(container)
    }
}
