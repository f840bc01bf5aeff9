//! Interfaces, addresses, routes and neighbours through rtnetlink. The only module that imports it; it knows nothing of
//! apps, rules or programs.

pub mod ipsec;
mod ipv6;
pub mod listener;
pub mod netns;
mod overlay;
mod path;
pub mod socket;
mod veth;

use std::{io, net::IpAddr, sync::Arc};

use futures_util::{StreamExt as _, TryStreamExt as _};
use netlink_packet_route::{
    address::AddressAttribute,
    link::{LinkAttribute, LinkMessage},
    rule::RuleAction,
};
use rtnetlink::{Handle, LinkUnspec, MulticastGroup, new_connection, new_multicast_connection};
use tokio::sync::{Mutex, mpsc, watch};

pub use overlay::OverlayDevice;
pub use path::Path;
pub use veth::{VethPair, VethPlan};

/// The routing table of this node's instances: "np", as a number.
const INSTANCE_TABLE: u32 = 0x6e70;
/// Ahead of the main table's rule, behind the local one's.
const INSTANCE_RULE_PRIORITY: u32 = 1_000;

#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("{what}: {source}")]
    Netlink { what: String, source: rtnetlink::Error },
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("{0}")]
    Refused(String),
}

pub type Result<T> = std::result::Result<T, LinkError>;

impl LinkError {
    fn netlink(what: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Self {
        move |source| Self::Netlink { what: what.into(), source }
    }

    fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what: what.into(), source }
    }
}

/// The node's own interfaces.
#[derive(Clone)]
pub struct Links {
    handle: Handle,
    /// Closed when nobody answers any more.
    answering: watch::Receiver<()>,
    /// Held while a list is read: the kernel answers a second one on the same socket with EBUSY.
    listing: Arc<Mutex<()>>,
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub index: u32,
    pub mtu: u32,
    pub mac: Vec<u8>,
}

impl Links {
    /// Opens a netlink socket in this thread's network namespace.
    pub fn open() -> Result<Self> {
        let (connection, handle, _) = new_connection().map_err(LinkError::io("open a netlink socket"))?;
        let (alive, answering) = watch::channel(());
        tokio::spawn(async move {
            connection.await;
            drop(alive);
        });
        Ok(Self { handle, answering, listing: Arc::default() })
    }

    /// Returns when the kernel cannot be asked any more, which no agent can go on without.
    pub async fn lost(&self) {
        // Nothing is ever sent: it changes by being closed.
        let _closed = self.answering.clone().changed().await.is_err();
    }

    /// The interface with this name, if there is one.
    pub async fn find(&self, name: &str) -> Result<Option<Interface>> {
        Ok(self.all().await?.into_iter().find(|interface| interface.name == name))
    }

    /// Every interface.
    pub async fn all(&self) -> Result<Vec<Interface>> {
        let messages = self.messages().await?;
        Ok(messages.iter().map(interface).collect())
    }

    async fn messages(&self) -> Result<Vec<LinkMessage>> {
        let _one_at_a_time = self.listing.lock().await;
        let list =
            self.handle.link().get().execute().try_collect().await.map_err(LinkError::netlink("list interfaces"))?;
        // A connection that breaks ends a list as if it were whole, and endpoints that are not in it would be forgotten.
        match self.answering.has_changed() {
            Ok(_) => Ok(list),
            Err(_) => Err(LinkError::Refused("list interfaces: the connection to the kernel broke".to_owned())),
        }
    }

    /// The interface that has this address.
    pub async fn with_address(&self, address: IpAddr) -> Result<Option<Interface>> {
        let Some(index) = self.addresses().await?.into_iter().find_map(|(index, ip)| (ip == address).then_some(index))
        else {
            return Ok(None);
        };
        Ok(self.all().await?.into_iter().find(|interface| interface.index == index))
    }

    /// Every address of this node, with its interface.
    pub async fn addresses(&self) -> Result<Vec<(u32, IpAddr)>> {
        let _one_at_a_time = self.listing.lock().await;
        let messages: Vec<_> =
            self.handle.address().get().execute().try_collect().await.map_err(LinkError::netlink("list addresses"))?;
        let of = |attributes: &[AddressAttribute]| {
            let local = attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Local(ip) => Some(*ip),
                _ => None,
            });
            local.or_else(|| {
                attributes.iter().find_map(|attribute| match attribute {
                    AddressAttribute::Address(ip) => Some(*ip),
                    _ => None,
                })
            })
        };
        Ok(messages.iter().filter_map(|message| Some((message.header.index, of(&message.attributes)?))).collect())
    }

    /// Lets only what this node itself sends find the routes to its instances: they stand in a table of their own, which
    /// forwarded packets are never looked up in. So even where somebody takes our programs off, no packet gets from one
    /// instance to another, or from outside to one, through the node's own stack.
    pub async fn ensure_instance_routing(&self) -> Result<()> {
        // Local output enters the look-up as if it came from the loopback interface.
        let rule = || {
            let rule = self.handle.rule().add().input_interface("lo").table_id(INSTANCE_TABLE);
            rule.priority(INSTANCE_RULE_PRIORITY).action(RuleAction::ToTable)
        };
        added(rule().v4().execute().await)?;
        if ipv6::is_built_in() { added(rule().v6().execute().await) } else { Ok(()) }
    }

    pub async fn set_up(&self, index: u32) -> Result<()> {
        let message = LinkUnspec::new_with_index(index).up().build();
        self.handle.link().set(message).execute().await.map_err(LinkError::netlink(format!("set interface {index} up")))
    }

    pub async fn set_down(&self, index: u32) -> Result<()> {
        let message = LinkUnspec::new_with_index(index).down().build();
        self.handle
            .link()
            .set(message)
            .execute()
            .await
            .map_err(LinkError::netlink(format!("set interface {index} down")))
    }

    /// Deletes an interface; one that is gone is as good as deleted.
    pub async fn delete(&self, index: u32) -> Result<()> {
        match self.handle.link().del(index).execute().await {
            Err(error) if !is_errno(&error, libc::ENODEV) => {
                Err(LinkError::netlink(format!("delete interface {index}"))(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// A rule that stands already is as good as added.
fn added(result: std::result::Result<(), rtnetlink::Error>) -> Result<()> {
    match result {
        Err(error) if !is_errno(&error, libc::EEXIST) => {
            Err(LinkError::netlink("add the rule for instances' routes")(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

const WATCHED: [MulticastGroup; 5] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
];

/// Tells that some interface, address or route of this node changed, appeared or went, or that a router found a packet of
/// this node too big; what comes together is told once.
pub fn watch_links() -> Result<mpsc::Receiver<()>> {
    let (connection, _, mut messages) =
        new_multicast_connection(&WATCHED).map_err(LinkError::io("watch interfaces, addresses and routes"))?;
    tokio::spawn(connection);
    let (sender, receiver) = mpsc::channel(1);
    if ipv6::is_built_in() {
        path::watch_too_big(sender.clone())?;
    }
    tokio::spawn(async move {
        while messages.next().await.is_some() {
            // Full means that the news is on its way already.
            if let Err(mpsc::error::TrySendError::Closed(())) = sender.try_send(()) {
                break;
            }
        }
    });
    Ok(receiver)
}

fn interface(message: &LinkMessage) -> Interface {
    let mut found = Interface { name: String::new(), index: message.header.index, mtu: 0, mac: Vec::new() };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => found.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => found.mtu = *mtu,
            LinkAttribute::Address(mac) => found.mac.clone_from(mac),
            _ => {}
        }
    }
    found
}

fn is_errno(error: &rtnetlink::Error, errno: i32) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(message) if message.raw_code() == -errno)
}
