//! Attaching by tc filters, for kernels without tcx: the first of the clsact qdisc, told by a fixed priority and handle, so
//! that the next agent finds it and replaces its code atomically. The kernel holds a filter as long as its interface lives.

use std::mem::ManuallyDrop;

use aya::programs::{
    ProgramError,
    links::Link as _,
    tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle, qdisc_add_clsact},
};

use super::{
    Attachment, Datapath, DatapathError, Result,
    filter::{self, Filter},
    object,
};

/// Ahead of every priority that the kernel gives by itself.
const PRIORITY: u16 = 1;
/// "np", as a number, so that it is nobody else's.
const HANDLE: TcHandle = TcHandle::new(0, 0x6e70);

fn is_ours(filter: &Filter) -> bool {
    filter.priority == PRIORITY && filter.handle == u32::from(HANDLE)
}

impl Datapath {
    pub(super) fn attach_filter(&mut self, attachment: &Attachment) -> Result<()> {
        let what = || format!("put filter {} on {}", attachment.hook.program(), attachment.interface);
        let failed = |source| DatapathError::Program { what: what(), source };
        ensure_clsact(attachment)?;
        let standing = filters(attachment)?.iter().any(is_ours);
        let program = object::program(&mut self.ebpf, attachment.hook.program())?;
        let id = if standing {
            let link = named(attachment)?;
            program.attach_to_link(link).map_err(failed)?
        } else {
            let options = NlOptions { priority: PRIORITY, handle: HANDLE, classid: None };
            let options = TcAttachOptions::Netlink(options);
            program.attach_with_options(&attachment.interface, attachment.hook.side(), options).map_err(failed)?
        };
        // It is to stay when this agent ends; dropped, it would be removed.
        let _stays = ManuallyDrop::new(program.take_link(id).map_err(failed)?);
        Ok(())
    }

    /// Removes our filter. One that is not there is as good as removed.
    pub(super) fn remove_filter(&mut self, attachment: &Attachment) -> Result<()> {
        if !filters(attachment)?.iter().any(is_ours) {
            return Ok(());
        }
        let what = || format!("remove filter {} from {}", attachment.hook.program(), attachment.interface);
        named(attachment)?.detach().map_err(|source| DatapathError::Program { what: what(), source })
    }

    pub(super) fn is_first_filter(&mut self, attachment: &Attachment) -> Result<bool> {
        let ours = self.program_id(attachment)?;
        let found = filters(attachment)?;
        Ok(found.first().is_some_and(|first| is_ours(first) && first.program == Some(ours)))
    }
}

fn filters(attachment: &Attachment) -> Result<Vec<Filter>> {
    let what = || format!("list the filters of {}", attachment.interface);
    filter::list(attachment.ifindex, attachment.hook.side()).map_err(|error| DatapathError::io(what())(error))
}

/// Our filter on an interface, whether or not it stands.
fn named(attachment: &Attachment) -> Result<SchedClassifierLink> {
    let found = SchedClassifierLink::attached(&attachment.interface, attachment.hook.side(), PRIORITY, HANDLE, None);
    found.map_err(DatapathError::io(format!("find interface {}", attachment.interface)))
}

/// The qdisc that holds filters of both sides; somebody else's serves as well.
fn ensure_clsact(attachment: &Attachment) -> Result<()> {
    match qdisc_add_clsact(&attachment.interface) {
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        Err(source) => Err(DatapathError::Program {
            what: format!("add a clsact qdisc to {}", attachment.interface),
            source: ProgramError::TcError(source),
        }),
        Ok(()) => Ok(()),
    }
}
