//! Attaching by tcx: links that are pinned, so that they outlive the agent and are replaced atomically by the next.

use std::{
    ffi::CString,
    fs, io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use aya::programs::{
    ProgramError, SchedClassifier,
    links::{FdLink, LinkOrder, PinnedLink},
    tc::{SchedClassifierLink, TcAttachOptions, TcAttachType},
};

use super::{Attachment, Datapath, DatapathError, Result, object};

const OBJ_GET: libc::c_long = 7;
const LINK_DETACH: libc::c_long = 34;

/// Whether the kernel has tcx: one without does not know the question.
pub(super) fn is_supported() -> Result<bool> {
    match SchedClassifier::query_tcx("lo", TcAttachType::Ingress) {
        Ok(_) => Ok(true),
        Err(error) if is_unknown(&error) => Ok(false),
        Err(source) => Err(DatapathError::Program { what: "ask whether the kernel has tcx".into(), source }),
    }
}

fn is_unknown(error: &ProgramError) -> bool {
    matches!(error, ProgramError::SyscallError(error) if error.io_error.raw_os_error() == Some(libc::EINVAL))
}

/// The tcx programs on an interface's side, in order; none where the interface is gone.
pub(super) fn attached_programs(attachment: &Attachment) -> Result<Vec<u32>> {
    match SchedClassifier::query_tcx(&attachment.interface, attachment.hook.side()) {
        Ok((_, programs)) => Ok(programs.iter().map(|program| program.id()).collect()),
        Err(ProgramError::TcError(_)) => Ok(Vec::new()),
        Err(error) if is_unknown(&error) => Ok(Vec::new()),
        Err(source) => {
            Err(DatapathError::Program { what: format!("ask what is attached to {}", attachment.interface), source })
        }
    }
}

/// No filter stands ahead of a tcx program, so where somebody has one, filters cannot guard.
pub(super) fn refuse_foreign(attachment: &Attachment) -> Result<()> {
    let foreign = attached_programs(attachment)?;
    if foreign.is_empty() {
        return Ok(());
    }
    Err(DatapathError::Overtaken { interface: attachment.interface.clone(), programs: foreign })
}

fn link_name(attachment: &Attachment) -> String {
    format!("{}-{}", attachment.hook.program(), attachment.ifindex)
}

impl Datapath {
    fn link_pin(&self, attachment: &Attachment) -> PathBuf {
        self.pins.link(&link_name(attachment))
    }

    pub(super) fn attach_link(&mut self, attachment: &Attachment) -> Result<()> {
        self.move_link(attachment)?;
        let path = self.link_pin(attachment);
        if path.exists() {
            if let Some(link) = self.standing_link(attachment)? {
                return self.give_code(attachment, link);
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

    /// Pins a link of another layout's agent as ours; until it is adopted, it keeps that agent's code.
    fn move_link(&self, attachment: &Attachment) -> Result<()> {
        let path = self.link_pin(attachment);
        for older in self.pins.others().iter().map(|layout| layout.link(&link_name(attachment))) {
            if !older.exists() {
                continue;
            }
            if !path.exists() {
                let failed = |error| DatapathError::io(format!("pin {}", path.display()))(io::Error::other(error));
                let pinned = PinnedLink::from_pin(&older).map_err(|error| failed(error.to_string()))?;
                FdLink::from(pinned).pin(&path).map_err(|error| failed(error.to_string()))?;
            }
            fs::remove_file(&older).map_err(DatapathError::io(format!("remove pin {}", older.display())))?;
        }
        Ok(())
    }

    /// The pinned link of an attachment, unless it is not on this interface any more.
    fn standing_link(&self, attachment: &Attachment) -> Result<Option<SchedClassifierLink>> {
        let Ok(pinned) = PinnedLink::from_pin(self.link_pin(attachment)) else { return Ok(None) };
        let link = FdLink::from(pinned);
        let Ok(info) = link.info() else { return Ok(None) };
        if !attached_programs(attachment)?.contains(&info.program_id()) {
            return Ok(None);
        }
        let what = || DatapathError::io(format!("adopt {} on {}", attachment.hook.program(), attachment.interface));
        link.try_into().map(Some).map_err(|error| what()(io::Error::other(format!("{error}"))))
    }

    /// Gives a standing link our code.
    fn give_code(&mut self, attachment: &Attachment, link: SchedClassifierLink) -> Result<()> {
        let what = || format!("replace {} on {}", attachment.hook.program(), attachment.interface);
        let failed = |source| DatapathError::Program { what: what(), source };
        let program = object::program(&mut self.ebpf, attachment.hook.program())?;
        let id = program.attach_to_link(link).map_err(failed)?;
        // The pin holds the link; ours would only close its descriptor at the end.
        drop(program.take_link(id).map_err(failed)?);
        Ok(())
    }

    /// Gives all links that stand our code, one right after the other: a flow passes two of them, and what one has opened
    /// the other should know.
    pub(super) fn give_code_to_all(&mut self, attachments: &[Attachment]) -> Result<()> {
        let mut standing = Vec::new();
        for attachment in attachments {
            self.move_link(attachment)?;
            standing.extend(self.standing_link(attachment)?.map(|link| (attachment, link)));
        }
        standing.into_iter().try_for_each(|(attachment, link)| self.give_code(attachment, link))
    }

    /// Takes our link off its interface and removes its pin. One that is not there is as good as removed.
    pub(super) fn remove_link(&mut self, attachment: &Attachment) -> Result<()> {
        let path = self.link_pin(attachment);
        if !path.exists() {
            return Ok(());
        }
        take_off(&path).map_err(DatapathError::io(format!("detach {}", path.display())))?;
        fs::remove_file(&path).map_err(DatapathError::io(format!("remove pin {}", path.display())))
    }

    pub(super) fn is_first_link(&mut self, attachment: &Attachment) -> Result<bool> {
        let ours = self.program_id(attachment)?;
        Ok(attached_programs(attachment)?.first() == Some(&ours))
    }

    pub(super) fn program_id(&mut self, attachment: &Attachment) -> Result<u32> {
        let program = object::program(&mut self.ebpf, attachment.hook.program())?;
        let failed = |source| DatapathError::Program { what: "ask for a program's id".into(), source };
        Ok(program.info().map_err(failed)?.id())
    }
}

/// Takes a pinned link off its interface now; what only loses its last holder goes some time later.
fn take_off(pin: &Path) -> io::Result<()> {
    let link = open_pin(pin)?;
    let argument = u32::try_from(link.as_raw_fd()).map_err(io::Error::other)?;
    match bpf(LINK_DETACH, &argument) {
        // The interface is gone, and the link with it.
        Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => Ok(()),
        result => result.map(drop),
    }
}

/// The argument that opens a pin, as far as the kernel reads it.
#[repr(C)]
struct ObjectGet {
    path: u64,
    descriptor: u32,
    flags: u32,
}

fn open_pin(pin: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let argument = ObjectGet { path: path.as_ptr() as u64, descriptor: 0, flags: 0 };
    let descriptor = RawFd::try_from(bpf(OBJ_GET, &argument)?).map_err(io::Error::other)?;
    // SAFETY: the kernel has just given us this descriptor, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn bpf<T>(command: libc::c_long, argument: &T) -> io::Result<libc::c_long> {
    // SAFETY: the argument lives for the whole call, its length is told, and these commands only read it.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *argument, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
