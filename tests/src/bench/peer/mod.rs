//! What others do on the same path: two machines that route between their containers over VXLAN, with a way to say who may
//! talk to whom, or none.

mod incumbent;
mod maps;

use std::{fs, io::Write as _, net::Ipv4Addr, process::Stdio};

use anyhow::{Context as _, Result, ensure};

pub(super) use incumbent::Backend;

use super::load::Target;
use crate::world::{fabric::Fabric, namespace::Namespace};

/// Ports that containers of the client's app may reach.
const PORTS: [u16; 2] = [8080, 8082];
/// The first machine's containers, and the second's.
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 98, 1, 2);
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(10, 98, 1, 3);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 98, 2, 2);
const OVERLAY: &str = "10.98.0.0/16";

/// Who filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    /// Nobody: what an overlay costs by itself.
    None,
    /// Mark rules and allow rules in one list, the source app's tag in the packet.
    Iptables(Backend),
    /// One verdict map over addresses, protocol and port, behind a rule for what conntrack knows.
    Maps,
}

/// Two machines with three containers.
pub(super) struct Cluster {
    filter: Filter,
    pub(super) client: Namespace,
    server: Namespace,
    neighbour: Namespace,
    machines: [Namespace; 2],
    _fabric: Fabric,
}

impl Cluster {
    /// Makes them under names that begin with this one.
    pub(super) fn start(name: &str, filter: Filter) -> Result<Self> {
        let fabric = Fabric::create(&format!("{name}-fabric"))?;
        let underlay = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];
        let machine = |i: usize| fabric.machine(&format!("{name}-m{i}"), &format!("p-m{i}"), underlay[i - 1]);
        let machines = [machine(1)?, machine(2)?];
        for (here, there) in [(1, 2), (2, 1)] {
            // The group policy extension carries the packet's mark, which is how the incumbent's tag travels.
            let gbp = if matches!(filter, Filter::Iptables(_)) { "gbp" } else { "" };
            machines[here - 1].ip(&format!(
                "link add vx type vxlan id 42 dstport 4789 local {} remote {} dev uplink nolearning {gbp}\n\
                 link set vx mtu 1450 up\naddr add 10.97.0.{here}/24 dev vx\nroute add 10.98.{there}.0/24 via 10.97.0.{there}\n",
                underlay[here - 1],
                underlay[there - 1]
            ))?;
            machines[here - 1].inside(|| Ok(fs::write("/proc/sys/net/ipv4/ip_forward", "1")?))?;
        }
        let client = container(&format!("{name}-client"), &machines[0], CLIENT)?;
        let neighbour = container(&format!("{name}-neighbour"), &machines[0], NEIGHBOUR)?;
        let server = container(&format!("{name}-server"), &machines[1], SERVER)?;
        let cluster = Self { filter, client, server, neighbour, machines, _fabric: fabric };
        cluster.prepare()?;
        Ok(cluster)
    }

    pub(super) fn server(&self) -> Target<'_> {
        Target { namespace: &self.server, address: SERVER }
    }

    pub(super) fn neighbour(&self) -> Target<'_> {
        Target { namespace: &self.neighbour, address: NEIGHBOUR }
    }

    /// Puts the rules that the measurements need in force, and so many others on each machine. Where rules have an order,
    /// the others come first.
    pub(super) fn set_rules(&self, others: usize) -> Result<()> {
        let servers = [NEIGHBOUR, SERVER];
        self.machines.iter().zip(servers).try_for_each(|(machine, server)| match self.filter {
            Filter::None => Ok(()),
            Filter::Iptables(backend) => {
                let lines = incumbent::policy(CLIENT, server, PORTS, others);
                feed(machine, &[backend.restore(), "--noflush"], &lines)
            }
            Filter::Maps => {
                let lines = maps::policy(CLIENT, &servers, PORTS, others);
                feed(machine, &["nft", "-f", "-"], &lines)
            }
        })
    }

    fn prepare(&self) -> Result<()> {
        let containers: [&[Ipv4Addr]; 2] = [&[CLIENT, NEIGHBOUR], &[SERVER]];
        self.machines.iter().zip(containers).try_for_each(|(machine, containers)| match self.filter {
            Filter::None => Ok(()),
            Filter::Iptables(backend) => feed(machine, &[backend.restore()], &incumbent::base(containers, OVERLAY)),
            Filter::Maps => feed(machine, &["nft", "-f", "-"], maps::BASE),
        })
    }
}

fn container(name: &str, machine: &Namespace, address: Ipv4Addr) -> Result<Namespace> {
    let container = Namespace::create(name)?;
    let [.., last] = address.octets();
    machine.ip(&format!(
        "link add c{last} mtu 1450 type veth peer name eth0 netns {name}\nlink set c{last} up\n\
         addr add 169.254.0.1 peer {address}/32 dev c{last}\n"
    ))?;
    container.ip(&format!(
        "link set eth0 mtu 1450 up\naddr add {address}/32 dev eth0\nroute add 169.254.0.1 dev eth0 scope link\n\
         route add default via 169.254.0.1\n"
    ))?;
    Ok(container)
}

/// Runs a command inside a machine with these lines as its input.
fn feed(machine: &Namespace, words: &[&str], lines: &str) -> Result<()> {
    let [program, arguments @ ..] = words else { return Ok(()) };
    let mut command = machine.command(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("start {program}"))?;
    let mut input = child.stdin.take().expect("standard input was piped just above");
    let written = input.write_all(lines.as_bytes());
    drop(input);
    let output = child.wait_with_output().with_context(|| format!("await {program}"))?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    written.with_context(|| format!("write to {program}"))
}
