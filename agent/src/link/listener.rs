//! Listening inside a namespace, at an abstract name: only who is in the namespace can connect, so that connecting proves to be there.
//!
//! An open listener keeps its namespace alive, and with it the instance's interfaces. So it has to be known who else is there
//! ([`in_use`]): where nobody is any more, the listener has to go first.

use std::{
    collections::HashSet,
    fs, io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            fs::MetadataExt as _,
            net::{SocketAddr, UnixListener},
        },
    },
    path::Path,
};

use futures_util::TryStreamExt as _;
use netlink_packet_route::link::LinkAttribute;

use super::{
    LinkError, Result, interface,
    netns::{Netns, NetnsId},
};

/// What came of listening.
#[derive(Debug)]
pub enum Opened {
    Listening(UnixListener),
    /// Somebody inside has the name already.
    Taken,
}

/// Listens inside a namespace at this abstract name.
pub async fn listen(netns: &Netns, name: &'static str) -> Result<Opened> {
    netns.inside(move || open(name)).await
}

fn open(name: &str) -> Result<Opened> {
    let listen = || {
        let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    match listen() {
        Ok(listener) => Ok(Opened::Listening(listener)),
        Err(error) if io::Error::kind(&error) == io::ErrorKind::AddrInUse => Ok(Opened::Taken),
        Err(error) => Err(LinkError::io(format!("listen at @{name}"))(error)),
    }
}

/// Whether the other end of a veth of this node is in a namespace: numbers of namespaces come again.
pub async fn holds_peer(netns: &Netns, host_ifindex: u32, mac: &[u8]) -> Result<bool> {
    let messages: Vec<_> = netns
        .netlink()
        .await?
        .link()
        .get()
        .execute()
        .try_collect()
        .await
        .map_err(LinkError::netlink("list interfaces of the namespace"))?;
    Ok(messages.iter().any(|message| {
        let is_peer = message.attributes.contains(&LinkAttribute::Link(host_ifindex));
        is_peer && interface(message).mac == mac
    }))
}

/// The namespaces that a process is in, or that have a name in some mount namespace. Whoever holds one in another way has to let a
/// process in before anybody could connect.
pub fn in_use() -> HashSet<NetnsId> {
    let mut used = HashSet::new();
    let mut named_in = HashSet::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let path = process.path();
        // Processes end while we look.
        let Ok(found) = fs::metadata(path.join("ns/net")) else { continue };
        used.insert(NetnsId::of(found.dev(), found.ino()));
        let mounts = fs::metadata(path.join("ns/mnt")).map(|found| (found.dev(), found.ino()));
        if mounts.is_ok_and(|mounts| named_in.insert(mounts)) {
            used.extend(named(&path.join("mountinfo"), found.dev()));
        }
    }
    used
}

/// Those that are mounted somewhere: `… / net:[4026532281] /run/netns/web … - nsfs nsfs rw`.
fn named(mountinfo: &Path, device: u64) -> Vec<NetnsId> {
    let text = fs::read_to_string(mountinfo).unwrap_or_default();
    let inode = |line: &str| line.split(' ').nth(3)?.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok();
    text.lines().filter_map(inode).map(|inode| NetnsId::of(device, inode)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_namespace_is_in_use() {
        assert!(in_use().contains(&Netns::own().and_then(|own| own.id()).expect("our own")));
    }

    #[test]
    fn a_name_is_taken_by_whoever_was_first() {
        let name: &'static str = Box::leak(format!("netpol-test-{}", std::process::id()).into_boxed_str());
        let first = open(name).expect("opened");
        assert!(matches!(first, Opened::Listening(_)));
        assert!(matches!(open(name).expect("no error"), Opened::Taken));
        drop(first);
        assert!(matches!(open(name).expect("opened"), Opened::Listening(_)));
    }

    #[test]
    fn a_mounted_namespace_is_read_by_its_number() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("mountinfo");
        let lines = "36 35 98:0 / /mnt rw - ext3 /dev/root rw\n\
            712 25 0:4 net:[4026532281] /run/netns/web rw shared:5 - nsfs nsfs rw\n\
            713 25 0:4 mnt:[4026531841] /run/other rw - nsfs nsfs rw\n";
        fs::write(&path, lines).expect("written");
        assert_eq!(named(&path, 4), [NetnsId::of(4, 4_026_532_281)]);
    }
}
