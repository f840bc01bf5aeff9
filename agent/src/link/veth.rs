//! An endpoint's veth pair: one end on the host, the other inside the instance's namespace with everything that lets it
//! speak to its gateway without asking.

use std::net::{IpAddr, Ipv4Addr};

use common::{Mac, address::GATEWAY_V4};
use futures_util::TryStreamExt as _;
use netlink_packet_route::{
    link::{InfoData, InfoKind, InfoVeth, LinkAttribute},
    neighbour::NeighbourState,
    route::RouteScope,
};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::{INSTANCE_TABLE, Interface, LinkError, Links, Result, interface, is_errno, netns::Netns};

/// How a pair is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VethPlan {
    pub host_name: String,
    pub instance_name: String,
    pub address: Ipv4Addr,
    pub mtu: u32,
}

/// A pair that was made; its host end is still down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VethPair {
    pub host: Interface,
    pub instance_mac: Mac,
}

impl Links {
    /// Makes the pair and configures its inner end. The host end stays down until its programs are attached.
    pub async fn create_veth(&self, plan: &VethPlan, netns: &Netns) -> Result<VethPair> {
        let inner = netns.netlink().await?;
        if find_in(&inner, &plan.instance_name).await?.is_some() {
            return Err(LinkError::Refused(format!(
                "the namespace already has an interface {}; name another with --ifname",
                plan.instance_name
            )));
        }
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(plan.instance_name.clone())
            .setns_by_fd(netns.raw())
            .mtu(plan.mtu)
            .build();
        let message = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(plan.host_name.clone())
            .mtu(plan.mtu)
            .address(Mac::GATEWAY.0.to_vec())
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .build();
        let what = format!("create veth {}", plan.host_name);
        self.handle.link().add(message).execute().await.map_err(LinkError::netlink(what))?;
        match self.configure(plan, &inner).await {
            Ok(pair) => Ok(pair),
            Err(error) => {
                // A pair that cannot be used must not stay; the error that matters is the first.
                if let Ok(Some(host)) = self.find(&plan.host_name).await {
                    let _ = self.delete(host.index).await;
                }
                Err(error)
            }
        }
    }

    async fn configure(&self, plan: &VethPlan, inner: &Handle) -> Result<VethPair> {
        let host = self.find(&plan.host_name).await?.ok_or_else(|| vanished(&plan.host_name))?;
        let instance = find_in(inner, &plan.instance_name).await?.ok_or_else(|| vanished(&plan.instance_name))?;
        let mac: [u8; 6] = instance.mac.as_slice().try_into().map_err(|_| vanished("the instance's MAC address"))?;
        configure_instance(inner, &instance, plan.address).await?;
        Ok(VethPair { host, instance_mac: Mac(mac) })
    }

    /// Lets the host's own stack reach the instance, and brings the host end up.
    pub async fn open_veth(&self, host_index: u32, address: Ipv4Addr, instance_mac: Mac) -> Result<()> {
        self.set_up(host_index).await?;
        let neighbour =
            self.handle.neighbours().add(host_index, IpAddr::V4(address)).link_layer_address(&instance_mac.0);
        let neighbour = neighbour.state(NeighbourState::Permanent).replace();
        neighbour.execute().await.map_err(LinkError::netlink(format!("add the neighbour {address}")))?;
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(address, 32)
            .output_interface(host_index)
            .scope(RouteScope::Link)
            .table_id(INSTANCE_TABLE)
            .build();
        let added = self.handle.route().add(route).replace().execute().await;
        added.map_err(LinkError::netlink(format!("add the route to {address}")))
    }
}

fn vanished(what: &str) -> LinkError {
    LinkError::Refused(format!("{what} vanished as it was made"))
}

async fn find_in(handle: &Handle, name: &str) -> Result<Option<Interface>> {
    let messages: Vec<_> = handle
        .link()
        .get()
        .execute()
        .try_collect()
        .await
        .map_err(LinkError::netlink("list the namespace's interfaces"))?;
    let named = |message: &&netlink_packet_route::link::LinkMessage| {
        message.attributes.iter().any(|attribute| matches!(attribute, LinkAttribute::IfName(found) if found == name))
    };
    Ok(messages.iter().find(named).map(interface))
}

/// Loopback and the new interface up, the address, and the gateway by a permanent neighbour: nothing has to be asked.
async fn configure_instance(inner: &Handle, instance: &Interface, address: Ipv4Addr) -> Result<()> {
    const LOOPBACK: u32 = 1;
    for index in [LOOPBACK, instance.index] {
        let up = LinkUnspec::new_with_index(index).up().build();
        inner.link().set(up).execute().await.map_err(LinkError::netlink("bring up the instance's interfaces"))?;
    }
    let added = inner.address().add(instance.index, IpAddr::V4(address), 32).execute().await;
    added.map_err(LinkError::netlink("give the instance its address"))?;
    let gateway = inner.neighbours().add(instance.index, IpAddr::V4(GATEWAY_V4)).link_layer_address(&Mac::GATEWAY.0);
    let gateway = gateway.state(NeighbourState::Permanent).replace();
    gateway.execute().await.map_err(LinkError::netlink("tell the instance its gateway"))?;
    let to_gateway = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(GATEWAY_V4, 32)
        .output_interface(instance.index)
        .scope(RouteScope::Link)
        .build();
    let default =
        RouteMessageBuilder::<Ipv4Addr>::new().gateway(GATEWAY_V4).output_interface(instance.index).onlink().build();
    for route in [to_gateway, default] {
        match inner.route().add(route).execute().await {
            Err(error) if is_errno(&error, libc::EEXIST) => {
                return Err(LinkError::Refused(
                    "the namespace already has a default route; attach takes one without".into(),
                ));
            }
            result => result.map_err(LinkError::netlink("give the instance its routes"))?,
        }
    }
    Ok(())
}
