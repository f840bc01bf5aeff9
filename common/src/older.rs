//! What maps of other layouts hold, as far as a later agent wants to know it: the flows, so that an upgrade interrupts
//! none, and the seed that binds their verdict words.
//!
//! A layout is told by its [`SCHEMA`](crate::SCHEMA). Of one that is not known here nothing is read, and flows are opened
//! again by their next packets, as far as rules allow.

use crate::{
    address::Address,
    check::digest,
    conntrack::{Binding, Entry, Record, Word},
    placement::End,
    settings::Ticks,
    tuple::{FlowKey, Side, Tuple},
};

/// A flow of another layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    pub tuple: Tuple,
    /// As ours, to be judged again by its next packet: no epoch, and bound to nobody.
    pub entry: Entry,
    bound: u32,
    schema: u32,
}

/// Reads a flow; none of a layout that is not known, or that is being removed.
pub fn flow(schema: u32, key: &[u8], value: &[u8]) -> Option<Flow> {
    let whole = Whole::of(schema, key, value)?;
    let verdict = whole.word(0)?;
    // Of the word, the lower half binds; the upper one is the epoch.
    let bound = u32::try_from(verdict & 0xffff_ffff).ok()?;
    (verdict != 0).then_some(Flow { tuple: whole.tuple()?, entry: whole.entry()?, bound, schema })
}

impl Flow {
    /// As our table holds it, bound to these ends if it was so before.
    pub fn bind(&self, seed: u64, low: End, high: End) -> Record {
        let key = FlowKey::of(&self.tuple, seed);
        let binding = Binding::new(seed, &key, self.entry.initiator(), low, high);
        let was = match self.schema {
            1..=3 => wide_binding(seed, &self.tuple, self.entry.initiator(), low, high),
            _ => binding.number(),
        };
        let word = if self.bound == was { Word::unjudged(binding) } else { Word::STRANGER };
        Record::new(&self.tuple, Entry { word: word.raw(), ..self.entry })
    }
}

/// What bound a verdict word up to layout 3.
fn wide_binding(seed: u64, tuple: &Tuple, initiator: Side, low: End, high: End) -> u32 {
    let [a, b] = tuple.address(Side::Low).words();
    let [c, d] = tuple.address(Side::High).words();
    let ports = [tuple.port(Side::Low), tuple.port(Side::High), tuple.echo_id(), u16::from(tuple.protocol_number())];
    let ports = ports.into_iter().fold(0, |word, half| word << 16 | u64::from(half));
    let initiator = if initiator == Side::High { 1 << 63 } else { 0 };
    let identities = u64::from(low.identity.number()) << 24 | u64::from(high.identity.number()) | initiator;
    let generations = u64::from(low.generation) << 32 | u64::from(high.generation);
    digest(seed, [a, b, c, d, ports, identities, generations])
}

/// A key and its value, raw, of a layout that is known here.
struct Whole<'a> {
    schema: u32,
    key: &'a [u8],
    value: &'a [u8],
}

impl<'a> Whole<'a> {
    fn of(schema: u32, key: &'a [u8], value: &'a [u8]) -> Option<Self> {
        let lengths = match schema {
            1 => (40, 24),
            2 | 3 => (40, 48),
            4..=6 => (16, 80),
            _ => return None,
        };
        ((key.len(), value.len()) == lengths).then_some(Self { schema, key, value })
    }

    fn word(&self, at: usize) -> Option<u64> {
        Some(u64::from_ne_bytes(*self.value.get(at..)?.first_chunk()?))
    }

    fn half(&self, at: usize) -> Option<u32> {
        Some(u32::from_ne_bytes(*self.value.get(at..)?.first_chunk()?))
    }

    fn address(&self, at: usize) -> Option<Address> {
        Some(Address::from_words([self.word(at)?, self.word(at + 8)?]))
    }

    fn tuple(&self) -> Option<Tuple> {
        match self.schema {
            1..=3 => Some(Tuple::from_bytes(self.key.first_chunk()?)),
            _ => Some(FlowKey::from_bytes(self.key.first_chunk()?).tuple(self.address(48)?, self.address(64)?)),
        }
    }

    fn entry(&self) -> Option<Entry> {
        let (counts, rest) = if self.schema == 1 { (None, 8) } else { (Some(8), 32) };
        let count = |i: usize| counts.map_or(Some(0), |counts: usize| self.word(counts + 8 * i));
        Some(Entry {
            word: Word::STRANGER.raw(),
            packets: count(0)?,
            traffic: count(1)?,
            bytes: count(2)?,
            flags: self.half(rest)?,
            seen: Ticks(self.half(rest + 4)?),
            rule: self.half(rest + 8)?,
            reserved: Entry::UNUSED,
        })
    }
}

/// The seed of the verdict words, out of the settings; behind the underlay address in every layout that is known here.
pub fn seed(schema: u32, settings: &[u8]) -> Option<u64> {
    let seed = u64::from_ne_bytes(*settings.get(16..)?.first_chunk()?);
    (matches!(schema, 1..=6) && seed != 0).then_some(seed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        conntrack::{Epoch, Traffic, flag},
        identity::Identity,
        packet::Protocol,
    };
    use std::vec::Vec;

    const SEED: u64 = 5;
    const LOW: End = End { identity: Identity::FIRST_APP, generation: 7 };
    const HIGH: End = End { identity: Identity::LAST_APP, generation: 0 };

    /// From 10.255.1.2 to 10.255.2.3.
    fn key() -> [u8; 40] {
        let mut bytes = [0; 40];
        bytes[..16].copy_from_slice(&Address::from_v4([10, 255, 1, 2]).octets());
        bytes[16..32].copy_from_slice(&Address::from_v4([10, 255, 2, 3]).octets());
        bytes[32..34].copy_from_slice(&40_000_u16.to_ne_bytes());
        bytes[34..36].copy_from_slice(&8_080_u16.to_ne_bytes());
        bytes[38..].copy_from_slice(&6_u16.to_ne_bytes());
        bytes
    }

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
        let bound = wide_binding(SEED, &Tuple::from_bytes(&key()), Side::High, LOW, HIGH);
        let read = flow(1, &key(), &first_layout(7 << 32 | u64::from(bound), flags, 80, 3)).expect("a live flow");
        assert_eq!((read.tuple.protocol(), read.tuple.port(Side::High)), (Some(Protocol::Tcp), 8_080));
        let entry = read.bind(SEED, LOW, HIGH).entry;
        assert_eq!((entry.flags, entry.seen, entry.rule), (flags, Ticks(80), 3));
        let binding = Binding::new(SEED, &FlowKey::of(&read.tuple, SEED), Side::High, LOW, HIGH);
        assert!(entry.word().is_bound_to(binding) && entry.word().epoch() == Epoch(0));
    }

    #[test]
    fn a_flow_of_somebody_who_is_gone_lends_its_verdict_to_nobody() {
        let bound = wide_binding(SEED, &Tuple::from_bytes(&key()), Side::Low, LOW, HIGH);
        let read = flow(1, &key(), &first_layout(7 << 32 | u64::from(bound), 0, 80, 3)).expect("a live flow");
        let next = End { generation: LOW.generation + 1, ..LOW };
        let binding = Binding::new(SEED, &FlowKey::of(&read.tuple, SEED), Side::Low, next, HIGH);
        assert!(!read.bind(SEED, next, HIGH).entry.word().is_bound_to(binding));
    }

    #[test]
    #[cfg(not(feature = "next-layout"))]
    fn a_flow_of_this_layout_comes_back_whole_but_for_its_epoch() {
        let tuple = Tuple::from_bytes(&key());
        let key = FlowKey::of(&tuple, SEED);
        let binding = Binding::new(SEED, &key, Side::Low, LOW, HIGH);
        let word = Word::new(Epoch(9), binding);
        let entry = Entry::new(word, Side::Low, true, Ticks(5), 6, Traffic::from_raw(1));
        let made = Record::new(&tuple, Entry { packets: 2, bytes: 3, ..entry });
        // SAFETY: 16 bytes without padding, all of them set.
        let key = unsafe { core::mem::transmute::<FlowKey, [u8; 16]>(key) };
        // SAFETY: 80 bytes likewise.
        let value = unsafe { core::mem::transmute::<Record, [u8; 80]>(made) };
        let read = flow(crate::SCHEMA, &key, &value).expect("a live flow");
        let unjudged = Entry { word: made.entry.word & 0xffff_ffff, ..made.entry };
        assert_eq!((read.tuple, read.bind(SEED, LOW, HIGH)), (tuple, Record::new(&tuple, unjudged)));
    }

    #[test]
    fn what_is_being_removed_or_of_a_layout_that_nobody_knows_is_no_flow() {
        assert_eq!(flow(1, &key(), &first_layout(0, 0, 0, 0)), None);
        assert_eq!(flow(1, &key(), &[1; 32]), None);
        assert_eq!(flow(77, &key(), &[1; 24]), None);
        assert_eq!(flow(4, &key(), &[1; 80]), None);
        assert_eq!(seed(77, &[1; 64]), None);
    }

    #[test]
    fn a_key_read_from_its_bytes_is_the_same_key() {
        let bytes: Vec<u8> = (1..=40).collect();
        let bytes: [u8; 40] = bytes.try_into().expect("40 of them");
        // SAFETY: both are 40 bytes without padding, and every bit pattern is a tuple.
        let same: Tuple = unsafe { core::mem::transmute(bytes) };
        assert_eq!(Tuple::from_bytes(&bytes), same);
        let [key @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = bytes;
        // SAFETY: the same of 16 bytes.
        let same: FlowKey = unsafe { core::mem::transmute(key) };
        assert_eq!(FlowKey::from_bytes(&key), same);
    }

    #[test]
    fn the_seed_lies_behind_the_underlay_address() {
        let mut settings = [0; 64];
        assert_eq!(seed(1, &settings), None);
        settings[16..24].copy_from_slice(&5_u64.to_ne_bytes());
        assert_eq!(seed(1, &settings), Some(5));
    }
}
