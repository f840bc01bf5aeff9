//! Protocols as rules name them.

use std::str::FromStr;

use super::invalid::{Invalid, text_type};

/// A protocol that a rule can name. The wire's word for [`common::Protocol`], which has no text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    #[default]
    Tcp,
    Udp,
    /// Echo, of both families.
    Icmp,
}

impl Protocol {
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Icmp];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
        }
    }

    pub fn has_ports(self) -> bool {
        match self {
            Self::Tcp | Self::Udp => true,
            Self::Icmp => false,
        }
    }
}

impl FromStr for Protocol {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let remedy = "use `tcp`, `udp` or `icmp`";
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "icmp" => Ok(Self::Icmp),
            "sctp" | "any" => Err(Invalid::new(text, "is a protocol that is not supported by this version", remedy)),
            _ => Err(Invalid::new(text, "is not a protocol", remedy)),
        }
    }
}

text_type!(Protocol);

impl From<Protocol> for common::Protocol {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::Tcp,
            Protocol::Udp => Self::Udp,
            Protocol::Icmp => Self::Icmp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Protocol;

    #[test]
    fn every_protocol_reads_back_what_it_writes() {
        for protocol in Protocol::ALL {
            assert_eq!(protocol.to_string().parse(), Ok(protocol));
            assert_eq!(common::Protocol::from(protocol).name(), protocol.as_str());
        }
    }

    #[test]
    fn others_are_refused_by_name() {
        for (text, why) in
            [("sctp", "not supported"), ("any", "not supported"), ("tpc", "is not a protocol"), ("TCP", "use `tcp`")]
        {
            let error = text.parse::<Protocol>().expect_err(text).to_string();
            assert!(error.contains(why) && error.contains(text), "{error}");
        }
    }
}
