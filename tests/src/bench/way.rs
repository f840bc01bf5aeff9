//! Ways through the datapath whose cost is measured: what comes in, at which hook, and what the front puts back between two
//! packets.

use std::net::{IpAddr, Ipv4Addr};

use agent::datapath::Hook;
use common::{
    Family,
    event::{REPORT_DROPS, REPORT_FLOWS},
};

use crate::lab::{
    Arrival, LOCALS, NODES, Preparation, REMOTES, Scene,
    traffic::{ACK, SYN, SYN_ACK, Speaking, Speech},
    v6_of,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    EgressRemote,
    IngressOverlay,
    SameNode,
    FirstPacket,
    FirstPacketReported,
    FirstPacketRead,
    FirstReply,
    Denied,
    DeniedReported,
    InTurn,
}

/// Every way, its name, and what it may cost in hash units.
pub(super) const WAYS: [(Way, &str, Option<f64>); 10] = [
    (Way::EgressRemote, "instance to remote, established", Some(6.5)),
    (Way::IngressOverlay, "overlay to instance, established", Some(6.5)),
    (Way::SameNode, "same node, established", Some(6.0)),
    (Way::FirstPacket, "first packet, egress", Some(32.0)),
    (Way::FirstPacketReported, "first packet, egress, with event", None),
    (Way::FirstPacketRead, "first packet, egress, with event and reader", None),
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
/// The measured packet, as the published figures of other datapaths have it.
const FRAME_BYTES: usize = 154;

/// What the names of IPv6 courses begin with.
pub(super) const V6_MARK: &str = "IPv6: ";

/// A way in one of the families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Course {
    pub(super) way: Way,
    pub(super) family: Family,
}

/// All ways in both families; what an event costs does not depend on the family.
pub(super) fn courses() -> impl Iterator<Item = Course> {
    let v4 = WAYS.into_iter().map(|(way, ..)| Course { way, family: Family::V4 });
    let v6 =
        WAYS.into_iter().filter(|(way, ..)| way.reports() == 0).map(|(way, ..)| Course { way, family: Family::V6 });
    v4.chain(v6)
}

impl Course {
    pub(super) fn name(self) -> String {
        let name = WAYS.into_iter().find(|(way, ..)| *way == self.way).map_or("", |(_, name, _)| name);
        match self.family {
            Family::V4 => name.to_owned(),
            Family::V6 => format!("{V6_MARK}{name}"),
        }
    }

    pub(super) fn limit(self) -> Option<f64> {
        WAYS.into_iter().find(|(way, ..)| *way == self.way).and_then(|(_, _, limit)| limit)
    }
}

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
        matches!(self, Self::FirstPacket | Self::FirstPacketReported | Self::FirstPacketRead | Self::FirstReply)
    }

    /// What is reported while this way is measured.
    pub(super) fn reports(self) -> u32 {
        match self {
            Self::FirstPacketReported | Self::FirstPacketRead | Self::DeniedReported => REPORT_FLOWS | REPORT_DROPS,
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
}

impl Course {
    /// The measured packet.
    pub(super) fn frame(self) -> Vec<u8> {
        let kind = match self.way {
            Way::FirstReply => SYN_ACK,
            way if way.is_first() || way.is_denied() => SYN,
            _ => ACK,
        };
        let speech = self.speech(kind);
        let headers = speech.frame(0).len();
        speech.frame(FRAME_BYTES - headers)
    }

    /// The packet that opens the flow of the measured one, from the same end.
    pub(super) fn opening(self) -> Vec<u8> {
        self.speech(SYN).frame(0)
    }

    /// The other end's answer to the opening, and where it comes in.
    pub(super) fn answer(self) -> (Hook, Vec<u8>) {
        let hook = match self.way.hook() {
            Hook::FromOverlay => Hook::FromEndpoint,
            _ if self.way == Way::SameNode => Hook::FromEndpoint,
            _ => Hook::FromOverlay,
        };
        let answer = Speech { kind: Speaking::Tcp(SYN_ACK), ..self.speech(SYN).turned() };
        (hook, answer.frame(0))
    }

    fn speech(self, flags: u8) -> Speech {
        let kind = Speaking::Tcp(flags);
        let (source, destination) = match self.way {
            Way::IngressOverlay | Way::FirstReply => (REMOTE, SOURCE),
            Way::SameNode => (SOURCE, LOCAL),
            _ => (SOURCE, REMOTE),
        };
        let (source_port, destination_port) = match self.way {
            Way::FirstReply => (SERVER_PORT, CLIENT_PORT),
            way if way.is_denied() => (CLIENT_PORT, SERVER_PORT + 1),
            _ => (CLIENT_PORT, SERVER_PORT),
        };
        let [source, destination] = [source, destination].map(|address| self.address(address));
        Speech { source, destination, kind, source_port, destination_port }
    }

    fn address(self, v4: Ipv4Addr) -> IpAddr {
        match self.family {
            Family::V4 => v4.into(),
            Family::V6 => v6_of(v4).into(),
        }
    }

    /// Where the ports stand in a frame without options.
    fn ports_at(self) -> [u32; 2] {
        match self.family {
            Family::V4 => [34, 36],
            Family::V6 => [54, 56],
        }
    }

    /// What the front puts back between two packets.
    pub(super) fn preparation(self) -> Preparation {
        let plain = Preparation::default();
        let [source_port, destination_port] = self.ports_at();
        match self.way {
            Way::IngressOverlay => from_remote(),
            Way::FirstReply => from_remote().ports_from(FIRST_PORT, destination_port),
            Way::SameNode => {
                let frame = self.frame();
                let mut macs = [0; 12];
                macs.copy_from_slice(&frame[..12]);
                plain.macs(macs)
            }
            Way::FirstPacket | Way::FirstPacketReported | Way::FirstPacketRead => {
                plain.ports_from(FIRST_PORT, source_port)
            }
            Way::InTurn => plain.ports_in_turn(CIRCLE_PORT, source_port),
            Way::EgressRemote | Way::Denied | Way::DeniedReported => plain,
        }
    }

    /// The front's part in the answers to openings.
    pub(super) fn preparation_of_answer(self) -> Preparation {
        let [_, destination_port] = self.ports_at();
        match self.way {
            Way::InTurn => from_remote().ports_in_turn(CIRCLE_PORT, destination_port),
            Way::EgressRemote => from_remote(),
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
