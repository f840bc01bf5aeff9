//! The ways to the other nodes, and what they let programs do.

use std::net::IpAddr;

use crate::link::{LinkError, Links, OverlayDevice, ipsec};

/// What suits all ways at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fit {
    /// The narrowest of them carries this, as far as routers have said. Over IPv4 they cut what is too long; over IPv6 it
    /// would be lost, and the instance that sent it not know.
    pub(crate) mtu: u32,
    /// The interface that programs send by themselves; 0 unless it is the way to every node, and nothing is to happen to a
    /// packet on it but what they do.
    pub(crate) uplink_ifindex: u32,
}

impl Fit {
    /// The widest that there is, as far as the ways allow it.
    pub(crate) async fn to(
        links: &Links,
        others: impl Iterator<Item = IpAddr>,
        widest: u32,
        uplink: Option<u32>,
    ) -> Result<Self, LinkError> {
        let mut fit = Self { mtu: widest, uplink_ifindex: uplink.unwrap_or(0) };
        for other in others {
            let way = links.path(other).await?;
            if other.is_ipv6() {
                fit.mtu = fit.mtu.min(way.mtu.map_or(fit.mtu, |outer| OverlayDevice::mtu_inside(outer, true)));
            }
            if way.wraps || way.interface.is_some_and(|index| Some(index) != uplink) {
                fit.uplink_ifindex = 0;
            }
        }
        if fit.uplink_ifindex != 0 && ipsec::outgoing_policies()? > 0 {
            fit.uplink_ifindex = 0;
        }
        Ok(fit)
    }
}

/// Who wraps what is sent, as the status says it.
pub(crate) const fn tunnel(uplink_ifindex: u32) -> &'static str {
    if uplink_ifindex == 0 { "device" } else { "programs" }
}
