//! Batched map writes by the bare system call: one call for thousands of elements, and a count of how many took.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use aya::Pod;

const MAP_LOOKUP_BATCH: libc::c_long = 24;
const MAP_UPDATE_BATCH: libc::c_long = 26;
const MAP_DELETE_BATCH: libc::c_long = 27;

/// Elements that are read at once: more than any bucket of a hash map has.
const CHUNK: usize = 4_096;

/// `union bpf_attr`, as the batch commands read it.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    element_flags: u64,
    flags: u64,
}

/// Writes elements in order. On failure, says how many were written before the first that was not.
pub(super) fn update<K: Pod, V: Pod>(map: BorrowedFd, keys: &[K], values: &[V]) -> Result<(), (usize, io::Error)> {
    assert_eq!(keys.len(), values.len(), "a value for each key");
    call(MAP_UPDATE_BATCH, map, keys, values.as_ptr() as u64)
}

/// Reads `values.len() / cpus` elements of a per-CPU array behind `before`, or from its start: the values of all CPUs for
/// each.
pub(super) fn read_per_cpu<V: Pod>(
    map: BorrowedFd,
    before: Option<u32>,
    values: &mut [V],
    cpus: usize,
) -> io::Result<()> {
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let count = values.len() / cpus;
    let mut keys = vec![0_u32; count];
    let mut after = 0_u32;
    let mut attributes = Attributes {
        in_batch: before.as_ref().map_or(0, |key| std::ptr::from_ref(key) as u64),
        out_batch: &raw mut after as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count: u32::try_from(count).map_err(invalid)?,
        map_fd: u32::try_from(map.as_raw_fd()).map_err(invalid)?,
        ..Attributes::default()
    };
    // SAFETY: `attributes` is laid out as the kernel reads it; keys and values have room for `count` elements of the map's
    // sizes, whose values are multiples of eight bytes, and all pointers outlive the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, MAP_LOOKUP_BATCH, &raw mut attributes, size_of::<Attributes>()) };
    let error = io::Error::last_os_error();
    // The end of the array is told as an error, after the last elements were read.
    let whole = attributes.count == u32::try_from(count).map_err(invalid)?;
    if whole && (result == 0 || error.raw_os_error() == Some(libc::ENOENT)) { Ok(()) } else { Err(error) }
}

/// Deletes elements in order. On failure, says how many were deleted before the first that was not.
pub(super) fn delete<K: Pod>(map: BorrowedFd, keys: &[K]) -> Result<(), (usize, io::Error)> {
    call(MAP_DELETE_BATCH, map, keys, 0)
}

/// Reads every element of a hash map, as raw keys and values of these sizes.
pub(super) fn read(map: BorrowedFd, key: usize, value: usize) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut elements = Vec::new();
    each(map, key, value, |key, value| elements.push((key.to_vec(), value.to_vec())))?;
    Ok(elements)
}

/// Shows every element of a hash map or an array, as raw keys and values of these sizes.
pub(super) fn each(map: BorrowedFd, key: usize, value: usize, mut visit: impl FnMut(&[u8], &[u8])) -> io::Result<()> {
    let (mut keys, mut values) = (vec![0; CHUNK * key], vec![0; CHUNK * value]);
    // Where the walk stands, as the kernel wants it back: the number of a bucket or of an element.
    let (mut from, mut reached) = (None, 0_u32);
    loop {
        let mut attributes = Attributes {
            in_batch: from.as_ref().map_or(0, |from: &u32| std::ptr::from_ref(from) as u64),
            out_batch: &raw mut reached as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: u32::try_from(CHUNK).map_err(io::Error::other)?,
            map_fd: u32::try_from(map.as_raw_fd()).map_err(io::Error::other)?,
            ..Attributes::default()
        };
        // SAFETY: `attributes` is laid out as the kernel reads it; keys and values have room for `count` elements of the
        // map's sizes, as the caller says and has proven, and outlive the call, as do both ends of the walk.
        let result =
            unsafe { libc::syscall(libc::SYS_bpf, MAP_LOOKUP_BATCH, &raw mut attributes, size_of::<Attributes>()) };
        let ended = match io::Error::last_os_error() {
            error if result != 0 && error.raw_os_error() == Some(libc::ENOENT) => true,
            error if result != 0 => return Err(error),
            _ => false,
        };
        let count = usize::try_from(attributes.count).unwrap_or(0).min(CHUNK);
        let found = keys.chunks(key).zip(values.chunks(value)).take(count);
        found.for_each(|(key, value)| visit(key, value));
        if ended {
            return Ok(());
        }
        from = Some(reached);
    }
}

fn call<K: Pod>(command: libc::c_long, map: BorrowedFd, keys: &[K], values: u64) -> Result<(), (usize, io::Error)> {
    if keys.is_empty() {
        return Ok(());
    }
    let invalid = |_| (0, io::Error::from(io::ErrorKind::InvalidInput));
    let mut attributes = Attributes {
        keys: keys.as_ptr() as u64,
        values,
        count: u32::try_from(keys.len()).map_err(invalid)?,
        map_fd: u32::try_from(map.as_raw_fd()).map_err(invalid)?,
        ..Attributes::default()
    };
    // SAFETY: `attributes` is laid out as the kernel reads it; keys and values are `count` elements of the map's sizes,
    // which `Layout::prove` compared with these types, and outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut attributes, size_of::<Attributes>()) };
    if result == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    Err((usize::try_from(attributes.count).unwrap_or(0).min(keys.len()), error))
}
