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

/// The command of bpf(2) that takes a program off its hook.
const BPF_LINK_DETACH: libc::c_int = 34;

/// The argument of the first, as far as it is read; the rest of the kernel's union is taken as zero.
#[repr(C)]
struct ObjectGet {
    path: u64,
    descriptor: u32,
    flags: u32,
}

/// The argument of the second.
#[repr(C)]
struct LinkDetach {
    descriptor: u32,
}

/// Maps and links below a directory by path, with their ids. Programs may be replaced behind a link, so they are left out.
pub fn read(directory: &Path) -> Result<BTreeMap<String, u32>> {
    let mut pins = BTreeMap::new();
    collect(directory, &mut pins)?;
    Ok(pins)
}

/// Detaches every pinned link below a directory from its hook, as an ill-meaning root would; returns how many.
pub fn detach_links(directory: &Path) -> Result<usize> {
    let mut detached = 0;
    for path in read(directory)?.into_keys() {
        let object = open(Path::new(&path))?;
        if info(&object)?.contains("link_id:") {
            let argument = LinkDetach { descriptor: u32::try_from(object.as_raw_fd())? };
            bpf(BPF_LINK_DETACH, &argument).with_context(|| format!("detach {path}"))?;
            detached += 1;
        }
    }
    Ok(detached)
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
    let info = info(&open(path)?)?;
    let values = ["map_id:", "link_id:"].iter().find_map(|name| info.lines().find_map(|line| line.strip_prefix(name)));
    values.map(|value| value.trim().parse().context("an id is a number")).transpose()
}

fn info(object: &OwnedFd) -> Result<String> {
    fs::read_to_string(format!("/proc/self/fdinfo/{}", object.as_raw_fd())).context("what the kernel shows of it")
}

fn open(path: &Path) -> Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let argument = ObjectGet { path: path.as_ptr() as u64, descriptor: 0, flags: 0 };
    let descriptor = RawFd::try_from(bpf(BPF_OBJ_GET, &argument)?)?;
    // SAFETY: the kernel has just given us this descriptor, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn bpf<T>(command: libc::c_int, argument: &T) -> Result<libc::c_long> {
    // SAFETY: the argument is live and initialised for the whole call, the length is its own, and neither command writes.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *argument, size_of::<T>()) };
    Errno::result(result).context("bpf(2)")
}
