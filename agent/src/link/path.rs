//! How much the ways to other nodes carry, as routers have told this node's kernel. Over IPv6 no router cuts what is too
//! long for its next link: it drops it and says so to the node that sent it.

use std::{
    io,
    net::IpAddr,
    os::fd::{AsRawFd as _, OwnedFd},
    time::Duration,
};

use futures_util::TryStreamExt as _;
use netlink_packet_route::route::{RouteAttribute, RouteMetric};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use rtnetlink::RouteMessageBuilder;
use tokio::{net::UdpSocket, sync::mpsc, time::sleep};

use super::{LinkError, Links, Result, is_errno};

const PACKET_TOO_BIG: usize = 2;
/// The socket option that chooses among ICMPv6 types: a set bit blocks one.
const ICMP6_FILTER: libc::c_int = 1;

/// Whoever floods this node with such words has it look no more often.
const BETWEEN_NEWS: Duration = Duration::from_millis(50);

/// How the node's packets get somewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Path {
    /// What a router said of it; none where the node's own link is the narrowest that is known.
    pub mtu: Option<u32>,
    /// The interface they leave by; none where no way leads there now.
    pub interface: Option<u32>,
    /// Whether the route wraps them in something of its own.
    pub wraps: bool,
}

impl Links {
    /// The way to an address, as the kernel would go it now.
    pub async fn path(&self, to: IpAddr) -> Result<Path> {
        let length = if to.is_ipv4() { 32 } else { 128 };
        let route = RouteMessageBuilder::<IpAddr>::new().destination_prefix(to, length);
        let route = route.map_err(|error| LinkError::Refused(format!("no route leads to {to}: {error}")))?.build();
        let _one_at_a_time = self.listing.lock().await;
        let found = self.handle.route().get(route).execute().try_next().await;
        let route = match found {
            Err(error) if [libc::ENETUNREACH, libc::EHOSTUNREACH].iter().any(|errno| is_errno(&error, *errno)) => None,
            result => result.map_err(LinkError::netlink(format!("ask for the way to {to}")))?,
        };
        let mut path = Path::default();
        for attribute in route.into_iter().flat_map(|route| route.attributes) {
            match attribute {
                RouteAttribute::Metrics(metrics) => path.mtu = metrics.into_iter().find_map(mtu),
                RouteAttribute::Oif(index) => path.interface = Some(index),
                RouteAttribute::EncapType(_) => path.wraps = true,
                _ => {}
            }
        }
        Ok(path)
    }
}

fn mtu(metric: RouteMetric) -> Option<u32> {
    match metric {
        RouteMetric::Mtu(mtu) => Some(mtu),
        _ => None,
    }
}

/// Tells each time that a router says that a packet was too big for its next link.
pub(super) fn watch_too_big(news: mpsc::Sender<()>) -> Result<()> {
    let socket = open().map_err(LinkError::io("listen for what routers say"))?;
    tokio::spawn(async move {
        let mut said = [0; 2048];
        // Read for its coming alone: whom to believe of it is for the kernel to say.
        while socket.recv(&mut said).await.is_ok() {
            while socket.try_recv(&mut said).is_ok() {}
            // Full means that the news is on its way already.
            if let Err(mpsc::error::TrySendError::Closed(())) = news.try_send(()) {
                break;
            }
            sleep(BETWEEN_NEWS).await;
        }
    });
    Ok(())
}

/// A raw socket that hears one type of ICMPv6. The runtime knows none, but reads from it as from any that has datagrams.
fn open() -> io::Result<UdpSocket> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket: OwnedFd = socket(AddressFamily::Inet6, SockType::Raw, flags, SockProtocol::IcmpV6)?;
    let mut blocked = [u32::MAX; 8];
    blocked[PACKET_TOO_BIG / 32] &= !(1 << (PACKET_TOO_BIG % 32));
    let length = libc::socklen_t::try_from(size_of_val(&blocked)).map_err(io::Error::other)?;
    // SAFETY: the option is read from `blocked`, whose length is told, before the call returns.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_ICMPV6, ICMP6_FILTER, blocked.as_ptr().cast(), length)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    UdpSocket::from_std(socket.into())
}
