//! Which program belongs on which side of which interface, and putting it there: by pinned tcx links where the kernel has
//! them, else by tc filters. What an earlier agent attached is adopted, either way, and changes over without a gap.

use std::{fmt, str::FromStr};

use aya::programs::tc::TcAttachType;

use super::{Datapath, Result, tcx};

/// A program and the side of an interface that it belongs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    FromEndpoint,
    ToEndpoint,
    FromOverlay,
    FromUnderlay,
    ToUnderlay,
}

impl Hook {
    pub(super) const fn program(self) -> &'static str {
        match self {
            Self::FromEndpoint => "from_endpoint",
            Self::ToEndpoint => "to_endpoint",
            Self::FromOverlay => "from_overlay",
            Self::FromUnderlay => "from_underlay",
            Self::ToUnderlay => "to_underlay",
        }
    }

    pub(super) const fn side(self) -> TcAttachType {
        match self {
            Self::FromEndpoint | Self::FromOverlay | Self::FromUnderlay => TcAttachType::Ingress,
            Self::ToEndpoint | Self::ToUnderlay => TcAttachType::Egress,
        }
    }
}

/// A hook on an interface.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attachment {
    pub hook: Hook,
    pub interface: String,
    pub ifindex: u32,
}

/// How programs are held on interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Pinned links, ahead of all tc filters; kernels from 6.6 on.
    Tcx,
    /// Filters of a clsact qdisc, told by priority and handle.
    Tc,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcx => "tcx",
            Self::Tc => "tc",
        })
    }
}

/// What an operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WantedWay {
    /// tcx where the kernel has it.
    Auto,
    Always(Way),
}

impl FromStr for WantedWay {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "tcx" => Ok(Self::Always(Way::Tcx)),
            "tc" => Ok(Self::Always(Way::Tc)),
            _ => Err("use auto, tcx or tc".into()),
        }
    }
}

impl WantedWay {
    /// The way to go on this kernel.
    pub(super) fn resolve(self) -> Result<Way> {
        match self {
            Self::Auto => Ok(if tcx::is_supported()? { Way::Tcx } else { Way::Tc }),
            Self::Always(way) => Ok(way),
        }
    }
}

impl Datapath {
    /// Attaches a program as the first on its side, or replaces the code of an attachment that stands, losing no packet.
    /// One that stands in the other way is taken away afterwards: tcx links judge first, and what they judged no filter
    /// sees, so that each packet is judged once all the while.
    pub fn attach(&mut self, attachment: &Attachment) -> Result<()> {
        match self.way {
            Way::Tcx => {
                self.attach_link(attachment)?;
                self.remove_filter(attachment)
            }
            Way::Tc => {
                self.attach_filter(attachment)?;
                self.remove_link(attachment)?;
                tcx::refuse_foreign(attachment)
            }
        }
    }

    /// Lets go of an attachment.
    pub fn detach(&mut self, attachment: &Attachment) -> Result<()> {
        self.remove_link(attachment)?;
        self.remove_filter(attachment)
    }

    /// Whether our program is where it should be, ahead of all others.
    pub fn is_attached(&mut self, attachment: &Attachment) -> Result<bool> {
        match self.way {
            Way::Tcx => self.is_first_link(attachment),
            Way::Tc => Ok(tcx::attached_programs(attachment)?.is_empty() && self.is_first_filter(attachment)?),
        }
    }
}
