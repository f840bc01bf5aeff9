//! What the programs tell the agent: flow events and counters.

use crate::{
    address::Address,
    identity::Identity,
    packet::{Bytes, parse_ipv4, parse_ipv4_source},
    path::Trace,
    rule::RuleId,
    verdict::{Direction, DropReason},
};

/// A packet that opened a flow or was dropped. Readers check the numbers: they come from shared memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Nanoseconds since boot, coarse.
    pub time: u64,
    pub source: Address,
    pub destination: Address,
    /// Who sent it, as far as that was proven.
    pub source_identity: u32,
    /// Whom it was for, as far as that is known.
    pub destination_identity: u32,
    /// The rule that decided; 0 if none did.
    pub rule: u32,
    /// Where the packet was seen.
    pub ifindex: u32,
    pub source_port: u16,
    pub destination_port: u16,
    /// The IP protocol; 0 if the packet was not understood.
    pub protocol: u8,
    /// 0 for a new flow, else the [`DropReason`].
    pub reason: u8,
    pub direction: u8,
    pub reserved: u8,
}

/// Bits of [`crate::settings::Settings::events`].
pub const REPORT_NEW_FLOWS: u32 = 1;
pub const REPORT_DROPS: u32 = 2;

impl Event {
    pub const EMPTY: Self = Self {
        time: 0,
        source: Address::NONE,
        destination: Address::NONE,
        source_identity: 0,
        destination_identity: 0,
        rule: 0,
        ifindex: 0,
        source_port: 0,
        destination_port: 0,
        protocol: 0,
        reason: 0,
        direction: 0,
        reserved: 0,
    };

    /// What is told about a packet: its bytes are read once more, because most packets are not told about and should not
    /// pay for it.
    #[inline(always)]
    pub fn of<B: Bytes + ?Sized>(bytes: &B, trace: &Trace, direction: Direction, dropped: Option<DropReason>) -> Self {
        let mut event = Self {
            source_identity: trace.source.number(),
            destination_identity: trace.destination.number(),
            rule: trace.rule.0,
            reason: dropped.map_or(0, |reason| reason as u8),
            direction: direction as u8,
            ..Self::EMPTY
        };
        if let Ok(source) = parse_ipv4_source(bytes) {
            event.source = source;
        }
        if let Ok(packet) = parse_ipv4(bytes) {
            event.destination = packet.destination;
            event.source_port = packet.source_port;
            event.destination_port = packet.destination_port;
            event.protocol = packet.protocol as u8;
        }
        event
    }

    /// Why it was dropped; `None` for a new flow, `Some(Err)` for a number that is no reason.
    pub fn drop_reason(&self) -> Option<Result<DropReason, u8>> {
        (self.reason != 0).then(|| DropReason::from_number(self.reason).ok_or(self.reason))
    }

    pub fn direction(&self) -> Option<Direction> {
        Direction::from_number(self.direction)
    }

    pub fn rule(&self) -> Option<RuleId> {
        (self.rule != 0).then_some(RuleId(self.rule))
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

/// Flows that an instance has open as their initiator. Signed in meaning only: a count that lost a race reads as none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Charge {
    pub unanswered: u64,
    pub answered: u64,
}

crate::border!(Event = 64, Counter = 16, Charge = 16);
