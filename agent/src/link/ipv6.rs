//! IPv6 of the calling thread's network namespace, as `/proc/sys` shows it: whether there is any, and interfaces that have
//! nothing to say by themselves.

use std::{fs, io, path::PathBuf};

use super::{LinkError, Result};

/// The least MTU that the kernel speaks IPv6 over.
pub(super) const LEAST_MTU: u32 = 1_280;

/// What an interface of ours is told before it comes up. Every address and neighbour is given by us: the kernel shall make
/// no address of its own, ask nobody for one or for a router, and believe nobody who announces himself as one.
const QUIET: [(&str, &str); 6] = [
    ("addr_gen_mode", "1"),
    ("accept_ra", "0"),
    ("autoconf", "0"),
    ("router_solicitations", "0"),
    ("accept_redirects", "0"),
    ("accept_dad", "0"),
];

fn setting(interface: &str, name: &str) -> PathBuf {
    ["/proc/sys/net/ipv6/conf", interface, name].iter().collect()
}

/// Whether the kernel has IPv6 at all.
pub(super) fn is_built_in() -> bool {
    setting("default", "disable_ipv6").exists()
}

/// Whether interfaces that are made here may have IPv6 addresses.
pub(super) fn is_enabled() -> Result<bool> {
    let path = setting("default", "disable_ipv6");
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim() == "0"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(LinkError::io(format!("read {}", path.display()))(error)),
    }
}

/// Keeps an interface from saying anything by itself. One without IPv6 says nothing anyway.
pub(super) fn quiet(interface: &str) -> Result<()> {
    if !setting(interface, "disable_ipv6").exists() {
        return Ok(());
    }
    QUIET.iter().try_for_each(|(name, value)| write(interface, name, value))
}

/// Lets routes of IPv6 lead over an interface, whatever the namespace's interfaces are made like.
pub(super) fn allow(interface: &str) -> Result<()> {
    if !setting(interface, "disable_ipv6").exists() {
        return Ok(());
    }
    write(interface, "disable_ipv6", "0")
}

fn write(interface: &str, name: &str, value: &str) -> Result<()> {
    let path = setting(interface, name);
    fs::write(&path, value).map_err(LinkError::io(format!("write {value} to {}", path.display())))
}
