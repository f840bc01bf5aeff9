//! Port ranges as users write them, port prefixes as rows hold them.
//!
//! A range becomes at most 30 prefixes, so a row look-up needs no scan and a rule's cost in rows is known beforehand.

/// Ports `first..=last`; a rule without ports has the whole range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    pub const ALL: Self = Self { first: 0, last: u16::MAX };

    /// A range, unless it runs backwards.
    pub const fn new(first: u16, last: u16) -> Option<Self> {
        if first <= last { Some(Self { first, last }) } else { None }
    }

    pub const fn first(self) -> u16 {
        self.first
    }

    pub const fn last(self) -> u16 {
        self.last
    }

    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// The fewest prefixes that cover exactly this range, in ascending order.
    pub fn prefixes(self) -> impl Iterator<Item = PortPrefix> {
        let mut next = Some(u32::from(self.first));
        let last = u32::from(self.last);
        core::iter::from_fn(move || {
            let start = next?;
            let aligned = if start == 0 { 16 } else { start.trailing_zeros().min(16) };
            let fitting = (last - start + 1).ilog2();
            let bits = aligned.min(fitting);
            let following = start + (1 << bits);
            next = (following <= last).then_some(following);
            // Both fit: `start` is at most `last`, a u16, and `bits` at most 16.
            Some(PortPrefix { port: u16::try_from(start).ok()?, length: u8::try_from(16 - bits).ok()? })
        })
    }
}

/// All ports whose upper `length` bits are those of `port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortPrefix {
    port: u16,
    length: u8,
}

impl PortPrefix {
    /// The longest prefix length: one port.
    pub const LONGEST: u8 = 16;

    /// The prefix of this length that covers `port`; lengths above 16 mean one port.
    #[inline(always)]
    pub const fn covering(port: u16, length: u8) -> Self {
        let length = if length > Self::LONGEST { Self::LONGEST } else { length };
        let mask = 0xffff_u32 << (Self::LONGEST - length);
        #[expect(clippy::cast_possible_truncation, reason = "masked with a u16")]
        Self { port: (port as u32 & mask) as u16, length }
    }

    pub const fn port(self) -> u16 {
        self.port
    }

    pub const fn length(self) -> u8 {
        self.length
    }

    /// Whether every port of `other` is one of `self`'s.
    pub const fn covers(self, other: Self) -> bool {
        self.length <= other.length && Self::covering(other.port, self.length).port == self.port
    }

    /// This prefix and all shorter ones that cover it, longest first.
    pub fn ancestors(self) -> impl Iterator<Item = Self> {
        (0..=self.length).rev().map(move |length| Self::covering(self.port, length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    proptest! {
        #[test]
        fn prefixes_cover_exactly_their_range(a: u16, b: u16, probe: u16) {
            let range = PortRange::new(a.min(b), a.max(b)).expect("ordered");
            let prefixes: Vec<_> = range.prefixes().collect();
            prop_assert!(prefixes.len() <= 30);
            for port in [probe, a, b, a.saturating_sub(1), b.saturating_add(1)] {
                let covered = prefixes.iter().filter(|p| p.covers(PortPrefix::covering(port, 16))).count();
                prop_assert_eq!(covered, usize::from(range.contains(port)));
            }
        }
    }

    #[test]
    fn all_ports_are_one_prefix_and_one_port_is_one() {
        assert_eq!(PortRange::ALL.prefixes().collect::<Vec<_>>(), [PortPrefix::covering(0, 0)]);
        let single = PortRange::new(8080, 8080).expect("ordered");
        assert_eq!(single.prefixes().collect::<Vec<_>>(), [PortPrefix::covering(8080, 16)]);
    }
}
