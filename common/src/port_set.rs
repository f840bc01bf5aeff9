//! The ports of a pair that some row covers, a bit each: for pairs with rows of several lengths, so that a port which matches
//! nothing is known by one look, and not by one look-up for each length.

use crate::port::PortPrefix;

const WORD: u32 = u64::BITS;
const WORDS: usize = (1 << 16) / WORD as usize;

/// A set of ports.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PortSet([u64; WORDS]);

impl PortSet {
    pub const NONE: Self = Self([0; WORDS]);

    pub fn add(&mut self, prefix: PortPrefix) {
        let first = u32::from(prefix.port());
        let ports = 1 << (PortPrefix::LONGEST - prefix.length());
        let mut port = first;
        while port < first + ports {
            let (word, bit) = Self::place(port);
            // Prefixes are aligned: one fills whole words, or a part of one.
            let filled = ports.min(WORD);
            self.0[word] |= u64::MAX >> (WORD - filled) << bit;
            port += filled;
        }
    }

    pub fn has(&self, port: u16) -> bool {
        let (word, bit) = Self::place(u32::from(port));
        self.0[word] >> bit & 1 != 0
    }

    /// The word that a port is in, and its bit there.
    #[inline(always)]
    pub const fn place(port: u32) -> (usize, u32) {
        ((port / WORD) as usize & (WORDS - 1), port % WORD)
    }
}

impl core::fmt::Debug for PortSet {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries((0..=u16::MAX).filter(|port| self.has(*port))).finish()
    }
}

crate::border!(PortSet = 8192);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::PortRange;
    use proptest::prelude::*;
    use std::vec::Vec;

    proptest! {
        #[test]
        fn a_set_has_the_ports_of_its_ranges_and_no_others(ranges in prop::collection::vec((any::<u16>(), any::<u16>()), 0..6)) {
            let ranges: Vec<_> = ranges.iter().map(|(a, b)| PortRange::new(*a.min(b), *a.max(b)).expect("ordered")).collect();
            let mut set = PortSet::NONE;
            ranges.iter().flat_map(|range| range.prefixes()).for_each(|prefix| set.add(prefix));
            for port in 0..=u16::MAX {
                prop_assert_eq!(set.has(port), ranges.iter().any(|range| range.contains(port)), "{}", port);
            }
        }
    }
}
