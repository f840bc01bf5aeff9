//! The underlay: a bridge that every machine of the world hangs on, in the ranges kept for documentation and private use.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::Result;

use super::namespace::Namespace;

/// The interface of a machine that leads to the underlay.
pub const UPLINK: &str = "uplink";

const BRIDGE: &str = "fabric";

#[derive(Debug)]
pub struct Fabric {
    namespace: Namespace,
}

impl Fabric {
    pub fn create(name: &str) -> Result<Self> {
        let namespace = Namespace::create(name)?;
        namespace
            .ip(&format!("link add {BRIDGE} type bridge forward_delay 0 mcast_snooping 0\nlink set {BRIDGE} up\n"))?;
        Ok(Self { namespace })
    }

    /// Makes a machine on the underlay: a namespace with one uplink.
    pub fn machine(&self, namespace: &str, port: &str, address: Ipv4Addr) -> Result<Namespace> {
        let machine = Namespace::create(namespace)?;
        self.namespace.ip(&format!(
            "link add {port} type veth peer name {UPLINK} netns {namespace}\nlink set {port} master {BRIDGE} up\n"
        ))?;
        machine.ip(&format!("addr add {address}/24 dev {UPLINK}\nlink set {UPLINK} up\n"))?;
        Ok(machine)
    }
}

/// Gives a machine an IPv6 address on the underlay beside its IPv4 one: the same host.
pub fn add_ipv6(machine: &Namespace, address: Ipv4Addr) -> Result<Ipv6Addr> {
    let [.., host] = address.octets();
    let address = Ipv6Addr::new(0xfd00, 0xc0, 0, 2, 0, 0, 0, host.into());
    machine.ip(&format!("addr add {address}/64 dev {UPLINK} nodad\n"))?;
    Ok(address)
}
