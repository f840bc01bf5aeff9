//! Datagrams whose fragments are still coming.

use core::{
    ffi::c_void,
    intrinsics::{AtomicOrdering, atomic_xadd},
    ptr,
};

use aya_ebpf::{bindings::BPF_NOEXIST, btf_maps::HashMap, macros::btf_map};
use common::datagram::{Datagram, DatagramKey, Datagrams};

use crate::kernel::Kernel;

#[btf_map]
static DATAGRAMS: HashMap<DatagramKey, Datagram, 16_384> = HashMap::new();

impl Datagrams for Kernel {
    #[inline(always)]
    fn find_datagram(&self, key: &DatagramKey) -> Option<Datagram> {
        // SAFETY: values of a preallocated map stay mapped for the program's run. One recycled under our eyes gives the
        // ports of another datagram, whose flow the packet's addresses do not have.
        DATAGRAMS.get_ptr(key).map(|datagram| unsafe { ptr::read_volatile(datagram) })
    }

    #[inline(always)]
    fn insert_datagram(&self, key: &DatagramKey, datagram: &Datagram) -> bool {
        DATAGRAMS.insert(key, datagram, u64::from(BPF_NOEXIST)).is_ok()
    }

    #[inline(always)]
    fn advance_datagram(&self, key: &DatagramKey, come: u32, whole: u32) -> Option<(u32, u32)> {
        let datagram = DATAGRAMS.get_ptr_mut(key)?;
        // SAFETY: as in `find_datagram`; the addition is atomic, and the length is written by the last part only: of two that
        // disagree the longer one holds.
        unsafe {
            if whole > ptr::read_volatile(&raw const (*datagram).whole) {
                ptr::write_volatile(&raw mut (*datagram).whole, whole);
            }
            let before = atomic_xadd::<u32, u32, { AtomicOrdering::SeqCst }>(&raw mut (*datagram).come, come);
            Some((before.wrapping_add(come), ptr::read_volatile(&raw const (*datagram).whole)))
        }
    }

    #[inline(always)]
    fn poison_datagram(&self, key: &DatagramKey) {
        if let Some(datagram) = DATAGRAMS.get_ptr_mut(key) {
            // SAFETY: as in `find_datagram`.
            unsafe { ptr::write_volatile(&raw mut (*datagram).poisoned, 1) }
        }
    }

    #[inline(always)]
    fn remove_datagram(&self, key: &DatagramKey) -> bool {
        DATAGRAMS.remove(key).is_ok()
    }
}

/// The table of datagrams, for the sweep's walk.
#[inline(always)]
pub fn datagrams() -> *mut c_void {
    (&raw const DATAGRAMS).cast_mut().cast()
}
