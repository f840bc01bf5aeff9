//! An endpoint's veth pair: one end on the host, the other inside the instance's namespace with everything that lets it
//! speak to its gateway without asking.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use common::{
    Mac,
    address::{GATEWAY_V4, GATEWAY_V6},
};
use futures_util::TryStreamExt as _;
use netlink_packet_route::{
    address::AddressHeaderFlags,
    link::{InfoData, InfoKind, InfoVeth, LinkAttribute},
    neighbour::NeighbourState,
    route::{RouteAttribute, RouteMetric, RouteScope},
};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::{INSTANCE_TABLE, Interface, LinkError, Links, Result, interface, ipv6, is_errno, netns::Netns};

/// Of the host's end: a workload may raise its own end's MTU, and what it then sends has to reach the programs, which tell it
/// that it is too long. The kernel would drop it without a word. What the node sends is held to its routes' MTU.
const HOST_MTU: u32 = 65_535;

/// How a pair is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VethPlan {
    pub host_name: String,
    pub instance_name: String,
    pub addresses: Vec<IpAddr>,
    pub mtu: u32,
}

/// A pair that was made; its host end is still down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VethPair {
    pub host: Interface,
    pub instance_mac: Mac,
}

impl Links {
    /// Why an instance in this namespace can have no IPv6 address, if so.
    pub async fn without_v6(&self, netns: &Netns, mtu: u32) -> Result<Option<&'static str>> {
        if mtu < ipv6::LEAST_MTU {
            return Ok(Some("IPv4 only: the overlay's MTU is below the 1280 bytes that IPv6 needs"));
        }
        let enabled = netns.has_ipv6().await?;
        Ok((!enabled).then_some("IPv4 only: IPv6 is disabled in the namespace (net.ipv6.conf.default.disable_ipv6)"))
    }

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
            .mtu(HOST_MTU)
            .address(Mac::GATEWAY.0.to_vec())
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .build();
        let what = format!("create veth {}", plan.host_name);
        self.handle.link().add(message).execute().await.map_err(LinkError::netlink(what))?;
        match self.configure(plan, inner, netns).await {
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

    async fn configure(&self, plan: &VethPlan, inner: Handle, netns: &Netns) -> Result<VethPair> {
        let host = self.find(&plan.host_name).await?.ok_or_else(|| vanished(&plan.host_name))?;
        let instance = find_in(&inner, &plan.instance_name).await?.ok_or_else(|| vanished(&plan.instance_name))?;
        let mac: [u8; 6] = instance.mac.as_slice().try_into().map_err(|_| vanished("the instance's MAC address"))?;
        ipv6::quiet(&plan.host_name)?;
        ipv6::allow(&plan.host_name)?;
        let name = plan.instance_name.clone();
        netns.inside(move || ipv6::quiet(&name)).await?;
        configure_instance(&inner, &instance, &plan.addresses).await?;
        Ok(VethPair { host, instance_mac: Mac(mac) })
    }

    /// Lets the host's own stack reach the instance, by packets of this length, and brings the host end up.
    pub async fn open_veth(&self, host_index: u32, addresses: &[IpAddr], instance_mac: Mac, mtu: u32) -> Result<()> {
        let message = LinkUnspec::new_with_index(host_index).mtu(HOST_MTU).up().build();
        let what = format!("set interface {host_index} up");
        self.handle.link().set(message).execute().await.map_err(LinkError::netlink(what))?;
        for address in addresses {
            tell_neighbour(&self.handle, host_index, *address, instance_mac).await?;
            let what = || LinkError::netlink(format!("add the route to {address}"));
            let mut route = route_to(*address)?.output_interface(host_index).table_id(INSTANCE_TABLE).build();
            route.attributes.push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)]));
            self.handle.route().add(route).replace().execute().await.map_err(what())?;
        }
        Ok(())
    }
}

/// A route to one address that is on the link.
fn route_to(address: IpAddr) -> Result<RouteMessageBuilder<IpAddr>> {
    let route = RouteMessageBuilder::<IpAddr>::new().destination_prefix(address, width(address));
    let route = route.map_err(|error| LinkError::Refused(format!("no route leads to {address}: {error}")))?;
    Ok(route.scope(RouteScope::Link))
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// A neighbour for ever: nobody has to be asked for his MAC address, and nobody's answer is believed.
async fn tell_neighbour(handle: &Handle, index: u32, address: IpAddr, mac: Mac) -> Result<()> {
    let neighbour = handle.neighbours().add(index, address).link_layer_address(&mac.0);
    let neighbour = neighbour.state(NeighbourState::Permanent).replace();
    neighbour.execute().await.map_err(LinkError::netlink(format!("add the neighbour {address}")))
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

/// Loopback and the new interface up, and for each family the address and the gateway by a permanent neighbour: nothing has
/// to be asked.
async fn configure_instance(inner: &Handle, instance: &Interface, addresses: &[IpAddr]) -> Result<()> {
    const LOOPBACK: u32 = 1;
    for index in [LOOPBACK, instance.index] {
        let up = LinkUnspec::new_with_index(index).up().build();
        inner.link().set(up).execute().await.map_err(LinkError::netlink("bring up the instance's interfaces"))?;
    }
    for address in addresses {
        let mut adding = inner.address().add(instance.index, *address, width(*address));
        // The node sees to it that nobody else has it; while it were being probed, it could not be used.
        adding.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        adding.execute().await.map_err(LinkError::netlink(format!("give the instance its address {address}")))?;
        let gateway = if address.is_ipv4() { IpAddr::V4(GATEWAY_V4) } else { IpAddr::V6(GATEWAY_V6) };
        tell_neighbour(inner, instance.index, gateway, Mac::GATEWAY).await?;
        lead_out(inner, instance.index, gateway).await?;
    }
    Ok(())
}

/// The routes to and over a gateway that no prefix of the interface covers.
async fn lead_out(inner: &Handle, index: u32, gateway: IpAddr) -> Result<()> {
    let to_gateway = route_to(gateway)?.output_interface(index).build();
    let everywhere = if gateway.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let default = RouteMessageBuilder::<IpAddr>::new().destination_prefix(everywhere, 0);
    let default = default.and_then(|route| route.gateway(gateway));
    let default = default.map_err(|error| LinkError::Refused(format!("no route leads over {gateway}: {error}")))?;
    for route in [to_gateway, default.output_interface(index).onlink().build()] {
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
