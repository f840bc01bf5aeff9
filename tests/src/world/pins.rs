//! What a node has pinned, with the ids that the kernel gave: two looks tell whether it is still the same.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::libc;

/// The command of bpf(2) that opens what is pinned.
const BPF_OBJ_GET: libc::c_int = 7;

/// Its argument, as far as it is read; the rest of the kernel's union is taken as zero.
#[repr(C)]
struct ObjectGet {
    path: u64,
    descriptor: u32,
    flags: u32,
}

/// Maps and links below a directory by path, with their ids. Programs may be replaced behind a link, so they are left out.
pub fn read(directory: &Path) -> Result<BTreeMap<String, u32>> {
    let mut pins = BTreeMap::new();
    collect(directory, &mut pins)?;
    Ok(pins)
}

fn collect(directory: &Path, pins: &mut BTreeMap<String, u32>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| format!("read {}", directory.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, pins)?;
        } else if let Some(id) = id(&path).with_context(|| format!("the pin {}", path.display()))? {
            pins.insert(path.display().to_string(), id);
        }
    }
    Ok(())
}

/// The id that the kernel shows for an open map or link.
fn id(path: &Path) -> Result<Option<u32>> {
    let object = open(path)?;
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", object.as_raw_fd()))?;
    let values = ["map_id:", "link_id:"].iter().find_map(|name| info.lines().find_map(|line| line.strip_prefix(name)));
    values.map(|value| value.trim().parse().context("an id is a number")).transpose()
}

fn open(path: &Path) -> Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let argument = ObjectGet { path: path.as_ptr() as u64, descriptor: 0, flags: 0 };
    // SAFETY: both pointers are to live, initialised memory for the whole call, and the length is the argument's own.
    let descriptor = unsafe { libc::syscall(libc::SYS_bpf, BPF_OBJ_GET, &raw const argument, size_of::<ObjectGet>()) };
    let descriptor = Errno::result(descriptor)?;
    // SAFETY: the kernel has just given us this descriptor, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(RawFd::try_from(descriptor)?) })
}
