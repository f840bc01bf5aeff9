//! Rows: what the maps hold of the rules that users wrote.
//!
//! One rule costs one row per protocol and port prefix, and at most one [`Lengths`] row per pair and protocol, however
//! many instances, apps or group members its two sides stand for. Each row stores the verdict over all prefixes that cover
//! it, so the longest match decides and a deny at any length beats an allow.

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
    /// The sender is told at once.
    Deny,
    /// The sender hears nothing.
    DenySilently,
}

impl Action {
    #[inline(always)]
    pub const fn is_deny(self) -> bool {
        match self {
            Self::Allow => false,
            Self::Deny | Self::DenySilently => true,
        }
    }
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
        match (self.action.is_deny(), other.action.is_deny()) {
            (true, false) => self,
            (false, true) => other,
            (true, true) | (false, false) if self.rule <= other.rule => self,
            (true, true) | (false, false) => other,
        }
    }
}

/// Who a row speaks about on one side: one identity, every app, or a group. Numbers of different kinds never meet.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Party(u32);

const GROUP: u32 = 1 << 25;

impl Party {
    /// Nobody: no row speaks about it.
    pub const NONE: Self = Self(0);
    /// Every app, and nobody else.
    pub const ANY: Self = Self(1 << 24);
    pub const HOST: Self = Self::one(Identity::HOST);

    /// An app, or the node itself.
    #[inline(always)]
    pub const fn one(identity: Identity) -> Self {
        Self(identity.number())
    }

    /// The members of a group, by its number; none for a number above 24 bits.
    pub const fn group(number: u32) -> Option<Self> {
        if number <= Identity::LAST_APP.number() { Some(Self(GROUP | number)) } else { None }
    }

    pub const fn number(self) -> u32 {
        self.0
    }

    pub const fn is_group(self) -> bool {
        self.0 & GROUP != 0
    }

    /// The identity, if this is a single one.
    pub const fn identity(self) -> Option<Identity> {
        Identity::new(self.0)
    }
}

/// The groups that one app is in, as its rows are found by: at most [`Memberships::MOST`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memberships([Membership; Self::MOST]);

/// One group of a list, which list it is part of and how long that is, in one aligned word: nobody takes a half of one list
/// and a half of another for a whole.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership(u64);

impl Memberships {
    pub const MOST: usize = 8;

    /// The groups of an app; those above [`Memberships::MOST`] are left out.
    pub fn new(app: Identity, groups: impl IntoIterator<Item = Party>) -> Self {
        let mut words = [Membership::NONE; Self::MOST];
        let mut count = 0;
        for (word, group) in words.iter_mut().zip(groups) {
            *word = Membership(u64::from(group.number()));
            count += 1;
        }
        for word in words.iter_mut().take(count) {
            word.0 |= Membership::mark(app, count);
        }
        Self(words)
    }

    /// The word at this place.
    pub fn at(&self, place: usize) -> Membership {
        self.0.get(place).copied().unwrap_or(Membership::NONE)
    }

    /// All groups of the list, if it is this app's.
    pub fn groups(&self, app: Identity) -> impl Iterator<Item = Party> {
        let count = self.at(0).count();
        self.0.iter().take(count).filter_map(move |word| word.group(app, count))
    }
}

impl Membership {
    pub const NONE: Self = Self(0);

    #[inline(always)]
    fn mark(app: Identity, count: usize) -> u64 {
        let digest = u64::from(digest(0, [u64::from(app.number())]));
        (digest >> 4 << 4 | count as u64) << 32
    }

    /// How many groups its list has.
    #[inline(always)]
    pub const fn count(self) -> usize {
        (self.0 >> 32 & 0xf) as usize
    }

    /// The group, unless the word belongs to another list than this app's with `count` groups.
    #[inline(always)]
    pub fn group(self, app: Identity, count: usize) -> Option<Party> {
        #[expect(clippy::cast_possible_truncation, reason = "the lower half is the group")]
        (self.0 >> 32 << 32 == Self::mark(app, count)).then_some(Party(self.0 as u32))
    }
}

/// Which rows a question is put to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Layer {
    /// Rules that decide.
    Enforced = 0,
    /// Rules that only say what they would decide.
    Audited = 1,
}

/// Which kinds of rows a node holds besides those between two identities, so that nobody looks for what cannot be there.
/// A bit per kind; it travels with the epoch, in one word.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope(u32);

impl Scope {
    pub const NARROW: Self = Self(0);
    const FROM_ANY: u32 = 1;
    const FROM_GROUP: u32 = 1 << 1;
    const TO_ANY: u32 = 1 << 2;
    const TO_GROUP: u32 = 1 << 3;
    /// The node's own rows are apart, because every node has one by default: `allow host any`.
    const HOST_TO_ANY: u32 = 1 << 4;
    const HOST_TO_GROUP: u32 = 1 << 5;
    const AUDITED: u32 = 1 << 6;

    pub fn of(pairs: impl IntoIterator<Item = PairKey>) -> Self {
        Self(pairs.into_iter().fold(0, |bits, pair| bits | Self::bits_of(pair)))
    }

    fn bits_of(pair: PairKey) -> u32 {
        let (source, destination) = pair.parties();
        let from = match source {
            Party::ANY => Self::FROM_ANY,
            group if group.is_group() => Self::FROM_GROUP,
            _ => 0,
        };
        let to = match (destination, source == Party::HOST) {
            (Party::ANY, false) => Self::TO_ANY,
            (Party::ANY, true) => Self::HOST_TO_ANY,
            (group, false) if group.is_group() => Self::TO_GROUP,
            (group, true) if group.is_group() => Self::HOST_TO_GROUP,
            _ => 0,
        };
        from | to | if pair.layer() == Some(Layer::Audited) { Self::AUDITED } else { 0 }
    }

    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    pub const fn bits(self) -> u32 {
        self.0
    }

    #[inline(always)]
    const fn has(self, bits: u32) -> bool {
        self.0 & bits != 0
    }

    /// Whether rows of the audited layer exist.
    #[inline(always)]
    pub const fn has_audit(self) -> bool {
        self.has(Self::AUDITED)
    }

    /// The kinds of rows that could speak about a flow from this source: (from any, from groups, to any, to groups).
    #[inline(always)]
    pub const fn wide(self, source: Identity) -> Wide {
        if source.number() == Identity::HOST.number() {
            Wide {
                from_any: false,
                from_groups: false,
                to_any: self.has(Self::HOST_TO_ANY),
                to_groups: self.has(Self::HOST_TO_GROUP),
            }
        } else {
            Wide {
                from_any: self.has(Self::FROM_ANY),
                from_groups: self.has(Self::FROM_GROUP),
                to_any: self.has(Self::TO_ANY),
                to_groups: self.has(Self::TO_GROUP),
            }
        }
    }
}

/// Which wide rows could speak about a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wide {
    pub from_any: bool,
    pub from_groups: bool,
    pub to_any: bool,
    pub to_groups: bool,
}

impl Wide {
    #[inline(always)]
    pub const fn is_none(self) -> bool {
        !(self.from_any || self.from_groups || self.to_any || self.to_groups)
    }
}

/// The pair, protocol and layer that rows are about.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PairKey {
    source: u32,
    destination: u32,
    /// The protocol in the low byte, the layer above it.
    what: u32,
}

impl PairKey {
    #[inline(always)]
    pub const fn new(source: Party, destination: Party, protocol: Protocol, layer: Layer) -> Self {
        Self { source: source.number(), destination: destination.number(), what: protocol as u32 | (layer as u32) << 8 }
    }

    /// The key in two words, the last half of which it leaves to a number; and back.
    #[inline(always)]
    pub const fn words_with(self, low: u32) -> [u64; 2] {
        [(self.source as u64) << 32 | self.destination as u64, (self.what as u64) << 32 | low as u64]
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "each part is one of those that were put there")]
    pub const fn from_words([parties, rest]: [u64; 2]) -> (Self, u32) {
        let pair = Self { source: (parties >> 32) as u32, destination: parties as u32, what: (rest >> 32) as u32 };
        (pair, rest as u32)
    }

    pub const fn parties(self) -> (Party, Party) {
        (Party(self.source), Party(self.destination))
    }

    /// The protocol, unless no constructor made the key.
    pub fn protocol(self) -> Option<Protocol> {
        Protocol::from_number(u8::try_from(self.what & 0xff).ok()?)
    }

    pub const fn layer(self) -> Option<Layer> {
        match self.what >> 8 {
            0 => Some(Layer::Enforced),
            1 => Some(Layer::Audited),
            _ => None,
        }
    }

    #[inline(always)]
    fn digest(self, low: u32) -> u32 {
        digest(0, self.words_with(low))
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

/// A row: digest of its key (30 bits), action (2 bits), rule (32 bits), in one aligned word.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row(u64);

const DENY_BIT: u64 = 1 << 32;
const SILENT_BIT: u64 = 1 << 33;

impl Row {
    pub fn new(key: RowKey, ruling: Ruling) -> Self {
        let action = match ruling.action {
            Action::Allow => 0,
            Action::Deny => DENY_BIT,
            Action::DenySilently => DENY_BIT | SILENT_BIT,
        };
        Self(u64::from(key.digest() >> 2) << 34 | action | u64::from(ruling.rule.0))
    }

    /// What the row says to this key, unless it was written for another one.
    #[inline(always)]
    pub fn ruling(self, key: RowKey) -> Option<Ruling> {
        if self.0 >> 34 != u64::from(key.digest() >> 2) {
            return None;
        }
        let action = match (self.0 & DENY_BIT, self.0 & SILENT_BIT) {
            (0, _) => Action::Allow,
            (_, 0) => Action::Deny,
            (_, _) => Action::DenySilently,
        };
        #[expect(clippy::cast_possible_truncation, reason = "the lower half is the rule")]
        Some(Ruling { action, rule: RuleId(self.0 as u32) })
    }
}

/// Which prefix lengths a pair has rows of, and where the set of all its ports is: digest of the key (32 bits), place of the
/// set (15 bits, 0: it has none), a bit per length (17 bits).
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lengths(u64);

/// Where a pair's [`PortSet`](crate::port_set::PortSet) is. The first place is nobody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SetPlace(u32);

impl SetPlace {
    pub const COUNT: u32 = 256;

    pub fn all() -> impl DoubleEndedIterator<Item = Self> {
        (1..Self::COUNT).map(Self)
    }

    #[inline(always)]
    pub const fn index(self) -> u32 {
        self.0
    }
}

impl Lengths {
    const SET: u32 = PortPrefix::LONGEST as u32 + 1;

    pub fn new(key: PairKey, prefixes: impl IntoIterator<Item = PortPrefix>) -> Self {
        let bits = prefixes.into_iter().fold(0, |bits, prefix| bits | 1 << prefix.length());
        Self(u64::from(key.digest(0)) << 32 | bits)
    }

    /// How many lengths there are.
    pub const fn count(self) -> u32 {
        (self.low() & ((1 << Self::SET) - 1)).count_ones()
    }

    /// The same, with the set of the pair's ports there.
    #[must_use]
    pub const fn with_set(self, place: Option<SetPlace>) -> Self {
        let lengths = self.0 & !(u32::MAX as u64) | (self.low() & ((1 << Self::SET) - 1)) as u64;
        match place {
            Some(place) => Self(lengths | ((place.0 as u64) << Self::SET)),
            None => Self(lengths),
        }
    }

    #[inline(always)]
    const fn low(self) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "the lower half is the bits")]
        {
            self.0 as u32
        }
    }

    /// A bit per length, unless the word was written for another key; above them is no length of any prefix.
    #[inline(always)]
    pub fn bits(self, key: PairKey) -> Option<u32> {
        (self.0 >> 32 == u64::from(key.digest(0))).then_some(self.low())
    }

    /// Where the set of the pair's ports is.
    #[inline(always)]
    pub const fn set(self) -> Option<SetPlace> {
        match self.low() >> Self::SET {
            0 => None,
            place => Some(SetPlace(place)),
        }
    }
}

crate::border!(PairKey = 12, RowKey = 16, Row = 8, Lengths = 8, Memberships = 64);
