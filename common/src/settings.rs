//! What the agent tells the programs once, and the units of time they count in.

use crate::address::Address;

/// Time in units of 2^30 ns (1.07 s) since boot: a shift instead of a division, and coarse enough that a busy flow's
/// entry is written once a second, not per packet.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticks(pub u32);

impl Ticks {
    #[inline(always)]
    pub const fn from_nanoseconds(nanoseconds: u64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "wraps after 146 years of uptime")]
        Self((nanoseconds >> 30) as u32)
    }

    /// The fewest ticks that last at least this long.
    pub fn at_least(seconds: u32) -> Self {
        let ticks = (u64::from(seconds) * 1_000_000_000).div_ceil(1 << 30);
        Self(u32::try_from(ticks).unwrap_or(u32::MAX))
    }

    /// Ticks that have passed since `earlier`; none if the clock of another CPU was ahead.
    #[inline(always)]
    pub const fn since(self, earlier: Self) -> u32 {
        self.0.saturating_sub(earlier.0)
    }
}

/// How long a flow without packets is believed, by protocol and state.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    pub tcp: Ticks,
    pub tcp_half_closed: Ticks,
    /// After both FINs or a RST: the last acknowledgements still pass.
    pub tcp_ended: Ticks,
    pub udp_answered: Ticks,
    pub unanswered: Ticks,
    pub icmp: Ticks,
    /// A datagram whose fragments do not all come.
    pub fragmented: Ticks,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            tcp: Ticks::at_least(24 * 3600),
            tcp_half_closed: Ticks::at_least(120),
            tcp_ended: Ticks::at_least(4),
            udp_answered: Ticks::at_least(180),
            unanswered: Ticks::at_least(30),
            icmp: Ticks::at_least(30),
            fragmented: Ticks::at_least(10),
        }
    }
}

/// How much one instance may have open at each node: flows as their initiator, datagrams as their sender.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    pub unanswered: u32,
    pub answered: u32,
    /// Datagrams whose fragments are still coming.
    pub fragmented: u32,
    pub reserved: u32,
}

impl Default for Quotas {
    fn default() -> Self {
        Self { unanswered: 8_192, answered: 65_536, fragmented: 1_024, reserved: 0 }
    }
}

/// The node's settings: one value in one map.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The node's underlay address: the outer source of all that we send.
    pub underlay: Address,
    /// Keys the digests of verdict words.
    pub seed: u64,
    /// The VXLAN device.
    pub overlay_ifindex: u32,
    /// The mark that lets a packet leave for the overlay port.
    pub mark: u32,
    /// The UDP port of the overlay.
    pub overlay_port: u32,
    /// What is reported and whether refusals are told, one bit each.
    pub switches: u32,
    /// The longest IP packet that fits into the overlay without being cut.
    pub mtu: u32,
    /// Drops that each endpoint may report in a second.
    pub drop_reports: u32,
    /// The interface that all other nodes are behind, so that programs send to them by it; 0 where the routing table has to
    /// be asked, which the VXLAN device does.
    pub uplink_ifindex: u32,
    pub lifetimes: Lifetimes,
    pub quotas: Quotas,
}

impl Settings {
    /// Nothing known yet: no overlay, no flows.
    pub const NONE: Self = Self {
        underlay: Address::NONE,
        seed: 0,
        overlay_ifindex: 0,
        mark: 0,
        overlay_port: 0,
        switches: 0,
        mtu: 0,
        drop_reports: 0,
        uplink_ifindex: 0,
        lifetimes: Lifetimes {
            tcp: Ticks(0),
            tcp_half_closed: Ticks(0),
            tcp_ended: Ticks(0),
            udp_answered: Ticks(0),
            unanswered: Ticks(0),
            icmp: Ticks(0),
            fragmented: Ticks(0),
        },
        quotas: Quotas { unanswered: 0, answered: 0, fragmented: 0, reserved: 0 },
    };
}

/// A bit of [`Settings::switches`]: endpoints are told at once what was refused to them.
pub const REFUSE: u32 = 4;

/// Marks what our programs send to the overlay port; "np" twice, so that a capture shows whose it is.
pub const DEFAULT_MARK: u32 = 0x6e70_6e70;

crate::border!(Lifetimes = 28, Quotas = 16, Settings = 96);
