//! The underlay: a bridge that every machine of the world hangs on, in the range kept for documentation.

use std::net::Ipv4Addr;

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
