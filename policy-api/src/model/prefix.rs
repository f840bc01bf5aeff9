//! Address prefixes: the overlay, and the slice of it that a node owns.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use super::invalid::{Invalid, text_serde};

/// A prefix of either family, with no bit set behind its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

impl Prefix {
    /// The prefix, unless the length is longer than the address or a bit behind it is set.
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        let fits = length <= width(address) && bits(address) & !mask(address, length) == 0;
        fits.then_some(Self { address, length })
    }

    pub fn address(self) -> IpAddr {
        self.address
    }

    pub fn length(self) -> u8 {
        self.length
    }

    pub fn is_v4(self) -> bool {
        self.address.is_ipv4()
    }

    pub fn contains(self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4() && bits(address) & mask(address, self.length) == bits(self.address)
    }

    /// The sub-prefix number `index` of this longer length, if there are so many.
    pub fn subnet(self, length: u8, index: u32) -> Option<Self> {
        let room = length.checked_sub(self.length)?;
        let shift = width(self.address).checked_sub(length)?;
        if room < 32 && u64::from(index) >> room != 0 {
            return None;
        }
        let address = from_bits(self.address, bits(self.address) | u128::from(index).checked_shl(shift.into())?);
        Self::new(address, length)
    }

    /// Which of this prefix's sub-prefixes of that length it is.
    pub fn index_of(self, subnet: Self) -> Option<u32> {
        let inside = self.length <= subnet.length && self.contains(subnet.address);
        let shift = width(self.address) - subnet.length;
        let index = bits(subnet.address) & !mask(self.address, self.length);
        inside.then(|| index.checked_shr(shift.into()).and_then(|index| u32::try_from(index).ok()))?
    }
}

fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

fn mask(address: IpAddr, length: u8) -> u128 {
    let behind = width(address) - length.min(width(address));
    let all = if address.is_ipv4() { u128::from(u32::MAX) } else { u128::MAX };
    all.checked_shl(behind.into()).unwrap_or(0) & all
}

fn from_bits(family: IpAddr, bits: u128) -> IpAddr {
    match family {
        #[expect(clippy::cast_possible_truncation, reason = "an IPv4 address has its bits in the lowest 32")]
        IpAddr::V4(_) => Ipv4Addr::from(bits as u32).into(),
        IpAddr::V6(_) => Ipv6Addr::from(bits).into(),
    }
}

impl FromStr for Prefix {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let refuse =
            |problem: &'static str| Invalid::new(text, problem, "use an address and a length, like `10.255.0.0/16`");
        let (address, length) = text.split_once('/').ok_or_else(|| refuse("is not a prefix"))?;
        let address = address.parse().map_err(|_| refuse("is not a prefix"))?;
        let length = length.parse().map_err(|_| refuse("is not a prefix"))?;
        Self::new(address, length).ok_or_else(|| refuse("has bits behind its length"))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

text_serde!(Prefix);

#[cfg(test)]
mod tests {
    use super::Prefix;

    fn prefix(text: &str) -> Prefix {
        text.parse().expect(text)
    }

    #[test]
    fn a_prefix_contains_its_own_family_only() {
        let slice = prefix("10.255.1.0/24");
        assert!(slice.contains("10.255.1.7".parse().expect("address")));
        assert!(!slice.contains("10.255.2.7".parse().expect("address")));
        assert!(!slice.contains("::10.255.1.7".parse().expect("address")));
        assert!(prefix("0.0.0.0/0").contains("8.8.8.8".parse().expect("address")));
        assert!(prefix("::/0").contains("fe80::1".parse().expect("address")));
    }

    #[test]
    fn subnets_are_counted_and_end_where_the_prefix_ends() {
        assert_eq!(prefix("10.255.0.0/16").subnet(24, 1), Some(prefix("10.255.1.0/24")));
        assert_eq!(prefix("10.255.0.0/16").subnet(24, 255), Some(prefix("10.255.255.0/24")));
        assert_eq!(prefix("10.255.0.0/16").subnet(24, 256), None);
        assert_eq!(prefix("fd00:1:2::/48").subnet(64, 3), Some(prefix("fd00:1:2:3::/64")));
        assert_eq!(prefix("10.255.0.0/16").subnet(8, 0), None);
        for (whole, length) in [("10.255.0.0/16", 24), ("fd00:1:2::/48", 64), ("10.0.0.0/8", 24)] {
            for index in [0, 1, 77, 255] {
                let whole = prefix(whole);
                assert_eq!(whole.subnet(length, index).and_then(|subnet| whole.index_of(subnet)), Some(index));
            }
        }
        assert_eq!(prefix("10.255.0.0/16").index_of(prefix("10.0.0.0/24")), None);
    }

    #[test]
    fn what_is_no_prefix_is_refused() {
        for text in ["10.255.0.0", "10.255.0.0/33", "10.255.0.1/16", "x/8", "::/129", ""] {
            assert!(text.parse::<Prefix>().is_err(), "{text} was taken");
        }
    }
}
