//! What happens, chapter by chapter.

use super::Step::{self, Blocked, Flows, Lookup, Netpol, Open, Reaches, Silenced, Tagged};
use super::Who::{A, B, C, NearB};
use crate::world::probe::Transport::{Tcp, Udp};

#[derive(Debug, Clone, Copy)]
pub struct Chapter {
    pub title: &'static str,
    /// What the chapter shows, for whoever reads along.
    pub shows: &'static str,
    pub steps: &'static [Step],
}

/// The port that the rules of the story speak of, and one that they do not.
const PORT: u16 = 8080;
const OTHER_PORT: u16 = 9090;

pub const CHAPTERS: &[Chapter] = &[
    Chapter {
        title: "Nothing may speak until someone says so",
        shows: "No rule stands: connections fail across nodes and on one node, and `check` says why.",
        steps: &[
            Netpol { arguments: &["check", "appA", "appB", "--port", "8080"], exit: 1, says: &["no rule"] },
            Blocked { transport: Tcp, from: A, to: B, port: PORT },
            Blocked { transport: Tcp, from: A, to: NearB, port: PORT },
            Blocked { transport: Udp, from: A, to: B, port: PORT },
        ],
    },
    Chapter {
        title: "One rule opens one port, one way",
        shows: "The rule is in force on both nodes within milliseconds; everything it does not name stays shut.",
        steps: &[
            Netpol {
                arguments: &["allow", "appA", "appB", "--port", "8080", "--wait"],
                exit: 0,
                says: &["in force on 2 nodes after", " ms"],
            },
            Netpol { arguments: &["check", "appA", "appB", "--port", "8080"], exit: 0, says: &[] },
            Reaches { transport: Tcp, from: A, to: B, port: PORT },
            Reaches { transport: Tcp, from: A, to: NearB, port: PORT },
            Blocked { transport: Tcp, from: A, to: B, port: OTHER_PORT },
            Blocked { transport: Tcp, from: A, to: NearB, port: OTHER_PORT },
            Blocked { transport: Udp, from: A, to: B, port: PORT },
            Blocked { transport: Tcp, from: B, to: A, port: PORT },
            Blocked { transport: Tcp, from: NearB, to: A, port: PORT },
            Blocked { transport: Tcp, from: C, to: B, port: PORT },
            Blocked { transport: Tcp, from: C, to: NearB, port: PORT },
            Blocked { transport: Tcp, from: B, to: NearB, port: PORT },
        ],
    },
    Chapter {
        title: "The packet carries its app",
        shows: "Between the nodes runs standard VXLAN, and its VNI is the identity of the source's app.",
        steps: &[Tagged { from: A, to: B, port: PORT }],
    },
    Chapter {
        title: "An address has a name",
        shows: "`lookup` tells app, instance and node of an address seen in a log.",
        steps: &[Lookup(A), Lookup(B), Lookup(NearB)],
    },
    Chapter {
        title: "Revoking reaches live streams",
        shows: "A TCP and a UDP stream run both ways; each stops in both directions when its rule goes.",
        steps: &[
            Netpol {
                arguments: &["allow", "appA", "appB", "--port", "8080", "--protocol", "udp", "--wait"],
                exit: 0,
                says: &["in force on 2 nodes after", " ms"],
            },
            Open { transport: Tcp, from: A, to: B, port: PORT },
            Open { transport: Udp, from: A, to: B, port: PORT },
            Netpol {
                arguments: &["revoke", "appA", "appB", "--port", "8080", "--protocol", "udp"],
                exit: 0,
                says: &[],
            },
            Silenced(Udp),
            Flows(Tcp),
            Netpol { arguments: &["revoke", "appA", "appB", "--port", "8080"], exit: 0, says: &[] },
            Silenced(Tcp),
            Blocked { transport: Tcp, from: A, to: B, port: PORT },
            Blocked { transport: Udp, from: A, to: B, port: PORT },
        ],
    },
    Chapter {
        title: "A deny beats a standing allow",
        shows: "Both rules stand; the deny wins, for the stream that lives already as well.",
        steps: &[
            Netpol {
                arguments: &["allow", "appA", "appB", "--port", "8080", "--wait"],
                exit: 0,
                says: &["in force on 2 nodes after", " ms"],
            },
            Reaches { transport: Tcp, from: A, to: B, port: PORT },
            Open { transport: Tcp, from: A, to: NearB, port: PORT },
            Netpol {
                arguments: &["deny", "appA", "appB", "--port", "8080", "--wait"],
                exit: 0,
                says: &["in force on 2 nodes after", " ms"],
            },
            Silenced(Tcp),
            Blocked { transport: Tcp, from: A, to: B, port: PORT },
            Netpol { arguments: &["check", "appA", "appB", "--port", "8080"], exit: 1, says: &["deny"] },
            Netpol { arguments: &["list", "--app", "appA"], exit: 0, says: &["allow", "deny"] },
        ],
    },
];
