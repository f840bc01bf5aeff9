//! The endpoints of this node: what is remembered of each, and which address a new one gets.

use std::{
    collections::{BTreeMap, HashSet},
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

use common::{Address, Identity, Mac, placement};
use policy_api::model::{AppName, Binding, BindingState, Labels, NodeName, Prefix, Replica, Revision};
use serde::{Deserialize, Serialize};

use crate::{
    datapath::{Attachment, Hook},
    link::{Interface, netns::NetnsId},
    state::{self, StateError},
};

/// An endpoint, as it survives the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub app: AppName,
    pub instance: u32,
    pub identity: u32,
    pub address: Ipv4Addr,
    pub host_interface: String,
    pub ifindex: u32,
    pub mac: [u8; 6],
    /// Different for each attachment, so that no flow of an earlier one lends it a verdict.
    pub generation: u32,
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

    pub fn address(&self) -> Address {
        self.address.into()
    }

    /// What the programs know of it.
    pub fn row(&self) -> placement::Endpoint {
        placement::Endpoint::new(self.address(), Address::NONE, self.identity(), self.generation, Mac(self.mac))
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

    pub fn apps(&self) -> HashSet<Identity> {
        self.endpoints.values().map(Endpoint::identity).collect()
    }
}

/// The address that a new endpoint of `app` gets: one that the node has published for the app already, so that the other
/// nodes know it; else a fresh one; else the one that has been free for longest. None if the slice is full.
pub fn choose_address(
    replica: &Replica,
    node: &NodeName,
    slice: Prefix,
    app: &AppName,
    taken: &HashSet<Ipv4Addr>,
) -> Option<Ipv4Addr> {
    let bound: BTreeMap<Ipv4Addr, &Binding> =
        replica.bindings.values().filter_map(|binding| Some((as_v4(binding.address)?, binding.as_ref()))).collect();
    let mut freed: Vec<_> = bound
        .iter()
        .filter(|(address, binding)| {
            binding.state == BindingState::Freed && binding.node == *node && !taken.contains(*address)
        })
        .collect();
    freed.sort_by_key(|(_, binding)| binding.revision);
    let published = freed.iter().find(|(_, binding)| binding.app == *app).map(|(address, _)| **address);
    let fresh = || hosts(slice).find(|address| !bound.contains_key(address) && !taken.contains(address));
    let oldest = || freed.first().map(|(address, _)| **address);
    published.or_else(fresh).or_else(oldest)
}

/// The address of `app` on this node that the other nodes already know, if one is free.
pub fn published_address(
    replica: &Replica,
    node: &NodeName,
    app: &AppName,
    taken: &HashSet<Ipv4Addr>,
) -> Option<Ipv4Addr> {
    let free = |binding: &&Binding| {
        binding.node == *node
            && binding.app == *app
            && as_v4(binding.address).is_some_and(|address| !taken.contains(&address))
    };
    replica.bindings.values().map(AsRef::as_ref).filter(free).find_map(|binding| as_v4(binding.address))
}

fn as_v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(v4) => Some(v4),
        IpAddr::V6(_) => None,
    }
}

/// The addresses of a slice that an instance may have: neither the network's own, nor the broadcast one.
fn hosts(slice: Prefix) -> impl Iterator<Item = Ipv4Addr> {
    let IpAddr::V4(network) = slice.address() else { return (1..1).map(Ipv4Addr::from) };
    let size = 1_u32.checked_shl(32 - u32::from(slice.length())).unwrap_or(0);
    let first = u32::from(network);
    (first + 1..first + size.max(2) - 1).map(Ipv4Addr::from)
}
