//! One address type for both families, and MAC addresses.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IPv4 or IPv6 address: 16 bytes in network order, IPv4 as IPv4-mapped IPv6, so that keys and code have one shape.
///
/// Kept as two native words because the datapath compares and hashes it far more often than it looks at its bytes; the
/// order of `Ord` is arbitrary but the same on every path of one machine.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address([u64; 2]);

crate::border!(Address = 16, Mac = 6);

/// The second word of IPv4-mapped addresses begins with this.
const V4_PREFIX: u64 = u64::from_ne_bytes([0, 0, 0xff, 0xff, 0, 0, 0, 0]);
const V4_MASK: u64 = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);

impl Address {
    pub const NONE: Self = Self([0; 2]);

    pub const fn from_v4(octets: [u8; 4]) -> Self {
        let [a, b, c, d] = octets;
        Self([0, u64::from_ne_bytes([0, 0, 0xff, 0xff, a, b, c, d])])
    }

    #[inline(always)]
    pub const fn from_v6(octets: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = octets;
        Self([u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u64::from_ne_bytes([i, j, k, l, m, n, o, p])])
    }

    /// The last four bytes, which are the address if it is an IPv4 one.
    pub const fn v4_octets(self) -> [u8; 4] {
        let [_, _, _, _, a, b, c, d] = self.0[1].to_ne_bytes();
        [a, b, c, d]
    }

    /// The same as one word, as they lie in memory.
    #[inline(always)]
    pub const fn v4_word(self) -> u32 {
        u32::from_ne_bytes(self.v4_octets())
    }

    /// An address of its two words, as they lie in memory.
    #[inline(always)]
    pub const fn from_words(words: [u64; 2]) -> Self {
        Self(words)
    }

    pub const fn words(self) -> [u64; 2] {
        self.0
    }

    pub const fn is_none(self) -> bool {
        self.0[0] == 0 && self.0[1] == 0
    }

    /// Whether it is an IPv4 address.
    #[inline(always)]
    pub const fn is_v4(self) -> bool {
        self.0[0] == 0 && self.0[1] & V4_MASK == V4_PREFIX
    }

    /// The address's bytes; of an IPv4 one in its IPv4-mapped form.
    pub fn octets(self) -> [u8; 16] {
        let mut octets = [0; 16];
        octets[..8].copy_from_slice(&self.0[0].to_ne_bytes());
        octets[8..].copy_from_slice(&self.0[1].to_ne_bytes());
        octets
    }

    /// Multicast of either family, or the IPv4 broadcast address.
    #[inline(always)]
    pub const fn is_for_many(self) -> bool {
        let [first, ..] = self.0[0].to_ne_bytes();
        let [a, b, c, d] = self.v4_octets();
        if self.is_v4() { a & 0xf0 == 0xe0 || a & b & c & d == 0xff } else { first == 0xff }
    }

    /// An IPv6 link-local address.
    #[inline(always)]
    pub const fn is_link_local(self) -> bool {
        let [a, b, ..] = self.0[0].to_ne_bytes();
        a == 0xfe && b & 0xc0 == 0x80
    }

    /// What a stack uses before it has an address of its own: a link-local one, or none.
    #[inline(always)]
    pub const fn is_provisional(self) -> bool {
        let [a, b, c, d] = self.v4_octets();
        let unspecified_v4 = self.is_v4() && a | b | c | d == 0;
        let link_local_v4 = self.is_v4() && a == 169 && b == 254;
        self.is_none() || self.is_link_local() || unspecified_v4 || link_local_v4
    }

    /// As the standard library's type; IPv4-mapped addresses come out as IPv4.
    pub fn ip(self) -> IpAddr {
        Ipv6Addr::from(self.octets()).to_canonical()
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(v4) => v4.into(),
            IpAddr::V6(v6) => Self::from_v6(v6.octets()),
        }
    }
}

impl From<Ipv6Addr> for Address {
    fn from(v6: Ipv6Addr) -> Self {
        Self::from_v6(v6.octets())
    }
}

impl From<Ipv4Addr> for Address {
    fn from(v4: Ipv4Addr) -> Self {
        Self::from_v4(v4.octets())
    }
}

/// An Ethernet address.
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
pub struct Mac(pub [u8; 6]);

impl PartialEq for Mac {
    /// By words: the datapath compares two per packet, and the target's byte comparison is a loop.
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        self.words() == other.words()
    }
}

impl Eq for Mac {}

impl Mac {
    /// The first two bytes and the last four, as they lie in memory.
    #[inline(always)]
    pub const fn words(self) -> (u16, u32) {
        let [a, b, c, d, e, f] = self.0;
        (u16::from_ne_bytes([a, b]), u32::from_ne_bytes([c, d, e, f]))
    }

    #[inline(always)]
    pub const fn from_words(first: u16, rest: u32) -> Self {
        let ([a, b], [c, d, e, f]) = (first.to_ne_bytes(), rest.to_ne_bytes());
        Self([a, b, c, d, e, f])
    }

    /// The host side of every endpoint. Fixed, so that an instance's neighbour entry survives a re-attachment, and
    /// locally administered, so that it belongs to no vendor.
    pub const GATEWAY: Self = Self([0xee; 6]);
}

/// The router that an instance sees: link-local, the same in every instance, answered by the datapath only.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The same for IPv6.
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_survive_the_round_trip() {
        for text in ["10.255.1.7", "0.0.0.0", "fd6e:6574::17", "::1"] {
            let ip: IpAddr = text.parse().expect("literal");
            assert_eq!(Address::from(ip).ip(), ip);
        }
    }

    #[test]
    fn an_ipv4_address_keeps_its_octets() {
        assert_eq!(Address::from_v4([10, 255, 1, 7]).v4_octets(), [10, 255, 1, 7]);
    }
}
