//! Protocols as rules name them.

use std::str::FromStr;

use super::invalid::{Invalid, text_type};

/// A protocol that a rule can name. The wire's word for [`common::Protocol`], which has no text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    #[default]
    Tcp,
    Udp,
    Sctp,
    /// Echo, of both families.
    Icmp,
    /// All of the others; every IP protocol besides them is dropped.
    Any,
}

impl Protocol {
    pub const ALL: [Self; 5] = [Self::Tcp, Self::Udp, Self::Sctp, Self::Icmp, Self::Any];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
            Self::Icmp => "icmp",
            Self::Any => "any",
        }
    }

    pub fn has_ports(self) -> bool {
        match self {
            Self::Tcp | Self::Udp | Self::Sctp => true,
            Self::Icmp | Self::Any => false,
        }
    }

    /// What the datapath knows it as: rows are never about any protocol.
    pub fn wire(self) -> &'static [common::Protocol] {
        use common::Protocol::{Icmp, Sctp, Tcp, Udp};
        match self {
            Self::Tcp => &[Tcp],
            Self::Udp => &[Udp],
            Self::Sctp => &[Sctp],
            Self::Icmp => &[Icmp],
            Self::Any => &[Tcp, Udp, Sctp, Icmp],
        }
    }

    /// Whether a rule about this protocol is about flows of the other.
    pub fn covers(self, other: Self) -> bool {
        self == other || self == Self::Any
    }
}

impl FromStr for Protocol {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let remedy = "use `tcp`, `udp`, `sctp`, `icmp` or `any`";
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
            "icmp" => Ok(Self::Icmp),
            "any" => Ok(Self::Any),
            _ => Err(Invalid::new(text, "is not a protocol", remedy)),
        }
    }
}

text_type!(Protocol);

#[cfg(test)]
mod tests {
    use super::Protocol;

    #[test]
    fn every_protocol_reads_back_what_it_writes() {
        for protocol in Protocol::ALL {
            assert_eq!(protocol.to_string().parse(), Ok(protocol));
        }
    }

    #[test]
    fn a_protocol_is_known_to_the_datapath_by_the_same_name_and_any_is_all_of_them() {
        for protocol in Protocol::ALL.into_iter().filter(|protocol| *protocol != Protocol::Any) {
            assert!(protocol.wire().iter().all(|wire| wire.name() == protocol.as_str()));
            assert!(Protocol::Any.covers(protocol) && !protocol.covers(Protocol::Any));
        }
        let singly: Vec<_> = Protocol::ALL.iter().filter(|protocol| **protocol != Protocol::Any).collect();
        let wires: Vec<_> = singly.iter().flat_map(|protocol| protocol.wire()).copied().collect();
        assert_eq!(Protocol::Any.wire(), wires);
    }

    #[test]
    fn others_are_refused_by_name() {
        for (text, why) in [("igmp", "is not a protocol"), ("tpc", "is not a protocol"), ("TCP", "use `tcp`")] {
            let error = text.parse::<Protocol>().expect_err(text).to_string();
            assert!(error.contains(why) && error.contains(text), "{error}");
        }
    }
}
