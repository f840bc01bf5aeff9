//! What maps of other layouts hold, as far as a later agent wants to know it: the flows, so that an upgrade interrupts
//! none, and the seed that binds their verdict words.
//!
//! A layout is told by its [`SCHEMA`](crate::SCHEMA). Of one that is not known here nothing is read, and flows are opened
//! again by their next packets, as far as rules allow.

use crate::{conntrack::Entry, settings::Ticks, tuple::Tuple};

/// A flow's key; every layout that is known here has the same.
pub fn tuple(schema: u32, key: &[u8]) -> Option<Tuple> {
    let bytes = key.try_into().ok()?;
    is_known(schema).then(|| Tuple::from_bytes(bytes))
}

/// A flow's entry as ours, to be judged again by its next packet: who it belongs to is carried over, but no epoch. None for
/// one that is being removed.
pub fn entry(schema: u32, value: &[u8]) -> Option<Entry> {
    let (length, counts, rest) = match schema {
        1 => (24, None, 8),
        2 | 3 => (48, Some(8), 32),
        _ => return None,
    };
    if value.len() != length {
        return None;
    }
    let half = |at: usize| Some(u32::from_ne_bytes(*value.get(at..)?.first_chunk()?));
    let word = |at: usize| Some(u64::from_ne_bytes(*value.get(at..)?.first_chunk()?));
    let count = |i: usize| counts.map_or(Some(0), |counts: usize| word(counts + 8 * i));
    let verdict = word(0)?;
    (verdict != 0).then_some(Entry {
        // Of the word, the lower half binds; the upper one is the epoch, of which 0 stands for none.
        word: verdict & 0xffff_ffff,
        packets: count(0)?,
        traffic: count(1)?,
        bytes: count(2)?,
        flags: half(rest)?,
        seen: Ticks(half(rest + 4)?),
        rule: half(rest + 8)?,
        reserved: Entry::UNUSED,
    })
}

/// The seed of the verdict words, out of the settings; behind the underlay address in every layout that is known here.
pub fn seed(schema: u32, settings: &[u8]) -> Option<u64> {
    let seed = u64::from_ne_bytes(*settings.get(16..)?.first_chunk()?);
    (is_known(schema) && seed != 0).then_some(seed)
}

const fn is_known(schema: u32) -> bool {
    matches!(schema, 1..=3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{conntrack::flag, tuple::Side};

    /// As layout 1 has it.
    fn first_layout(word: u64, flags: u32, seen: u32, rule: u32) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&word.to_ne_bytes());
        for (at, half) in [(8, flags), (12, seen), (16, rule)] {
            bytes[at..at + 4].copy_from_slice(&half.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn a_flow_of_the_first_layout_keeps_whose_it_is_and_is_judged_again() {
        let flags = flag::INITIATOR_HIGH | flag::ANSWERED;
        let read = entry(1, &first_layout(7 << 32 | 9, flags, 80, 3)).expect("a live flow");
        assert_eq!((read.word, read.word().epoch().0), (9, 0));
        assert_eq!((read.flags, read.seen, read.rule), (flags, Ticks(80), 3));
        assert_eq!(read.initiator(), Side::High);
    }

    #[test]
    #[cfg(not(feature = "next-layout"))]
    fn a_flow_of_this_layout_comes_back_whole_but_for_its_epoch() {
        let entry = Entry {
            word: 7 << 32 | 9,
            traffic: 1,
            packets: 2,
            bytes: 3,
            flags: flag::ANSWERED | flag::OURS,
            seen: Ticks(5),
            rule: 6,
            reserved: Entry::UNUSED,
        };
        // SAFETY: 48 bytes without padding, all of them set.
        let bytes: [u8; 48] = unsafe { core::mem::transmute(entry) };
        assert_eq!(super::entry(crate::SCHEMA, &bytes), Some(Entry { word: 9, ..entry }));
    }

    #[test]
    fn what_is_being_removed_or_of_a_layout_that_nobody_knows_is_no_flow() {
        assert_eq!(entry(1, &first_layout(0, 0, 0, 0)), None);
        assert_eq!(entry(1, &[1; 32]), None);
        assert_eq!(entry(77, &[1; 24]), None);
        assert_eq!(tuple(77, &[1; 40]), None);
        assert_eq!(seed(77, &[1; 64]), None);
    }

    #[test]
    fn a_key_read_from_its_bytes_is_the_same_key() {
        let mut bytes = [0; 40];
        for (byte, value) in bytes.iter_mut().zip(1..) {
            *byte = value;
        }
        // SAFETY: both are 40 bytes without padding, and every bit pattern is a tuple.
        let same: Tuple = unsafe { core::mem::transmute(bytes) };
        assert_eq!(Tuple::from_bytes(&bytes), same);
    }

    #[test]
    fn the_seed_lies_behind_the_underlay_address() {
        let mut settings = [0; 64];
        assert_eq!(seed(1, &settings), None);
        settings[16..24].copy_from_slice(&5_u64.to_ne_bytes());
        assert_eq!(seed(1, &settings), Some(5));
    }
}
