//! A way between two machines over two routers, whose link carries less than the machines' own: nobody at either end can
//! see it but by what the routers do and say.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};

use super::instance::Family;
use super::namespace::Namespace;

/// The interface of a machine that leads to its router.
pub const WAN: &str = "wan";

#[derive(Debug)]
pub struct Way {
    routers: [Namespace; 2],
}

/// The machine's address of this family at one end of the way.
pub fn address(end: u8, family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(203, 0, 113, 16 * end + 2).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 0xcb, u16::from(end), 0, 0, 0, 0, 2).into(),
    }
}

impl Way {
    /// Makes the routers, with a link of this MTU between them, and gives each machine an interface to its own.
    pub fn between(machines: [&Namespace; 2], mtu: u32) -> Result<Self> {
        let [first, second] = machines.map(|machine| format!("{}-router", machine.name()));
        let routers = [Namespace::create(&first)?, Namespace::create(&second)?];
        routers[0].ip(&format!("link add narrow mtu {mtu} type veth peer name narrow mtu {mtu} netns {second}\n"))?;
        for (end, (router, machine)) in (0..).zip(routers.iter().zip(machines)) {
            forward(router)?;
            lead(router, machine, end)?;
        }
        Ok(Self { routers })
    }

    /// How often the routers have said that an IPv6 packet was too big for the narrow link.
    pub fn told_too_big(&self) -> Result<u64> {
        let told = |router: &Namespace| {
            let counters = router.inside(|| Ok(fs::read_to_string("/proc/thread-self/net/snmp6")?))?;
            let line = counters.lines().find_map(|line| line.strip_prefix("Icmp6OutPktTooBigs"));
            line.context("the kernel counts what it says")?.trim().parse::<u64>().context("a count is a number")
        };
        Ok(told(&self.routers[0])? + told(&self.routers[1])?)
    }
}

fn forward(router: &Namespace) -> Result<()> {
    router.inside(|| {
        ["ipv4/ip_forward", "ipv6/conf/all/forwarding"]
            .into_iter()
            .try_for_each(|name| fs::write(format!("/proc/sys/net/{name}"), "1").with_context(|| format!("set {name}")))
    })
}

/// One end of the way: the machine's link to its router, and both's routes to the other end.
fn lead(router: &Namespace, machine: &Namespace, end: u8) -> Result<()> {
    let (other, low, high) = (1 - end, 16 * end, 16 * (1 - end));
    let host = machine.name();
    router.ip(&format!(
        "link add port type veth peer name {WAN} netns {host}
addr add 203.0.113.{router_v4}/28 dev port
addr add fd00:cb:{end}::1/64 dev port nodad
link set port up
addr add 198.51.100.{own}/30 dev narrow
addr add fd00:c6::{own}/64 dev narrow nodad
link set narrow up
",
        router_v4 = low + 1,
        own = end + 1,
    ))?;
    machine.ip(&format!(
        "addr add 203.0.113.{v4}/28 dev {WAN}
addr add fd00:cb:{end}::2/64 dev {WAN} nodad
link set {WAN} up
route add 203.0.113.{high}/28 via 203.0.113.{gateway}
route add fd00:cb:{other}::/64 via fd00:cb:{end}::1
",
        v4 = low + 2,
        gateway = low + 1,
    ))?;
    router.ip(&format!(
        "route add 203.0.113.{high}/28 via 198.51.100.{next}
route add fd00:cb:{other}::/64 via fd00:c6::{next}
",
        next = other + 1,
    ))
}
