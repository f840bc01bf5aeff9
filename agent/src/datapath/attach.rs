//! Attaching programs to interfaces by pinned tcx links, adopting what an earlier agent attached, and proving that
//! everything still is where it should be.

use std::{fs, io};

use aya::programs::{
    SchedClassifier,
    links::{FdLink, LinkOrder, PinnedLink},
    tc::{SchedClassifierLink, TcAttachOptions, TcAttachType},
};

use super::{Datapath, DatapathError, Result, object};

/// A program and the side of an interface that it belongs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    FromEndpoint,
    ToEndpoint,
    FromOverlay,
    ToUnderlay,
}

impl Hook {
    const fn program(self) -> &'static str {
        match self {
            Self::FromEndpoint => "from_endpoint",
            Self::ToEndpoint => "to_endpoint",
            Self::FromOverlay => "from_overlay",
            Self::ToUnderlay => "to_underlay",
        }
    }

    const fn side(self) -> TcAttachType {
        match self {
            Self::FromEndpoint | Self::FromOverlay => TcAttachType::Ingress,
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

impl Attachment {
    fn pin_name(&self) -> String {
        format!("{}-{}", self.hook.program(), self.ifindex)
    }
}

impl Datapath {
    /// Attaches a program as the first on its side, or replaces the code of an attachment that stands, losing no packet.
    pub fn attach(&mut self, attachment: &Attachment) -> Result<()> {
        let path = self.pins.link(&attachment.pin_name());
        if path.exists() {
            if self.adopt(attachment)? {
                return Ok(());
            }
            fs::remove_file(&path).map_err(DatapathError::io(format!("remove stale pin {}", path.display())))?;
        }
        let what = || format!("attach {} to {}", attachment.hook.program(), attachment.interface);
        let failed = |source| DatapathError::Program { what: what(), source };
        let program = object::program(&mut self.ebpf, attachment.hook.program())?;
        let options = TcAttachOptions::TcxOrder(LinkOrder::first());
        let id = program.attach_with_options(&attachment.interface, attachment.hook.side(), options).map_err(failed)?;
        let link: FdLink = program
            .take_link(id)
            .map_err(failed)?
            .try_into()
            .map_err(|error| DatapathError::io(what())(io::Error::other(format!("not a tcx link: {error}"))))?;
        link.pin(&path)
            .map_err(|error| DatapathError::io(format!("pin {}", path.display()))(io::Error::other(error)))?;
        Ok(())
    }

    /// Gives a standing attachment our code. False if the pinned link is not on this interface any more.
    fn adopt(&mut self, attachment: &Attachment) -> Result<bool> {
        let path = self.pins.link(&attachment.pin_name());
        let Ok(pinned) = PinnedLink::from_pin(&path) else { return Ok(false) };
        let link = FdLink::from(pinned);
        let Ok(info) = link.info() else { return Ok(false) };
        if !attached_programs(attachment)?.contains(&info.program_id()) {
            return Ok(false);
        }
        let what = || format!("replace {} on {}", attachment.hook.program(), attachment.interface);
        let failed = |source| DatapathError::Program { what: what(), source };
        let link: SchedClassifierLink =
            link.try_into().map_err(|error| DatapathError::io(what())(io::Error::other(format!("{error}"))))?;
        let program = object::program(&mut self.ebpf, attachment.hook.program())?;
        let id = program.attach_to_link(link).map_err(failed)?;
        // The pin holds the link; ours would only close its descriptor at the end.
        drop(program.take_link(id).map_err(failed)?);
        Ok(true)
    }

    /// Lets go of an attachment.
    pub fn detach(&mut self, attachment: &Attachment) -> Result<()> {
        let path = self.pins.link(&attachment.pin_name());
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(DatapathError::io(format!("remove pin {}", path.display()))(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Whether our program is where it should be, ahead of all others.
    pub fn is_attached(&mut self, attachment: &Attachment) -> Result<bool> {
        let program = object::program(&mut self.ebpf, attachment.hook.program())?;
        let failed = |source| DatapathError::Program { what: "ask for a program's id".into(), source };
        let ours = program.info().map_err(failed)?.id();
        Ok(attached_programs(attachment)?.first() == Some(&ours))
    }
}

/// The programs on an interface's side, in order; none where the interface is gone.
fn attached_programs(attachment: &Attachment) -> Result<Vec<u32>> {
    match SchedClassifier::query_tcx(&attachment.interface, attachment.hook.side()) {
        Ok((_, programs)) => Ok(programs.iter().map(|program| program.id()).collect()),
        Err(aya::programs::ProgramError::TcError(_)) => Ok(Vec::new()),
        Err(source) => {
            Err(DatapathError::Program { what: format!("ask what is attached to {}", attachment.interface), source })
        }
    }
}
