//! What happens to a packet, and why.

use crate::rule::RuleId;

/// What the datapath does with a packet. Decided in the stages, acted on in one match.
#[must_use]
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

/// What would be otherwise if audited rules were enforced, or the app were not in audit.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    Nothing = 0,
    /// It passes, and would not.
    WouldDeny,
    /// It is dropped, and would not be.
    WouldAllow,
}

/// What a verdict rests on. A struct whose fields are always set rather than an enum with payloads: of those the compiler
/// leaves parts unset, and the verifier (6.18: `R2 !read_ok`) refuses to see them moved. All zeroes are no grounds.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grounds {
    /// The rule that decided, or [`RuleId::NONE`].
    pub rule: RuleId,
    /// The rule that would decide otherwise, or [`RuleId::NONE`].
    pub would: RuleId,
    pub note: Note,
    /// Whether the rule that denies it wants the sender to hear nothing.
    pub silent: bool,
    pub padding: [u8; 2],
}

impl Grounds {
    pub const NONE: Self =
        Self { rule: RuleId::NONE, would: RuleId::NONE, note: Note::Nothing, silent: false, padding: [0; 2] };
}

/// An outcome and its grounds.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub outcome: Outcome,
    pub grounds: Grounds,
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
    /// Neither IP nor ARP for the gateway.
    UnsupportedEthertype = 2, "unsupported-ethertype";
    /// An IP protocol that no rule can name.
    UnsupportedProtocol = 3, "unsupported-protocol";
    /// An ICMP message other than echo and the errors that a flow may meet.
    UnsupportedIcmp = 4, "unsupported-icmp";
    /// A fragment whose first part, which has the ports, was not seen or did not pass.
    Fragment = 5, "fragment";
    /// The interface belongs to no endpoint that the agent has programmed.
    UnknownEndpoint = 6, "unknown-endpoint";
    /// A row did not fit, or its app's rules are not known here yet, so the endpoint is closed.
    EndpointClosed = 7, "endpoint-closed";
    /// The source MAC is not the endpoint's.
    SpoofedMac = 8, "spoofed-mac";
    /// The source address is not the endpoint's.
    SpoofedSource = 9, "spoofed-source";
    /// ARP for something other than the gateway, or with a sender that is not the endpoint.
    SpoofedArp = 10, "spoofed-arp";
    /// An endpoint or a foreign process tried to speak to the overlay port.
    OverlayPort = 11, "overlay-port";
    /// The destination address is nobody's, or that of an instance that no rule lets anybody here speak with.
    UnknownDestination = 12, "unknown-destination";
    /// The outer source is no known node.
    UnknownNode = 13, "unknown-node";
    /// The inner source address is nobody's, or that of an instance that no rule lets speak with anybody here.
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
    /// Neighbour discovery other than an instance's question for its gateway.
    NeighborDiscovery = 32, "neighbor-discovery";
    /// To a multicast or broadcast address.
    Multicast = 33, "multicast";
    /// From a link-local or no address: what a stack says before it has an address.
    LinkLocal = 34, "link-local";
    /// More IPv6 extension headers than anybody needs.
    ExtensionHeaders = 35, "extension-headers";
    /// Longer than the overlay takes, and not to be cut.
    TooBig = 36, "too-big";
    /// One of its ends is isolated.
    Isolated = 37, "isolated";
    /// A second, different first part of a datagram, or any part behind it.
    FragmentConflict = 38, "fragment-conflict";
    /// A fragment that begins inside the transport header.
    FragmentOverlap = 39, "fragment-overlap";
    /// Its sender has too many datagrams whose fragments are still coming.
    QuotaFragmented = 40, "quota-fragmented";
}

impl DropReason {
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| *reason as u8 == number)
    }

    /// Whether an endpoint of this node, or the node itself, is told of it when it sends: policy's refusals, and what it can
    /// mend. Never what it should not have sent, nor a lack that passes.
    #[inline(always)]
    pub const fn is_refused(self) -> bool {
        matches!(
            self,
            Self::NoRule
                | Self::DenyRule
                | Self::FlowRevoked
                | Self::UnknownDestination
                | Self::Isolated
                | Self::TooBig
        )
    }
}

/// Slots per direction in the counters: 0 counts what passed, the others what was dropped, by reason.
pub const OUTCOMES: u32 = 48;

/// Where an outcome is counted. Each endpoint has a slot of its own; slot 0 is for what belongs to none.
#[inline(always)]
pub const fn counter_index(slot: u32, direction: Direction, dropped: Option<DropReason>) -> u32 {
    let outcome = match dropped {
        None => 0,
        Some(reason) => reason as u32,
    };
    const DIRECTIONS: u32 = 3;
    const { assert!(Direction::ALL.len() == DIRECTIONS as usize) }
    (slot * DIRECTIONS + direction as u32) * OUTCOMES + outcome
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
