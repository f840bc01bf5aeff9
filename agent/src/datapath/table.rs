//! Maps as typed tables, and the epoch as one shared word.

use std::{
    io,
    marker::PhantomData,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use aya::{
    Ebpf, Pod,
    maps::{HashMap, IterableMap as _, MapData},
};
use common::{conntrack::Epoch, rule::Scope};

use super::{DatapathError, Result, batch, object};

/// A hash map of the kernel.
pub struct Table<K, V> {
    name: &'static str,
    map: HashMap<MapData, K, V>,
    elements: PhantomData<(K, V)>,
}

/// Elements that a batch could not write, with the kernel's reason.
#[derive(Debug, thiserror::Error)]
#[error("{} elements do not fit into {table}: {source}", indices.len())]
pub struct Refused {
    pub table: &'static str,
    /// Positions in the batch.
    pub indices: Vec<usize>,
    pub source: io::Error,
}

impl<K: Pod, V: Pod> Table<K, V> {
    pub(super) fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Self> {
        let map =
            HashMap::try_from(object::take_map(ebpf, name)?).map_err(|source| DatapathError::Map { name, source })?;
        Ok(Self { name, map, elements: PhantomData })
    }

    /// Everything that the kernel holds.
    pub fn read(&self) -> Result<Vec<(K, V)>> {
        let failed = |source| DatapathError::Map { name: self.name, source };
        self.map.iter().map(|element| element.map_err(failed)).collect()
    }

    /// The value of a key, if the kernel holds one.
    pub fn get(&self, key: &K) -> Result<Option<V>> {
        match self.map.get(key, 0) {
            Ok(value) => Ok(Some(value)),
            Err(aya::maps::MapError::KeyNotFound) => Ok(None),
            Err(source) => Err(DatapathError::Map { name: self.name, source }),
        }
    }

    pub fn put(&mut self, key: &K, value: &V) -> Result<()> {
        self.map.insert(key, value, 0).map_err(|source| self.refused(source))
    }

    /// Puts a value where none is; leaves one that is there alone.
    pub fn put_new(&mut self, key: &K, value: &V) -> Result<()> {
        const NOEXIST: u64 = 1;
        match self.map.insert(key, value, NOEXIST) {
            Ok(()) => Ok(()),
            Err(aya::maps::MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::EEXIST) => {
                Ok(())
            }
            Err(source) => Err(self.refused(source)),
        }
    }

    fn refused(&self, source: aya::maps::MapError) -> DatapathError {
        match source {
            aya::maps::MapError::SyscallError(error) if error.io_error.raw_os_error() == Some(libc::E2BIG) => {
                DatapathError::Full(self.name)
            }
            source => DatapathError::Map { name: self.name, source },
        }
    }

    /// Removes a key; one that is not there is as good as removed.
    pub fn remove(&mut self, key: &K) -> Result<()> {
        match self.map.remove(key) {
            Ok(()) | Err(aya::maps::MapError::KeyNotFound) => Ok(()),
            Err(aya::maps::MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => {
                Ok(())
            }
            Err(source) => Err(DatapathError::Map { name: self.name, source }),
        }
    }

    /// A second way to the values, for whoever looks at all of them while the table is in use.
    pub fn values(&self) -> Result<Values<V>> {
        let failed = DatapathError::io(format!("share {}", self.name));
        let map = self.map.map().fd().as_fd().try_clone_to_owned().map_err(failed)?;
        Ok(Values { map, key: size_of::<K>(), values: PhantomData })
    }

    /// Writes many elements in order, and all that fit even if some do not.
    pub fn put_all(&mut self, elements: &[(K, V)]) -> std::result::Result<(), Refused> {
        let (keys, values): (Vec<K>, Vec<V>) = elements.iter().copied().unzip();
        let fd = self.map.map().fd().as_fd();
        write_all(self.name, keys.len(), |from| batch::update(fd, &keys[from..], &values[from..]), |_| false)
    }

    /// Removes many keys in order.
    pub fn remove_all(&mut self, keys: &[K]) -> std::result::Result<(), Refused> {
        let fd = self.map.map().fd().as_fd();
        let gone = |error: &io::Error| error.raw_os_error() == Some(libc::ENOENT);
        write_all(self.name, keys.len(), |from| batch::delete(fd, &keys[from..]), gone)
    }
}

/// The values of a table, read as they are at some moment of the reading.
pub struct Values<V> {
    map: OwnedFd,
    key: usize,
    values: PhantomData<V>,
}

impl<V: Pod> Values<V> {
    /// Shows each. Takes as long as the table is large.
    pub fn each(&self, mut visit: impl FnMut(V)) -> io::Result<()> {
        batch::each(self.map.as_fd(), self.key, size_of::<V>(), |_, value| {
            // SAFETY: the slice is as long as a value, which any bytes can be.
            visit(unsafe { value.as_ptr().cast::<V>().read_unaligned() });
        })
    }
}

/// Repeats a batch behind each element that it stops at, until the end.
fn write_all(
    table: &'static str,
    count: usize,
    mut write_from: impl FnMut(usize) -> std::result::Result<(), (usize, io::Error)>,
    harmless: impl Fn(&io::Error) -> bool,
) -> std::result::Result<(), Refused> {
    let mut refused: Option<Refused> = None;
    let mut from = 0;
    while from < count {
        let Err((done, source)) = write_from(from) else { break };
        let stopped = from + done;
        if !harmless(&source) && stopped < count {
            refused.get_or_insert_with(|| Refused { table, indices: Vec::new(), source }).indices.push(stopped);
        }
        from = stopped + 1;
    }
    refused.map_or(Ok(()), Err)
}

/// The node's epoch and the scope of its rows, shared with the programs as one word in memory, so that no packet reads half
/// of a new one.
pub struct EpochCell {
    word: NonNull<AtomicU64>,
    // Keeps the descriptor as long as the mapping.
    _map: MapData,
}

// SAFETY: the mapping belongs to no thread, and the word is atomic.
unsafe impl Send for EpochCell {}
// SAFETY: as above.
unsafe impl Sync for EpochCell {}

const PAGE: usize = 4096;

impl EpochCell {
    pub(super) fn map(ebpf: &mut Ebpf) -> Result<Self> {
        let map = object::take_map_data(ebpf, "EPOCH")?;
        // SAFETY: a fresh mapping of a descriptor that we own; the result is checked.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                PAGE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.fd().as_fd().as_raw_fd(),
                0,
            )
        };
        match NonNull::new(address.cast()) {
            Some(word) if address != libc::MAP_FAILED => Ok(Self { word, _map: map }),
            _ => Err(DatapathError::io("map the epoch into memory")(io::Error::last_os_error())),
        }
    }

    /// The epoch that stands.
    pub fn read(&self) -> Epoch {
        // SAFETY: the mapping lives as long as `self`.
        Self::epoch(unsafe { self.word.as_ref() }.load(Ordering::SeqCst))
    }

    /// The next epoch, from now on, and which kinds of rows there are. Never 0, which marks what nobody judged.
    pub(super) fn raise(&self, scope: Scope) -> Epoch {
        // SAFETY: as above.
        let word = unsafe { self.word.as_ref() };
        let next = match Self::epoch(word.load(Ordering::SeqCst)).0.wrapping_add(1) {
            0 => 1,
            next => next,
        };
        word.store(u64::from(scope.bits()) << 32 | u64::from(next), Ordering::SeqCst);
        Epoch(next)
    }

    fn epoch(word: u64) -> Epoch {
        Epoch(u32::try_from(word & 0xffff_ffff).unwrap_or(0))
    }
}

impl Drop for EpochCell {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` with this size and nothing refers to it any more.
        unsafe { libc::munmap(self.word.as_ptr().cast(), PAGE) };
    }
}
