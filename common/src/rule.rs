//! Rows: what the maps hold of the rules that users wrote.
//!
//! One rule costs one row per protocol and port prefix, and at most one [`Lengths`] row per pair and protocol, however
//! many instances the two apps have. Each row stores the verdict over all prefixes that cover it, so the longest match
//! decides and a deny at any length beats an allow.

use crate::{check::digest, identity::Identity, packet::Protocol, port::PortPrefix};

/// The number of a rule, as `netpol list` shows it (`r12`).
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(pub u32);

impl RuleId {
    /// No rule: real ones start at 1.
    pub const NONE: Self = Self(0);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    Allow,
    Deny,
}

/// What a matching rule says, and which rule it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ruling {
    pub action: Action,
    pub rule: RuleId,
}

impl Ruling {
    /// The one of two matching rules that decides: deny beats allow, then the older rule is named.
    pub fn stronger(self, other: Self) -> Self {
        match (self.action, other.action) {
            (Action::Deny, Action::Allow) => self,
            (Action::Allow, Action::Deny) => other,
            (Action::Allow, Action::Allow) | (Action::Deny, Action::Deny) => {
                if self.rule <= other.rule {
                    self
                } else {
                    other
                }
            }
        }
    }
}

/// The pair and protocol that rules are about.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PairKey {
    source: u32,
    destination: u32,
    protocol: u32,
}

impl PairKey {
    #[inline(always)]
    pub const fn new(source: Identity, destination: Identity, protocol: Protocol) -> Self {
        Self { source: source.number(), destination: destination.number(), protocol: protocol as u32 }
    }

    pub const fn source(self) -> u32 {
        self.source
    }

    pub const fn destination(self) -> u32 {
        self.destination
    }

    /// The IP protocol number.
    pub const fn protocol(self) -> u32 {
        self.protocol
    }

    #[inline(always)]
    fn digest(self, low: u32) -> u32 {
        let ends = u64::from(self.source) << 32 | u64::from(self.destination);
        digest(0, [ends, u64::from(self.protocol) << 32 | u64::from(low)])
    }
}

/// The key of a row: a pair, a protocol and a port prefix.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowKey {
    pair: PairKey,
    port: u16,
    length: u16,
}

impl RowKey {
    #[inline(always)]
    pub const fn new(pair: PairKey, prefix: PortPrefix) -> Self {
        Self { pair, port: prefix.port(), length: prefix.length() as u16 }
    }

    pub const fn pair(self) -> PairKey {
        self.pair
    }

    pub const fn prefix(self) -> PortPrefix {
        #[expect(clippy::cast_possible_truncation, reason = "made from a u8")]
        PortPrefix::covering(self.port, self.length as u8)
    }

    #[inline(always)]
    fn digest(self) -> u32 {
        self.pair.digest(u32::from(self.port) << 16 | u32::from(self.length))
    }
}

/// A row: digest of its key (31 bits), action (1 bit), rule (32 bits), in one aligned word.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row(u64);

const DENY_BIT: u64 = 1 << 32;

impl Row {
    pub fn new(key: RowKey, ruling: Ruling) -> Self {
        let action = match ruling.action {
            Action::Allow => 0,
            Action::Deny => DENY_BIT,
        };
        Self(u64::from(key.digest() >> 1) << 33 | action | u64::from(ruling.rule.0))
    }

    /// What the row says to this key, unless it was written for another one.
    #[inline(always)]
    pub fn ruling(self, key: RowKey) -> Option<Ruling> {
        if self.0 >> 33 != u64::from(key.digest() >> 1) {
            return None;
        }
        let action = if self.0 & DENY_BIT == 0 { Action::Allow } else { Action::Deny };
        #[expect(clippy::cast_possible_truncation, reason = "the lower half is the rule")]
        Some(Ruling { action, rule: RuleId(self.0 as u32) })
    }
}

/// Which prefix lengths a pair has rows of: digest of the key (32 bits), a bit per length (17 bits).
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lengths(u64);

impl Lengths {
    pub fn new(key: PairKey, prefixes: impl IntoIterator<Item = PortPrefix>) -> Self {
        let bits = prefixes.into_iter().fold(0, |bits, prefix| bits | 1 << prefix.length());
        Self(u64::from(key.digest(0)) << 32 | bits)
    }

    /// A bit per length, unless the word was written for another key.
    #[inline(always)]
    pub fn bits(self, key: PairKey) -> Option<u32> {
        #[expect(clippy::cast_possible_truncation, reason = "the lower half is the bits")]
        (self.0 >> 32 == u64::from(key.digest(0))).then_some(self.0 as u32)
    }
}

crate::border!(PairKey = 12, RowKey = 16, Row = 8, Lengths = 8);
