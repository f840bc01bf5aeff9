//! Ways through the datapath whose cost is measured: what comes in, at which hook, and what the front puts back between two
//! packets.

use std::net::Ipv4Addr;

use agent::datapath::Hook;
use common::event::{REPORT_DROPS, REPORT_FLOWS};

use crate::lab::{
    Arrival, LOCALS, NODES, Preparation, REMOTES, Scene,
    traffic::{ACK, SYN, SYN_ACK, Speaking, Speech},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    EgressRemote,
    IngressOverlay,
    SameNode,
    FirstPacket,
    FirstPacketReported,
    FirstReply,
    Denied,
    DeniedReported,
    InTurn,
}

/// Every way, its name, and what it may cost in hash units.
pub(super) const WAYS: [(Way, &str, Option<f64>); 9] = [
    (Way::EgressRemote, "instance to remote, established", Some(6.5)),
    (Way::IngressOverlay, "overlay to instance, established", Some(6.5)),
    (Way::SameNode, "same node, established", Some(6.0)),
    (Way::FirstPacket, "first packet, egress", Some(32.0)),
    (Way::FirstPacketReported, "first packet, egress, with event", None),
    (Way::FirstReply, "first reply after it", Some(12.0)),
    (Way::Denied, "denied at egress", Some(6.0)),
    (Way::DeniedReported, "denied at egress, with event", None),
    (Way::InTurn, "4,096 flows in turn, remote", Some(9.0)),
];

const SOURCE: Ipv4Addr = LOCALS[0].1;
const REMOTE: Ipv4Addr = REMOTES[0].2;
const LOCAL: Ipv4Addr = LOCALS[1].1;
pub(super) const SERVER_PORT: u16 = 8_080;
const CLIENT_PORT: u16 = 30_000;
/// New flows begin with this port.
const FIRST_PORT: u16 = 36_000;
/// Flows that take turns have these ports.
const CIRCLE_PORT: u16 = 20_480;
pub(super) const CIRCLE: u32 = 4_096;
/// Where the ports stand in a frame without options.
const SOURCE_PORT_AT: u32 = 34;
const DESTINATION_PORT_AT: u32 = 36;

impl Way {
    pub(super) fn hook(self) -> Hook {
        match self {
            Self::IngressOverlay | Self::FirstReply => Hook::FromOverlay,
            _ => Hook::FromEndpoint,
        }
    }

    pub(super) fn is_denied(self) -> bool {
        matches!(self, Self::Denied | Self::DeniedReported)
    }

    /// Every packet is of another new flow.
    pub(super) fn is_first(self) -> bool {
        matches!(self, Self::FirstPacket | Self::FirstPacketReported | Self::FirstReply)
    }

    /// What is reported while this way is measured.
    pub(super) fn reports(self) -> u32 {
        match self {
            Self::FirstPacketReported | Self::DeniedReported => REPORT_FLOWS | REPORT_DROPS,
            _ => 0,
        }
    }

    pub(super) fn repeat(self) -> u32 {
        match self {
            // As many events as the ring holds; and new flows the same number with events and without.
            _ if self.is_first() || self.reports() != 0 => 10_000,
            _ => 100_000,
        }
    }

    /// The measured packet: 154 bytes, as the published figures of other datapaths have them.
    pub(super) fn frame(self) -> Vec<u8> {
        let kind = match self {
            Self::FirstReply => SYN_ACK,
            _ if self.is_first() || self.is_denied() => SYN,
            _ => ACK,
        };
        self.speech(kind).frame(100)
    }

    /// The packet that opens the flow of the measured one, from the same end.
    pub(super) fn opening(self) -> Vec<u8> {
        self.speech(SYN).frame(0)
    }

    /// The other end's answer to the opening, and where it comes in.
    pub(super) fn answer(self) -> (Hook, Vec<u8>) {
        let hook = match self.hook() {
            Hook::FromOverlay => Hook::FromEndpoint,
            _ if self == Self::SameNode => Hook::FromEndpoint,
            _ => Hook::FromOverlay,
        };
        let answer = Speech { kind: Speaking::Tcp(SYN_ACK), ..self.speech(SYN).turned() };
        (hook, answer.frame(0))
    }

    fn speech(self, flags: u8) -> Speech {
        let kind = Speaking::Tcp(flags);
        let (source, destination) = match self {
            Self::IngressOverlay | Self::FirstReply => (REMOTE, SOURCE),
            Self::SameNode => (SOURCE, LOCAL),
            _ => (SOURCE, REMOTE),
        };
        let (source_port, destination_port) = match self {
            Self::FirstReply => (SERVER_PORT, CLIENT_PORT),
            _ if self.is_denied() => (CLIENT_PORT, SERVER_PORT + 1),
            _ => (CLIENT_PORT, SERVER_PORT),
        };
        Speech { source: source.into(), destination: destination.into(), kind, source_port, destination_port }
    }

    /// What the front puts back between two packets.
    pub(super) fn preparation(self) -> Preparation {
        let plain = Preparation::default();
        match self {
            Self::IngressOverlay => from_remote(),
            Self::FirstReply => from_remote().ports_from(FIRST_PORT, DESTINATION_PORT_AT),
            Self::SameNode => {
                let frame = self.frame();
                let mut macs = [0; 12];
                macs.copy_from_slice(&frame[..12]);
                plain.macs(macs)
            }
            Self::FirstPacket | Self::FirstPacketReported => plain.ports_from(FIRST_PORT, SOURCE_PORT_AT),
            Self::InTurn => plain.ports_in_turn(CIRCLE_PORT, SOURCE_PORT_AT),
            Self::EgressRemote | Self::Denied | Self::DeniedReported => plain,
        }
    }

    /// The front's part in the answers to a circle of openings.
    pub(super) fn preparation_of_answer(self) -> Preparation {
        match self {
            Self::InTurn => from_remote().ports_in_turn(CIRCLE_PORT, DESTINATION_PORT_AT),
            Self::EgressRemote => from_remote(),
            _ => Preparation::default(),
        }
    }
}

fn from_remote() -> Preparation {
    Preparation::default().tunnel(NODES[0], REMOTES[0].1)
}

/// What the kernel says of a frame that comes in at this hook: an endpoint's own interface, or the overlay's device.
pub(super) fn arrival_of(scene: &Scene, hook: Hook, frame: &[u8]) -> Arrival {
    let senders = LOCALS.map(|(_, address)| Scene::mac(address).0);
    let sender = senders.iter().position(|mac| frame.get(6..12) == Some(mac));
    let ifindex = match sender {
        Some(endpoint) if hook == Hook::FromEndpoint => scene.ifindexes[endpoint],
        _ => 1,
    };
    Arrival { ifindex, ..Arrival::default() }
}
