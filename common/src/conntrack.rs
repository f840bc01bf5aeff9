//! Flows: their key, what an entry holds, when it lives and how it ends.
//!
//! One entry per flow and node, found by either direction's packets in one look-up. An entry lends a verdict only to the
//! flow that it was made for: its word binds epoch, tuple, both identities and local attachments (`Word`).

use crate::{
    address::Address,
    check::digest,
    packet::{Kind, Protocol},
    placement::End,
    rule::RuleId,
    settings::{Lifetimes, Ticks},
    tuple::{FlowKey, Side, Tuple},
};

/// The verdict word: the epoch under which the flow was judged, and a digest of everything that the verdict is bound to.
/// One aligned 64 bits, so that it is read and replaced whole.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word(u64);

/// The node's stamp of policy; compared by inequality only.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch(pub u32);

impl Word {
    /// An entry that somebody is removing: nobody's.
    pub const DEAD: Self = Self(0);

    /// Of a flow that is to be judged again: bound to nobody, and no epoch's, of which 0 stands for none.
    pub const STRANGER: Self = Self(1);

    #[inline(always)]
    pub fn new(epoch: Epoch, binding: Binding) -> Self {
        Self(u64::from(epoch.0) << 32 | u64::from(binding.0))
    }

    /// Of a flow that is somebody's, but was judged by nobody here.
    pub fn unjudged(binding: Binding) -> Self {
        Self::new(Epoch(0), binding)
    }

    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    pub const fn raw(self) -> u64 {
        self.0
    }

    #[inline(always)]
    pub fn is_bound_to(self, binding: Binding) -> bool {
        self.0 & 0xffff_ffff == u64::from(binding.0)
    }

    #[inline(always)]
    pub const fn epoch(self) -> Epoch {
        Epoch((self.0 >> 32) as u32)
    }
}

/// A digest over key, initiator, both identities and the attachments' generations.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding(u32);

impl Binding {
    pub const fn number(self) -> u32 {
        self.0
    }

    #[inline(always)]
    pub fn new(seed: u64, key: &FlowKey, initiator: Side, low: End, high: End) -> Self {
        let [ends, rest] = key.words();
        let initiator = match initiator {
            Side::Low => 0,
            Side::High => 1 << 63,
        };
        let identities = u64::from(low.identity.number()) << 24 | u64::from(high.identity.number()) | initiator;
        let generations = u64::from(low.generation) << 32 | u64::from(high.generation);
        Self(digest(seed, [ends, rest, identities, generations]))
    }
}

/// One flow.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub word: u64,
    /// What had passed when it was last settled. Packets and bytes do not lie side by side: the compiler would call `memset`
    /// for their zeroes.
    pub packets: u64,
    /// What passed since ([`Traffic`]).
    pub traffic: u64,
    pub bytes: u64,
    pub flags: u32,
    pub seen: Ticks,
    /// The rule that allowed it.
    pub rule: u32,
    pub reserved: Reserved,
}

/// What the table holds of a flow: its entry, and its ends, which the key does not tell of every one.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub entry: Entry,
    low: Address,
    high: Address,
}

impl Record {
    #[inline(always)]
    pub fn new(tuple: &Tuple, entry: Entry) -> Self {
        Self { entry, low: tuple.address(Side::Low), high: tuple.address(Side::High) }
    }

    #[inline(always)]
    pub const fn address(&self, side: Side) -> &Address {
        match side {
            Side::Low => &self.low,
            Side::High => &self.high,
        }
    }

    /// The tuple of the flow, which stands under this key.
    #[inline(always)]
    pub fn tuple(&self, key: &FlowKey) -> Tuple {
        key.tuple(self.low, self.high)
    }
}

/// What fills an entry up to whole words; longer where the layout is to differ from that of every agent.
#[cfg(not(feature = "next-layout"))]
pub type Reserved = [u32; 1];
#[cfg(feature = "next-layout")]
pub type Reserved = [u32; 3];

#[cfg(not(feature = "next-layout"))]
crate::border!(Entry = 48, Record = 80);
#[cfg(feature = "next-layout")]
crate::border!(Entry = 56, Record = 88);

/// Packets (26 bits) and bytes (38 bits) in one word, so that a packet is counted by one addition. Settled every few
/// seconds, long before one flow could fill it.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic(u64);

impl Traffic {
    const SHIFT: u32 = 38;

    /// One packet of this many bytes.
    #[inline(always)]
    pub const fn packet(bytes: u32) -> Self {
        Self(1 << Self::SHIFT | bytes as u64)
    }

    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    #[inline(always)]
    pub const fn raw(self) -> u64 {
        self.0
    }

    #[inline(always)]
    pub const fn packets(self) -> u64 {
        self.0 >> Self::SHIFT
    }

    #[inline(always)]
    pub const fn bytes(self) -> u64 {
        self.0 & ((1 << Self::SHIFT) - 1)
    }
}

/// Bits of [`Entry::flags`]. All but [`flag::CUT`] are only ever set, never cleared.
pub mod flag {
    pub const INITIATOR_HIGH: u32 = 1;
    pub const ANSWERED: u32 = 1 << 1;
    pub const INITIATOR_FINISHED: u32 = 1 << 2;
    pub const RESPONDER_FINISHED: u32 = 1 << 3;
    pub const RESET: u32 = 1 << 4;
    /// Its charge was given back.
    pub const RETIRED: u32 = 1 << 5;
    /// Its initiator is on this node, so that this node counts it.
    pub const OURS: u32 = 1 << 6;
    /// Its rule has counted it.
    pub const COUNTED: u32 = 1 << 7;
    /// It was found to be no longer allowed, and this was reported.
    pub const CUT: u32 = 1 << 8;
}

impl Entry {
    pub const UNUSED: Reserved = [0; size_of::<Reserved>() / size_of::<u32>()];

    /// A flow whose first packet passes now. `ours` says whether its initiator is on this node.
    #[inline(always)]
    pub fn new(word: Word, initiator: Side, ours: bool, seen: Ticks, rule: u32, first: Traffic) -> Self {
        let side = match initiator {
            Side::Low => 0,
            Side::High => flag::INITIATOR_HIGH,
        };
        let flags = if ours { side | flag::OURS } else { side };
        Self { word: word.raw(), traffic: first.raw(), packets: 0, bytes: 0, flags, seen, rule, reserved: Self::UNUSED }
    }

    #[inline(always)]
    pub const fn word(&self) -> Word {
        Word::from_raw(self.word)
    }

    #[inline(always)]
    pub const fn initiator(&self) -> Side {
        if self.flags & flag::INITIATOR_HIGH == 0 { Side::Low } else { Side::High }
    }

    #[inline(always)]
    pub const fn is_answered(&self) -> bool {
        self.flags & flag::ANSWERED != 0
    }

    /// A RST, or a FIN from both ends: only stragglers follow, and a SYN starts anew.
    #[inline(always)]
    pub const fn is_ended(&self) -> bool {
        const BOTH: u32 = flag::INITIATOR_FINISHED | flag::RESPONDER_FINISHED;
        self.flags & flag::RESET != 0 || self.flags & BOTH == BOTH
    }

    /// Whether it has been silent for longer than its protocol and state are believed.
    #[inline(always)]
    pub fn is_expired(&self, protocol: Protocol, now: Ticks, lifetimes: &Lifetimes) -> bool {
        now.since(self.seen) > self.lifetime(protocol, lifetimes).0
    }

    #[inline(always)]
    fn lifetime(&self, protocol: Protocol, lifetimes: &Lifetimes) -> Ticks {
        const FINISHED: u32 = flag::INITIATOR_FINISHED | flag::RESPONDER_FINISHED;
        match protocol {
            Protocol::Icmp => lifetimes.icmp,
            Protocol::Tcp | Protocol::Sctp if self.is_ended() => lifetimes.tcp_ended,
            Protocol::Tcp | Protocol::Udp | Protocol::Sctp if !self.is_answered() => lifetimes.unanswered,
            Protocol::Tcp if self.flags & FINISHED != 0 => lifetimes.tcp_half_closed,
            Protocol::Tcp | Protocol::Sctp => lifetimes.tcp,
            Protocol::Udp => lifetimes.udp_answered,
        }
    }

    /// The flags that this packet adds.
    #[inline(always)]
    pub const fn flags_after(&self, kind: Kind, from_initiator: bool) -> u32 {
        let ended = match (kind, from_initiator) {
            (Kind::Reset, _) => flag::RESET,
            (Kind::Finish, true) => flag::INITIATOR_FINISHED,
            (Kind::Finish, false) => flag::RESPONDER_FINISHED,
            (Kind::Opening | Kind::Datagram | Kind::Segment | Kind::Reply | Kind::Error | Kind::Tail, _) => 0,
        };
        let answer = match (kind, from_initiator) {
            (Kind::Reset | Kind::Opening | Kind::Error | Kind::Tail, _) | (_, true) => 0,
            (_, false) => flag::ANSWERED,
        };
        self.flags | ended | answer
    }
}

/// What an instance is charged for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Unanswered,
    Answered,
    /// Datagrams whose fragments are still coming.
    Fragmented,
}

impl Entry {
    #[inline(always)]
    pub const fn class(&self) -> Class {
        if self.is_answered() { Class::Answered } else { Class::Unanswered }
    }

    /// Whether its charge was given back already.
    #[inline(always)]
    pub const fn is_retired(&self) -> bool {
        self.flags & flag::RETIRED != 0
    }

    #[inline(always)]
    pub const fn is_ours(&self) -> bool {
        self.flags & flag::OURS != 0
    }

    #[inline(always)]
    pub const fn is_cut(&self) -> bool {
        self.flags & flag::CUT != 0
    }
}

/// What became of an insert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    Created,
    /// Another CPU was faster.
    Exists,
    Full,
}

/// The table of flows and the charges for them: BPF maps in the kernel, hash maps in tests.
pub trait Conntrack {
    /// A found entry; what it points to may change or be recycled at any time.
    type Handle: Copy;
    /// What an instance is charged, found once for all that is charged to it.
    type Account: Copy;

    fn find(&self, key: &FlowKey) -> Option<Self::Handle>;
    fn read(&self, handle: Self::Handle) -> Entry;
    /// The ends of a found flow, which stands under this key.
    fn tuple(&self, handle: Self::Handle, key: &FlowKey) -> Tuple;
    /// Replaces the word if it still is `old`.
    fn swap_word(&self, handle: Self::Handle, old: Word, new: Word) -> bool;
    /// Sets flags and returns those that stood before.
    fn set_flags(&self, handle: Self::Handle, flags: u32) -> u32;
    fn touch(&self, handle: Self::Handle, now: Ticks);
    /// Counts a packet.
    fn count(&self, handle: Self::Handle, packet: Traffic);
    /// Moves what was counted into the totals and returns how much that was.
    fn settle(&self, handle: Self::Handle) -> Traffic;
    /// Names another rule as the one that allows the flow, and takes the mark of a cut off it.
    fn reattribute(&self, handle: Self::Handle, rule: RuleId);
    fn insert(&self, key: &FlowKey, record: &Record) -> Inserted;
    fn remove(&self, key: &FlowKey);
    /// The account of an instance; `None` if nobody is charged there.
    fn account(&self, instance: &Address) -> Option<Self::Account>;
    /// The account of one of a found flow's ends.
    fn account_of(&self, handle: Self::Handle, side: Side) -> Option<Self::Account>;
    /// Adds one and returns what stood before.
    fn charge(&self, account: Self::Account, class: Class) -> u64;
    fn discharge(&self, account: Self::Account, class: Class);
    /// Adds to what a rule has let pass, or kept from passing.
    fn credit(&self, rule: RuleId, traffic: Traffic, flows: u32);
    /// Tells that a flow is over, whose entry still stands.
    fn ended(&self, handle: Self::Handle, key: &FlowKey);
}

/// Charges an instance for one more, unless it is at its limit.
#[inline(always)]
pub fn charge<C: Conntrack>(table: &C, account: C::Account, class: Class, limit: u32) -> bool {
    let before = table.charge(account, class);
    // A count that lost a race with the removal of its account reads as negative: none.
    let fits = before < u64::from(limit) || before > u64::MAX / 2;
    if !fits {
        table.discharge(account, class);
    }
    fits
}

/// Credits a flow's rule with what passed since the last time.
#[inline(always)]
pub fn credit<C: Conntrack>(table: &C, handle: C::Handle, entry: &Entry) {
    let traffic = table.settle(handle);
    if !entry.is_ours() {
        return;
    }
    let is_new = entry.flags & flag::COUNTED == 0 && table.set_flags(handle, flag::COUNTED) & flag::COUNTED == 0;
    if is_new || traffic != Traffic::default() {
        table.credit(RuleId(entry.rule), traffic, u32::from(is_new));
    }
}

/// Removes an entry and its charge; whoever makes the word dead does it, once. The flag settles with a first answer that
/// comes at the same time (`judge::advance`) who gives back which charge.
#[inline(never)]
pub fn retire<C: Conntrack>(table: &C, handle: C::Handle, key: &FlowKey) {
    let entry = table.read(handle);
    if entry.word() != Word::DEAD && table.swap_word(handle, entry.word(), Word::DEAD) {
        let flags = table.set_flags(handle, flag::RETIRED);
        let entry = Entry { flags, ..entry };
        credit(table, handle, &entry);
        // A flow that was taken over from another layout's agent may have come uncharged: it is marked so.
        if !entry.is_retired()
            && let Some(account) = table.account_of(handle, entry.initiator())
        {
            table.discharge(account, entry.class());
        }
        table.ended(handle, key);
        table.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIMES: Lifetimes = Lifetimes {
        tcp: Ticks(80_000),
        tcp_half_closed: Ticks(112),
        tcp_ended: Ticks(4),
        udp_answered: Ticks(168),
        unanswered: Ticks(28),
        icmp: Ticks(29),
        fragmented: Ticks(5),
    };

    fn life(protocol: Protocol, flags: u32) -> u32 {
        Entry { flags, ..Entry::new(Word::from_raw(1), Side::Low, true, Ticks(0), 1, Traffic::default()) }
            .lifetime(protocol, &LIFETIMES)
            .0
    }

    #[test]
    fn a_flow_is_believed_as_long_as_its_state_deserves() {
        assert_eq!(life(Protocol::Tcp, 0), 28);
        assert_eq!(life(Protocol::Tcp, flag::ANSWERED), 80_000);
        assert_eq!(life(Protocol::Tcp, flag::ANSWERED | flag::INITIATOR_FINISHED), 112);
        assert_eq!(life(Protocol::Tcp, flag::ANSWERED | flag::INITIATOR_FINISHED | flag::RESPONDER_FINISHED), 4);
        assert_eq!(life(Protocol::Tcp, flag::RESET), 4);
        assert_eq!(life(Protocol::Udp, 0), 28);
        assert_eq!(life(Protocol::Udp, flag::ANSWERED), 168);
        assert_eq!(life(Protocol::Icmp, flag::ANSWERED), 29);
    }
}
