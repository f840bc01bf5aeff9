//! A running copy of an app: a network namespace with an endpoint in it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::namespace::Namespace;

/// The version of IP that something speaks, outside or inside the overlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Family {
    #[default]
    V4,
    V6,
}

impl Family {
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];
}

/// What `netpol attach -o json` says that tests care for.
#[derive(Debug, Clone, Deserialize)]
pub struct Attached {
    pub instance: u32,
    pub identity: u32,
    pub addresses: Vec<IpAddr>,
    pub host_interface: String,
    #[serde(default)]
    pub missing: Vec<String>,
    #[serde(default)]
    pub note: Option<String>,
}

#[derive(Debug)]
pub struct Instance {
    pub app: String,
    pub node: String,
    pub attached: Attached,
    pub namespace: Namespace,
}

/// The interface inside the instance's namespace.
pub const INTERFACE: &str = "eth0";

impl Instance {
    /// As people write it: `web/0`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.app, self.attached.instance)
    }

    /// The address that it has of this family.
    pub fn address_of(&self, family: Family) -> Result<IpAddr> {
        match family {
            Family::V4 => self.address().map(IpAddr::V4),
            Family::V6 => self.address_v6().map(IpAddr::V6),
        }
    }

    pub fn address_v6(&self) -> Result<Ipv6Addr> {
        let v6 = self.attached.addresses.iter().find_map(|address| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(*address),
        });
        v6.with_context(|| format!("{} has no IPv6 address", self.name()))
    }

    pub fn address(&self) -> Result<Ipv4Addr> {
        let v4 = self.attached.addresses.iter().find_map(|address| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        });
        v4.with_context(|| format!("{} has no IPv4 address", self.name()))
    }
}
