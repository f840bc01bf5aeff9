//! What the programs tell the agent: flow events and counters.

use crate::{
    address::Address,
    conntrack::{Entry, flag},
    identity::Identity,
    packet::{Bytes, Ethertype, parse_frame, parse_source},
    path::Findings,
    rule::RuleId,
    tuple::Tuple,
    verdict::{Direction, DropReason, Note},
};

/// What an event says.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// A packet opened a flow.
    Start = 0,
    /// A packet was dropped.
    Denied = 1,
    /// A packet passed that would have been dropped if audited rules were enforced, or its app were not in audit.
    WouldDeny = 2,
    /// A packet was dropped that would have passed if audited rules were enforced.
    WouldAllow = 3,
    /// A flow is over.
    End = 4,
    /// A live flow is no longer allowed.
    Cut = 5,
}

impl EventKind {
    pub const ALL: [Self; 6] = [Self::Start, Self::Denied, Self::WouldDeny, Self::WouldAllow, Self::End, Self::Cut];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Denied => "denied",
            Self::WouldDeny => "would-deny",
            Self::WouldAllow => "would-allow",
            Self::End => "end",
            Self::Cut => "cut",
        }
    }

    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// Something that happened to a packet or a flow. Readers check the numbers: they come from shared memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Nanoseconds since boot, coarse.
    pub time: u64,
    pub source: Address,
    pub destination: Address,
    /// What the whole flow carried, where it is over or cut.
    pub packets: u64,
    pub bytes: u64,
    /// Who sent it, as far as that was proven.
    pub source_identity: u32,
    /// Whom it was for, as far as that is known.
    pub destination_identity: u32,
    /// The rule that decided; 0 if none did.
    pub rule: u32,
    /// The rule that would have decided otherwise, if it were enforced; 0 if none.
    pub would: u32,
    /// Where the packet was seen.
    pub ifindex: u32,
    pub source_port: u16,
    pub destination_port: u16,
    /// The IP protocol, ICMP for both families; 0 if the packet was not understood.
    pub protocol: u8,
    /// The [`DropReason`] of a packet that was dropped, else 0.
    pub reason: u8,
    pub direction: u8,
    /// The [`EventKind`].
    pub kind: u8,
    pub reserved: u32,
}

/// Bits of [`crate::settings::Settings::switches`].
pub const REPORT_FLOWS: u32 = 1;
pub const REPORT_DROPS: u32 = 2;

impl Event {
    pub const EMPTY: Self = Self {
        time: 0,
        source: Address::NONE,
        destination: Address::NONE,
        packets: 0,
        bytes: 0,
        source_identity: 0,
        destination_identity: 0,
        rule: 0,
        would: 0,
        ifindex: 0,
        source_port: 0,
        destination_port: 0,
        protocol: 0,
        reason: 0,
        direction: 0,
        kind: 0,
        reserved: 0,
    };

    /// Fills in what is told about a packet. `self` is empty.
    #[inline(always)]
    pub fn describe<B: Bytes + ?Sized>(
        &mut self,
        bytes: &B,
        found: &Findings,
        direction: Direction,
        dropped: Option<DropReason>,
    ) {
        let trace = &found.trace;
        let kind = match (dropped, trace.grounds.note) {
            (Some(_), Note::WouldAllow) => EventKind::WouldAllow,
            (Some(_), Note::Nothing | Note::WouldDeny) => EventKind::Denied,
            (None, Note::WouldDeny) => EventKind::WouldDeny,
            (None, Note::Nothing | Note::WouldAllow) => EventKind::Start,
        };
        self.kind = kind as u8;
        self.source_identity = trace.source.number();
        self.destination_identity = trace.destination.number();
        self.rule = trace.grounds.rule.0;
        self.would = trace.grounds.would.0;
        self.reason = dropped.map_or(0, |reason| reason as u8);
        self.direction = direction as u8;
        if let Some(packet) = found.packet() {
            self.source = packet.source;
            self.destination = packet.destination;
            self.source_port = packet.source_port;
            self.destination_port = packet.destination_port;
            self.protocol = packet.protocol as u8;
        } else if let Ok(Ethertype::Ip(family)) = parse_frame(bytes).and_then(|frame| frame.ethertype)
            && let Ok(source) = parse_source(bytes, family)
        {
            self.source = source;
        }
    }

    /// Fills in what is told about a flow, from its initiator. `self` is empty.
    #[inline(always)]
    pub fn describe_flow(&mut self, kind: EventKind, tuple: &Tuple, entry: &Entry) {
        let initiator = entry.initiator();
        self.kind = kind as u8;
        self.source = tuple.address(initiator);
        self.destination = tuple.address(initiator.other());
        self.source_port = tuple.port(initiator);
        self.destination_port = tuple.port(initiator.other());
        self.protocol = tuple.protocol_number();
        self.packets = entry.packets;
        self.bytes = entry.bytes;
        self.rule = entry.rule;
    }

    pub fn kind(&self) -> Option<EventKind> {
        EventKind::from_number(self.kind)
    }

    /// Why it was dropped; `Some(Err)` for a number that is no reason.
    pub fn drop_reason(&self) -> Option<Result<DropReason, u8>> {
        (self.reason != 0).then(|| DropReason::from_number(self.reason).ok_or(self.reason))
    }

    pub fn direction(&self) -> Option<Direction> {
        Direction::from_number(self.direction)
    }

    pub fn rule(&self) -> Option<RuleId> {
        (self.rule != 0).then_some(RuleId(self.rule))
    }

    /// The rule that would have decided otherwise.
    pub fn would(&self) -> Option<RuleId> {
        (self.would != 0).then_some(RuleId(self.would))
    }

    pub fn identities(&self) -> (Identity, Identity) {
        (Identity::from_vni(self.source_identity), Identity::from_vni(self.destination_identity))
    }
}

/// Packets and bytes of one outcome, per CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    pub packets: u64,
    pub bytes: u64,
}

/// What an instance has open: flows as their initiator, datagrams as their sender. Signed in meaning only: a count that
/// lost a race reads as none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Charge {
    pub unanswered: u64,
    pub answered: u64,
    pub fragmented: u64,
}

/// What a rule let pass on this node, or kept from passing.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub packets: u64,
    pub bytes: u64,
    pub flows: u64,
    /// Nanoseconds since boot, coarse; 0 for never.
    pub last_hit: u64,
}

/// A live flow that a change of policy ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutFlow {
    tuple: Tuple,
    flags: u32,
    reserved: u32,
}

impl CutFlow {
    #[inline(always)]
    pub const fn new(tuple: &Tuple, entry: &Entry) -> Self {
        Self { tuple: *tuple, flags: entry.flags, reserved: 0 }
    }

    pub const fn tuple(&self) -> &Tuple {
        &self.tuple
    }

    /// Whether this node is the one that counts it: its initiator's.
    pub const fn is_ours(&self) -> bool {
        self.flags & flag::OURS != 0
    }
}

crate::border!(CutFlow = 48, Event = 88, Counter = 16, Charge = 24, Usage = 32);
