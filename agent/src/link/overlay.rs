//! The VXLAN device: one per node, for all peers and tags, with the tag given and taken by our programs.

use std::{fs, net::Ipv4Addr, net::UdpSocket, path::Path};

use common::Mac;
use netlink_packet_route::link::{InfoData, InfoVxlan, LinkAttribute, LinkInfo, LinkMessage};
use rtnetlink::{LinkUnspec, LinkVxlan};

use super::{Interface, LinkError, Links, Result, interface, ipv6};

/// What the VXLAN header and those around it add to an IPv4 underlay packet.
const ENCAPSULATION_V4: u32 = 50;
/// The same for an IPv6 underlay.
const ENCAPSULATION_V6: u32 = 70;

/// How the device is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverlayDevice {
    pub name: String,
    pub port: u16,
    /// The MTU inside the overlay.
    pub mtu: u32,
}

impl OverlayDevice {
    /// The MTU that fits into the uplink's.
    pub fn mtu_over(uplink: &Interface, underlay_is_v6: bool) -> u32 {
        Self::mtu_inside(uplink.mtu, underlay_is_v6)
    }

    /// What is left inside of underlay packets of this length.
    pub fn mtu_inside(outer: u32, underlay_is_v6: bool) -> u32 {
        outer.saturating_sub(if underlay_is_v6 { ENCAPSULATION_V6 } else { ENCAPSULATION_V4 })
    }
}

impl Links {
    /// Makes the VXLAN device, or takes over one that an earlier agent made. Refuses where a foreign socket or device
    /// holds the port.
    pub async fn ensure_overlay(&self, wanted: &OverlayDevice) -> Result<Interface> {
        let messages = self.messages().await?;
        let mut ours = None;
        for message in &messages {
            let found = interface(message);
            match vxlan_port(message) {
                Some((port, true)) if found.name == wanted.name && port == wanted.port => ours = Some(found),
                _ if found.name == wanted.name => {
                    return Err(LinkError::Refused(format!(
                        "interface {} exists and is not an external VXLAN device on port {}; delete it, or name another with --overlay-device",
                        wanted.name, wanted.port
                    )));
                }
                Some((port, _)) if port == wanted.port => {
                    return Err(held(wanted.port, &format!("VXLAN device {}", found.name)));
                }
                Some(_) | None => {}
            }
        }
        let device = match ours {
            Some(device) => device,
            None => self.create_overlay(wanted).await?,
        };
        ipv6::quiet(&wanted.name)?;
        let settings = LinkUnspec::new_with_index(device.index).mtu(wanted.mtu).up().build();
        let what = format!("set up VXLAN device {}", wanted.name);
        self.handle.link().set(settings).execute().await.map_err(LinkError::netlink(what))?;
        Ok(device)
    }

    async fn create_overlay(&self, wanted: &OverlayDevice) -> Result<Interface> {
        if let Err(error) = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, wanted.port)) {
            return Err(match socket_owner(wanted.port) {
                Some(owner) => held(wanted.port, &owner),
                None => LinkError::io(format!("UDP port {} of the overlay is not free", wanted.port))(error),
            });
        }
        let message = LinkVxlan::new(&wanted.name, 0)
            .collect_metadata(true)
            .learning(false)
            .port(wanted.port)
            .udp_zero_csum6_rx(true)
            .mtu(wanted.mtu)
            // The gateway's address, so that the kernel takes what instances send to their gateway for its own.
            .address(Mac::GATEWAY.0.to_vec())
            .build();
        let what = format!("create VXLAN device {}", wanted.name);
        self.handle.link().add(message).execute().await.map_err(LinkError::netlink(what))?;
        let made = self.find(&wanted.name).await?;
        made.ok_or_else(|| LinkError::Refused(format!("VXLAN device {} vanished as it was made", wanted.name)))
    }
}

fn held(port: u16, owner: &str) -> LinkError {
    LinkError::Refused(format!(
        "UDP port {port} of the overlay is held by {owner}; stop it, or choose another port on every node with --overlay-port"
    ))
}

/// A VXLAN device's port, and whether it leaves tags to programs.
fn vxlan_port(message: &LinkMessage) -> Option<(u16, bool)> {
    let info = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(info) => Some(info),
        _ => None,
    })?;
    let vxlan = info.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Vxlan(vxlan)) => Some(vxlan),
        _ => None,
    })?;
    let port = vxlan.iter().find_map(|info| match info {
        InfoVxlan::Port(port) => Some(*port),
        _ => None,
    })?;
    Some((port, vxlan.contains(&InfoVxlan::CollectMetadata(true))))
}

/// The process that holds a UDP port of this namespace, as far as /proc tells.
fn socket_owner(port: u16) -> Option<String> {
    let inode = ["/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"]
        .iter()
        .find_map(|table| socket_inode(table, port))?;
    let wanted = format!("socket:[{inode}]");
    let holds = |process: &Path| {
        let descriptors = fs::read_dir(process.join("fd")).ok()?;
        let mut links = descriptors.flatten().filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
        links.any(|link| link.as_os_str() == wanted.as_str()).then(|| process.to_path_buf())
    };
    let process = fs::read_dir("/proc").ok()?.flatten().find_map(|entry| holds(&entry.path()))?;
    let name = fs::read_to_string(process.join("comm")).ok()?;
    Some(format!("process {} ({})", process.file_name()?.to_string_lossy(), name.trim()))
}

fn socket_inode(table: &str, port: u16) -> Option<String> {
    let suffix = format!(":{port:04X}");
    fs::read_to_string(table).ok()?.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(1)?.ends_with(&suffix).then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
    })
}
