//! Network namespaces by descriptor: told apart, refused where they are not what they should be, entered by a thread.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
    path::Path,
    thread,
};

use nix::{
    sched::{CloneFlags, setns},
    sys::stat::fstat,
};
use rtnetlink::{Handle, new_connection};
use serde::{Deserialize, Serialize};

use super::{LinkError, Result, ipv6};

/// An open network namespace.
#[derive(Debug)]
pub struct Netns(OwnedFd);

/// What tells one live namespace from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NetnsId {
    device: u64,
    inode: u64,
}

impl NetnsId {
    pub(super) fn of(device: u64, inode: u64) -> Self {
        Self { device, inode }
    }
}

nix::ioctl_none_bad!(namespace_type, 0xb703);

impl Netns {
    /// Takes a descriptor out of another process: the namespace that the caller holds, whatever paths mean to either.
    pub fn from_process(pid: i32, descriptor: RawFd) -> Result<Self> {
        let failed = |what: &str| LinkError::io(format!("{what} descriptor {descriptor} of process {pid}"));
        // SAFETY: a plain system call; the result is checked and owned by nobody else.
        let process = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let process = owned(process).map_err(failed("reach the process of"))?;
        // SAFETY: as above.
        let copy = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), descriptor, 0) };
        Self::new(owned(copy).map_err(failed("take"))?)
    }

    /// The calling thread's own.
    pub fn own() -> Result<Self> {
        let path = "/proc/thread-self/ns/net";
        Self::new(File::open(path).map_err(LinkError::io(path))?.into())
    }

    /// The one that a path names.
    pub(super) fn at(path: &Path) -> Result<Self> {
        Self::new(File::open(path).map_err(LinkError::io(path.display().to_string()))?.into())
    }

    /// The namespace, by any process that is in it, or by the name that whoever made it gave it. Nobody holds it open for us:
    /// that would keep it alive. Not found are namespaces without both.
    fn find(wanted: NetnsId) -> Option<Self> {
        let entries = |directory| fs::read_dir(directory).into_iter().flatten().flatten();
        let of_processes = entries("/proc").map(|process| process.path().join("ns/net"));
        let named = entries("/run/netns").map(|name| name.path());
        of_processes
            .chain(named)
            .filter_map(|path| Self::at(&path).ok())
            .find(|netns| netns.id().is_ok_and(|id| id == wanted))
    }

    fn new(descriptor: OwnedFd) -> Result<Self> {
        // SAFETY: the ioctl takes no argument; other descriptors answer with an error.
        let kind = unsafe { namespace_type(descriptor.as_raw_fd()) };
        match kind {
            Ok(kind) if kind == libc::CLONE_NEWNET => Ok(Self(descriptor)),
            Ok(_) | Err(_) => Err(LinkError::Refused("the descriptor is not that of a network namespace".into())),
        }
    }

    pub fn id(&self) -> Result<NetnsId> {
        let found = fstat(self.0.as_fd()).map_err(|errno| LinkError::io("look at a namespace")(errno.into()))?;
        Ok(NetnsId { device: found.st_dev, inode: found.st_ino })
    }

    pub(super) fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Opens a netlink socket inside. The socket stays there, whoever uses it; only a thread has to go and come back.
    pub(super) async fn netlink(&self) -> Result<Handle> {
        let runtime = tokio::runtime::Handle::current();
        let opened = self.inside(move || {
            let _guard = runtime.enter();
            new_connection().map_err(LinkError::io("open a netlink socket in the namespace"))
        });
        let (connection, handle, _) = opened.await?;
        tokio::spawn(connection);
        Ok(handle)
    }

    /// Whether interfaces that are made inside may have IPv6 addresses.
    pub(super) async fn has_ipv6(&self) -> Result<bool> {
        self.inside(ipv6::is_enabled).await
    }

    /// The namespace with this number, if somebody is in it or it has a name.
    pub async fn found(wanted: NetnsId) -> Result<Option<Self>> {
        let found = tokio::task::spawn_blocking(move || Self::find(wanted)).await;
        found.map_err(|error| LinkError::io("look for a namespace")(io::Error::other(error)))
    }

    /// Does something on a thread of its own inside.
    pub(super) async fn inside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let descriptor = self.0.try_clone().map_err(LinkError::io("copy a descriptor"))?;
        let done = tokio::task::spawn_blocking(move || {
            let thread = thread::spawn(move || {
                setns(descriptor, CloneFlags::CLONE_NEWNET)
                    .map_err(|errno| LinkError::io("enter the namespace")(errno.into()))?;
                work()
            });
            thread.join().map_err(|_| LinkError::Refused("the thread in the namespace panicked".into()))?
        });
        done.await.map_err(|error| LinkError::io("wait for the thread")(io::Error::other(error)))?
    }
}

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    match RawFd::try_from(result) {
        // SAFETY: the system call returned a new descriptor that nobody else has.
        Ok(descriptor) if descriptor >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        Ok(_) | Err(_) => Err(io::Error::last_os_error()),
    }
}
