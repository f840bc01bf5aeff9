//! The endpoints of this node, and what is remembered of each.

use std::{
    collections::{BTreeMap, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
};

use common::{
    Address, Identity, Mac,
    placement::{self, endpoint_place},
};
use policy_api::model::{AppName, Labels, Revision};
use serde::{Deserialize, Serialize};

use crate::{
    datapath::{Attachment, Hook},
    link::{Interface, netns::NetnsId},
    pool::AddressPair,
    state::{self, StateError},
};

/// An endpoint, as it survives the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub app: AppName,
    pub instance: u32,
    pub identity: u32,
    pub address: Ipv4Addr,
    /// None where the namespace has no IPv6, or an agent attached it that knew none.
    #[serde(default)]
    pub address_v6: Option<Ipv6Addr>,
    pub host_interface: String,
    pub ifindex: u32,
    pub mac: [u8; 6],
    /// Different for each attachment, so that no flow of an earlier one lends it a verdict.
    pub generation: u32,
    /// Where its packets are counted; 0, with all that belongs to none, until the node has given it a slot of its own.
    #[serde(default)]
    pub slot: u32,
    pub netns: NetnsId,
    pub interface: String,
    #[serde(default)]
    pub labels: Labels,
    /// The revision that placed it; none while the policy API has not been told.
    pub placed: Option<Revision>,
}

impl Endpoint {
    pub fn identity(&self) -> Identity {
        Identity::new(self.identity).unwrap_or(Identity::UNKNOWN)
    }

    /// `web/0`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.app, self.instance)
    }

    /// One or two, as they are claimed, routed and placed.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.pair().addresses()
    }

    fn pair(&self) -> AddressPair {
        AddressPair { v4: self.address, v6: self.address_v6 }
    }

    /// What the programs know of it.
    pub fn row(&self) -> placement::Endpoint {
        let v6 = self.address_v6.map_or(Address::NONE, Address::from);
        placement::Endpoint::new(self.address.into(), v6, self.identity(), self.generation, Mac(self.mac))
            .behind(self.ifindex)
            .counted_in(self.slot)
    }

    /// Whether the interface that was made for it is among these.
    pub fn is_on(&self, interfaces: &[Interface]) -> bool {
        interfaces.iter().any(|found| found.index == self.ifindex && found.name == self.host_interface)
    }

    /// The hooks that guard it, inward first: nothing may leave before what it may do is judged.
    pub fn attachments(&self) -> [Attachment; 2] {
        [Hook::FromEndpoint, Hook::ToEndpoint].map(|hook| Attachment {
            hook,
            interface: self.host_interface.clone(),
            ifindex: self.ifindex,
        })
    }
}

/// The host-side name of an address's veth: found by whoever knows the address, and within 15 characters.
pub fn host_interface_name(address: Ipv4Addr) -> String {
    format!("np{:08x}", u32::from(address))
}

/// All endpoints, by ifindex, and the file that remembers them.
#[derive(Debug)]
pub struct Registry {
    path: PathBuf,
    endpoints: BTreeMap<u32, Endpoint>,
}

impl Registry {
    pub fn open(directory: &Path) -> Result<Self, StateError> {
        let path = directory.join("endpoints.json");
        let remembered: Vec<Endpoint> = state::load(&path)?.unwrap_or_default();
        let endpoints = remembered.into_iter().map(|endpoint| (endpoint.ifindex, endpoint)).collect();
        Ok(Self { path, endpoints })
    }

    pub fn put(&mut self, endpoint: Endpoint) -> Result<(), StateError> {
        self.endpoints.insert(endpoint.ifindex, endpoint);
        self.save()
    }

    pub fn remove(&mut self, ifindex: u32) -> Result<Option<Endpoint>, StateError> {
        let removed = self.endpoints.remove(&ifindex);
        self.save()?;
        Ok(removed)
    }

    fn save(&self) -> Result<(), StateError> {
        state::save(&self.path, &self.endpoints.values().collect::<Vec<_>>())
    }

    pub fn all(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.values()
    }

    pub fn in_netns(&self, netns: NetnsId) -> Option<&Endpoint> {
        self.endpoints.values().find(|endpoint| endpoint.netns == netns)
    }

    /// The endpoint that is found where one behind this interface would be.
    pub fn in_place_of(&self, ifindex: u32) -> Option<&Endpoint> {
        self.endpoints.values().find(|endpoint| endpoint_place(endpoint.ifindex) == endpoint_place(ifindex))
    }

    /// The lowest slot that no endpoint is counted in, below this one; the first is for what belongs to none.
    pub fn free_slot(&self, end: u32) -> Option<u32> {
        let taken: HashSet<u32> = self.endpoints.values().map(|endpoint| endpoint.slot).collect();
        (1..end).find(|slot| !taken.contains(slot))
    }

    pub fn apps(&self) -> HashSet<Identity> {
        self.endpoints.values().map(Endpoint::identity).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::placement::ENDPOINT_PLACES;

    fn behind(ifindex: u32) -> Endpoint {
        let endpoint = serde_json::json!({
            "app": "web", "instance": 0, "identity": 256, "address": "10.255.1.1", "host_interface": "np0aff0101",
            "ifindex": ifindex, "mac": [2, 0, 0, 0, 0, 1], "generation": 1, "slot": 1,
            "netns": { "device": 4, "inode": 7 }, "interface": "eth0", "labels": {}, "placed": null,
        });
        serde_json::from_value(endpoint).expect("an endpoint")
    }

    #[test]
    fn interfaces_whose_numbers_share_a_place_are_seen_and_others_are_not() {
        let directory = std::env::temp_dir().join(format!("netpol-registry-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        let mut registry = Registry::open(&directory).expect("a registry");
        registry.put(behind(7)).expect("kept");
        let found = |ifindex| registry.in_place_of(ifindex).map(|endpoint| endpoint.ifindex);
        assert_eq!([7, 7 + ENDPOINT_PLACES, 7 + 3 * ENDPOINT_PLACES].map(found), [Some(7); 3]);
        assert_eq!([6, 8, 8 + ENDPOINT_PLACES].map(found), [None; 3]);
        std::fs::remove_dir_all(&directory).expect("removed");
    }
}
