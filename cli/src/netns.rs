//! Network namespaces: opening one by path, making a fresh one, putting a command into it.
//!
//! The agent receives the descriptor's number and fetches the descriptor itself, so a [`Netns`] must live until the
//! agent has answered.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::failure::plain;

/// Where `ip netns` keeps named namespaces.
const NAMED: &str = "/run/netns";

/// Why there is no namespace to work with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetnsError {
    #[error("--netns {path}: {reason}", path = .path.display(), reason = plain(.source))]
    Open { path: PathBuf, source: io::Error },
    #[error("--netns {path} is not a network namespace; give a path such as /run/netns/NAME or /proc/PID/ns/net", path = .0.display())]
    NotANamespace(PathBuf),
    #[error("cannot make a network namespace: {}", plain(.0))]
    Make(#[source] io::Error),
    #[error("cannot bring up `lo` in the new network namespace: {}", plain(.0))]
    Loopback(#[source] io::Error),
}

/// An open network namespace.
#[derive(Debug)]
pub(crate) struct Netns(OwnedFd);

impl Netns {
    /// Opens the namespace at `path`; a bare name is one of `ip netns`.
    pub(crate) fn open(path: &Path) -> Result<Self, NetnsError> {
        let path = resolve(path);
        let file = File::open(&path).map_err(|source| NetnsError::Open { path: path.clone(), source })?;
        let fd = OwnedFd::from(file);
        match namespace_type(fd.as_fd()) {
            Ok(libc::CLONE_NEWNET) => Ok(Self(fd)),
            Ok(_) | Err(_) => Err(NetnsError::NotANamespace(path)),
        }
    }

    /// Makes a namespace with `lo` up and nothing else in it. It lasts while somebody holds it.
    pub(crate) fn fresh() -> Result<Self, NetnsError> {
        // A thread of its own, as a thread that has moved to another namespace is of no use to the rest.
        let made =
            thread::Builder::new().name("netns".into()).spawn(unshare_and_open).map_err(NetnsError::Make)?.join();
        made.unwrap_or_else(|_| Err(NetnsError::Make(io::Error::other("the thread panicked"))))
    }

    /// Moves the calling thread into the namespace. Safe to call between fork and exec: it is one system call.
    pub(crate) fn enter(&self) -> io::Result<()> {
        Ok(setns(&self.0, CloneFlags::CLONE_NEWNET)?)
    }

    /// Returns the number by which the agent finds the descriptor in this process.
    pub(crate) fn number(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

fn resolve(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new(NAMED).join(path),
        Some(_) | None => path.to_owned(),
    }
}

nix::ioctl_none_bad!(
    /// Asks which kind of namespace a descriptor is (`NS_GET_NSTYPE` of linux/nsfs.h).
    ns_get_nstype,
    0xb703
);

fn namespace_type(fd: BorrowedFd<'_>) -> nix::Result<i32> {
    // SAFETY: the request takes no argument, and the descriptor is open for as long as it is borrowed.
    unsafe { ns_get_nstype(fd.as_raw_fd()) }
}

fn unshare_and_open() -> Result<Netns, NetnsError> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| NetnsError::Make(errno.into()))?;
    loopback_up().map_err(|errno| NetnsError::Loopback(errno.into()))?;
    let file = File::open("/proc/thread-self/ns/net").map_err(NetnsError::Make)?;
    Ok(Netns(file.into()))
}

nix::ioctl_read_bad!(
    /// Reads an interface's flags.
    get_interface_flags,
    libc::SIOCGIFFLAGS,
    libc::ifreq
);
nix::ioctl_write_ptr_bad!(
    /// Writes an interface's flags.
    set_interface_flags,
    libc::SIOCSIFFLAGS,
    libc::ifreq
);

fn loopback_up() -> nix::Result<()> {
    let control = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut request =
        libc::ifreq { ifr_name: [0; libc::IFNAMSIZ], ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: 0 } };
    for (to, from) in request.ifr_name.iter_mut().zip(c"lo".to_bytes()) {
        *to = from.cast_signed() as libc::c_char;
    }
    // SAFETY: `request` is a whole ifreq that outlives the call, named "lo" and zero-terminated.
    unsafe { get_interface_flags(control.as_raw_fd(), &raw mut request) }?;
    // SAFETY: the call above has written the flags member of the union.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = flags | UP;
    // SAFETY: as for the first call; the kernel only reads.
    unsafe { set_interface_flags(control.as_raw_fd(), &raw const request) }?;
    Ok(())
}

/// `IFF_UP` in the width of the flags member.
const UP: libc::c_short = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_is_one_of_ip_netns() {
        assert_eq!(resolve(Path::new("h1")), Path::new("/run/netns/h1"));
        assert_eq!(resolve(Path::new("./h1")), Path::new("./h1"));
        assert_eq!(resolve(Path::new("/proc/1/ns/net")), Path::new("/proc/1/ns/net"));
    }

    #[test]
    fn what_is_no_network_namespace_is_refused_by_name() {
        let error = Netns::open(Path::new("/etc/hostname")).expect_err("a file");
        assert!(error.to_string().contains("/etc/hostname"), "{error}");
        let error = Netns::open(Path::new("/proc/self/ns/mnt")).expect_err("another kind");
        assert!(matches!(error, NetnsError::NotANamespace(_)), "{error}");
        let error = Netns::open(Path::new("/nowhere")).expect_err("nothing");
        assert!(matches!(error, NetnsError::Open { .. }), "{error}");
    }

    #[test]
    fn our_own_namespace_opens() {
        Netns::open(Path::new("/proc/self/ns/net")).expect("every process has one");
    }
}
