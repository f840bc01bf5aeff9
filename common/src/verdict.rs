//! What happens to a packet, and why.

use crate::rule::RuleId;

/// What the datapath does with a packet. Decided in the stages, acted on in one match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Pass(Pass),
    Drop(DropReason),
}

/// Why a packet may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// It belongs to a flow that was judged under the current epoch.
    Established,
    /// It opened a flow.
    New,
}

/// An outcome and the rule behind it. A struct whose fields are always set rather than an enum with payloads: of those the
/// compiler leaves parts unset, and the verifier (6.18: `R2 !read_ok`) refuses to see them moved.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    outcome: Outcome,
    rule: RuleId,
}

impl Verdict {
    /// Part of a flow that stands.
    pub const ESTABLISHED: Self = Self { outcome: Outcome::Pass(Pass::Established), rule: RuleId::NONE };

    /// Opens a flow that this rule allows.
    #[inline(always)]
    pub const fn opened(rule: RuleId) -> Self {
        Self { outcome: Outcome::Pass(Pass::New), rule }
    }

    #[inline(always)]
    pub const fn drop(reason: DropReason) -> Self {
        Self { outcome: Outcome::Drop(reason), rule: RuleId::NONE }
    }

    #[inline(always)]
    pub const fn drop_by(reason: DropReason, rule: RuleId) -> Self {
        Self { outcome: Outcome::Drop(reason), rule }
    }

    #[inline(always)]
    pub const fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// The rule that decided, or [`RuleId::NONE`].
    #[inline(always)]
    pub const fn rule(&self) -> RuleId {
        self.rule
    }
}

/// The way a packet goes, as the endpoint sees it.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    Egress = 0,
    Ingress = 1,
    /// Leaves the node by its uplink; no endpoint is near.
    Underlay = 2,
}

impl Direction {
    pub const ALL: [Self; 3] = [Self::Egress, Self::Ingress, Self::Underlay];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Egress => "egress",
            Self::Ingress => "ingress",
            Self::Underlay => "underlay",
        }
    }

    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|direction| *direction as u8 == number)
    }
}

/// One definition of the reasons: number, name and meaning stay together.
macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $number:literal, $name:literal;)+) => {
        /// Why a packet was dropped. Numbers are stable: they index the counters and stand in events.
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum DropReason { $($(#[doc = $doc])+ $variant = $number,)+ }

        impl DropReason {
            /// Every reason, by ascending number.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The name that operators see.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

drop_reasons! {
    /// The bytes do not form the headers they announce.
    Malformed = 1, "malformed";
    /// Neither IPv4 nor ARP for the gateway.
    UnsupportedEthertype = 2, "unsupported-ethertype";
    /// An IP protocol that no rule can name.
    UnsupportedProtocol = 3, "unsupported-protocol";
    /// An ICMP message other than echo and the errors that a flow may meet.
    UnsupportedIcmp = 4, "unsupported-icmp";
    /// A fragment: the part after the first has no ports to judge.
    Fragment = 5, "fragment";
    /// The interface belongs to no endpoint that the agent has programmed.
    UnknownEndpoint = 6, "unknown-endpoint";
    /// A row did not fit, so the endpoint it was meant to guard is closed.
    EndpointClosed = 7, "endpoint-closed";
    /// The source MAC is not the endpoint's.
    SpoofedMac = 8, "spoofed-mac";
    /// The source address is not the endpoint's.
    SpoofedSource = 9, "spoofed-source";
    /// ARP for something other than the gateway, or with a sender that is not the endpoint.
    SpoofedArp = 10, "spoofed-arp";
    /// An endpoint or a foreign process tried to speak to the overlay port.
    OverlayPort = 11, "overlay-port";
    /// No instance holds the destination address.
    UnknownDestination = 12, "unknown-destination";
    /// The outer source is no known node.
    UnknownNode = 13, "unknown-node";
    /// No instance holds the inner source address.
    UnknownSource = 14, "unknown-source";
    /// The inner source address is placed on another node.
    WrongNode = 15, "wrong-node";
    /// The VNI is not the identity of the instance that holds the inner source address.
    WrongTag = 16, "wrong-tag";
    /// The VNI is a reserved identity.
    ReservedTag = 17, "reserved-tag";
    /// The inner destination is no endpoint of this node.
    NotLocal = 18, "not-local";
    /// The packet came through the overlay without tunnel metadata.
    NoTunnelKey = 19, "no-tunnel-key";
    /// An overlay source that arrived from the host's stack.
    OverlaySourceFromHost = 20, "overlay-source-from-host";
    /// A forwarded packet, or one whose source is no address of this node, on its way into an endpoint.
    NotFromHost = 21, "not-from-host";
    /// No rule allows it: default deny.
    NoRule = 22, "no-rule";
    /// A deny rule matches.
    DenyRule = 23, "deny-rule";
    /// Not the first packet of a flow, and no flow is known that it would belong to.
    NoFlow = 24, "no-flow";
    /// It belongs to a flow that was allowed once and no longer is.
    FlowRevoked = 25, "flow-revoked";
    /// Its initiator has too many unanswered flows.
    QuotaUnanswered = 26, "quota-unanswered";
    /// Its initiator has too many answered flows.
    QuotaAnswered = 27, "quota-answered";
    /// The conntrack table is full.
    TableFull = 28, "table-full";
    /// The kernel refused what the verdict asked for.
    DeliveryFailed = 29, "delivery-failed";
    /// An ICMP error whose quoted packet did not go from its receiver to its sender.
    ForeignQuote = 30, "foreign-quote";
    /// An ICMP error that claims a path MTU which no path has.
    MtuTooSmall = 31, "mtu-too-small";
}

impl DropReason {
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| *reason as u8 == number)
    }
}

impl From<DropReason> for Verdict {
    fn from(reason: DropReason) -> Self {
        Self::drop(reason)
    }
}

/// Slots per direction in the counters: 0 counts what passed, the others what was dropped, by reason.
pub const OUTCOMES: u32 = 32;

/// The slot of an outcome in the counters.
#[inline(always)]
pub const fn counter_index(direction: Direction, dropped: Option<DropReason>) -> u32 {
    let outcome = match dropped {
        None => 0,
        Some(reason) => reason as u32,
    };
    direction as u32 * OUTCOMES + outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_slot_a_number_and_a_name_of_its_own() {
        for (i, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(usize::from(*reason as u8), i + 1);
            assert!(u32::from(*reason as u8) < OUTCOMES);
            assert_eq!(DropReason::from_number(*reason as u8), Some(*reason));
            assert!(DropReason::ALL.iter().all(|other| other == reason || other.name() != reason.name()));
        }
    }
}
