//! The engine's look-ups over BPF maps. Each map is private to the few functions that touch it.

use core::{
    intrinsics::{AtomicOrdering, atomic_and, atomic_cxchg, atomic_or, atomic_xadd, atomic_xchg},
    mem::offset_of,
    ptr,
};

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    btf_maps::{Array, HashMap},
    helpers::bpf_ktime_get_coarse_ns,
    macros::btf_map,
};
use common::{
    Address, Entry, FlowKey, Node, RuleId, Side, Tuple,
    conntrack::{Class, Conntrack, Epoch, Inserted, Record, Traffic, Word, flag},
    event::{Charge, EventKind, Usage},
    judge::Matter,
    path::Site,
    placement::{ENDPOINT_PLACES, Endpoint, INDEX_PLACES, Indexed, Placement, endpoint_place, index_place},
    settings::{Settings, Ticks},
};

use crate::{event, policy};

/// Sizes are defaults; the agent sets its own when it loads.
#[btf_map]
static FLOWS: HashMap<FlowKey, Record, 262_144> = HashMap::new();
#[btf_map]
static CHARGES: HashMap<Address, Charge, 131_072> = HashMap::new();
#[btf_map]
static USAGE: HashMap<u32, Usage, 65_536> = HashMap::new();
#[btf_map]
static PLACEMENTS: HashMap<Address, Placement, 131_072> = HashMap::new();
#[btf_map]
static NODES: HashMap<Address, u32, 4_096> = HashMap::new();
#[btf_map]
static ENDPOINTS: Array<Endpoint, { ENDPOINT_PLACES as usize }> = Array::new();
/// Has values begin at a page, so that each place here is one line of the cache.
const MMAPABLE: usize = 1 << 10;
/// Where most of those in [`PLACEMENTS`] are, without a hash.
#[btf_map]
static INDEX: Array<Indexed, { INDEX_PLACES as usize }, MMAPABLE> = Array::new();
#[btf_map]
static SETTINGS: Array<Settings, 1> = Array::new();

/// This node, as the engine sees it.
pub struct Kernel {
    settings: &'static Settings,
}

impl Kernel {
    /// The node, with its settings looked up once per packet.
    #[inline(always)]
    pub fn open() -> Option<Self> {
        SETTINGS.get(0).map(|settings| Self { settings })
    }

    /// Whether one of the node's switches is on.
    #[inline(always)]
    pub fn is_on(&self, switch: u32) -> bool {
        self.settings.switches & switch != 0
    }

    #[inline(always)]
    pub fn nanoseconds() -> u64 {
        // SAFETY: the helper has no preconditions.
        unsafe { bpf_ktime_get_coarse_ns() }
    }
}

impl Site for Kernel {
    #[inline(always)]
    fn endpoint(&self, ifindex: u32) -> Option<&Endpoint> {
        // Written before its veth goes up and removed after the veth is gone; what changes in between is one word.
        ENDPOINTS.get(endpoint_place(ifindex)).filter(|endpoint| endpoint.ifindex() == ifindex)
    }

    #[inline(always)]
    fn placement(&self, address: &Address) -> Option<&Placement> {
        if let Some(placement) = INDEX.get(index_place(address)).and_then(|indexed| indexed.of(address)) {
            return Some(placement);
        }
        // SAFETY: values of a preallocated map stay mapped for the program's run. One recycled under our eyes names an end
        // that the flow's binding refuses, or a new flow is judged for an instance that is going away.
        unsafe { PLACEMENTS.get(address) }
    }

    #[inline(always)]
    fn is_node(&self, underlay: &Address) -> bool {
        NODES.get_ptr(underlay).is_some()
    }
}

impl Node for Kernel {
    #[inline(always)]
    fn epoch(&self) -> Epoch {
        policy::epoch()
    }

    #[inline(always)]
    fn now(&self) -> Ticks {
        Ticks::from_nanoseconds(Self::nanoseconds())
    }

    #[inline(always)]
    fn settings(&self) -> &Settings {
        self.settings
    }

    /// All matters of this CPU are at hand in one place, where policy finds them.
    #[inline(always)]
    fn consult(&self, _: &mut Matter, initiator: Side) {
        policy::consult_at_hand(initiator as u32);
    }
}

impl Conntrack for Kernel {
    type Handle = *mut Entry;
    type Account = *mut Charge;

    #[inline(always)]
    fn find(&self, key: &FlowKey) -> Option<*mut Entry> {
        FLOWS.get_ptr_mut(key).map(entry_of)
    }

    #[inline(always)]
    fn read(&self, entry: *mut Entry) -> Entry {
        // SAFETY: a value of a preallocated map stays mapped for the program's run. The word is read first and whole; if
        // the element was recycled, it does not bind this flow and the other fields are not believed.
        unsafe {
            let word = ptr::read_volatile(&raw const (*entry).word);
            Entry {
                word,
                traffic: 0,
                packets: (*entry).packets,
                bytes: (*entry).bytes,
                flags: (*entry).flags,
                seen: (*entry).seen,
                rule: (*entry).rule,
                reserved: Entry::UNUSED,
            }
        }
    }

    #[inline(always)]
    fn tuple(&self, entry: *mut Entry, key: &FlowKey) -> Tuple {
        key.tuple(*address(entry, Side::Low), *address(entry, Side::High))
    }

    #[inline(always)]
    fn swap_word(&self, entry: *mut Entry, old: Word, new: Word) -> bool {
        // SAFETY: as in `read`; the exchange is atomic and takes effect only on the word that was judged.
        unsafe {
            atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(
                &raw mut (*entry).word,
                old.raw(),
                new.raw(),
            )
        }
        .1
    }

    #[inline(always)]
    fn set_flags(&self, entry: *mut Entry, flags: u32) -> u32 {
        // SAFETY: as in `read`; the update is atomic, so no CPU loses another's flag.
        unsafe { atomic_or::<u32, u32, { AtomicOrdering::SeqCst }>(&raw mut (*entry).flags, flags) }
    }

    #[inline(always)]
    fn touch(&self, entry: *mut Entry, now: Ticks) {
        // SAFETY: as in `read`; CPUs that race write the same second.
        unsafe { (*entry).seen = now }
    }

    #[inline(always)]
    fn count(&self, entry: *mut Entry, packet: Traffic) {
        // SAFETY: as in `read`; the addition is atomic, and one to a recycled element is another flow's packet too many.
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(&raw mut (*entry).traffic, packet.raw()) };
    }

    #[inline(always)]
    fn settle(&self, entry: *mut Entry) -> Traffic {
        // SAFETY: as in `read`; whoever takes the count adds it to the totals.
        unsafe {
            if ptr::read_volatile(&raw const (*entry).traffic) == 0 {
                return Traffic::default();
            }
            let traffic =
                Traffic::from_raw(atomic_xchg::<u64, { AtomicOrdering::SeqCst }>(&raw mut (*entry).traffic, 0));
            atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(&raw mut (*entry).packets, traffic.packets());
            atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(&raw mut (*entry).bytes, traffic.bytes());
            traffic
        }
    }

    #[inline(always)]
    fn reattribute(&self, entry: *mut Entry, rule: RuleId) {
        // SAFETY: as in `read`; CPUs that race judged by the same rows.
        unsafe {
            (*entry).rule = rule.0;
            atomic_and::<u32, u32, { AtomicOrdering::SeqCst }>(&raw mut (*entry).flags, !flag::CUT);
        }
    }

    #[inline(always)]
    fn insert(&self, key: &FlowKey, record: &Record) -> Inserted {
        const EXISTS: i32 = -17;
        match FLOWS.insert(key, record, u64::from(BPF_NOEXIST)) {
            Ok(()) => Inserted::Created,
            Err(EXISTS) => Inserted::Exists,
            Err(_) => Inserted::Full,
        }
    }

    #[inline(always)]
    fn remove(&self, key: &FlowKey) {
        // Gone already is as good as removed.
        let _ = FLOWS.remove(key);
    }

    #[inline(always)]
    fn account(&self, instance: &Address) -> Option<*mut Charge> {
        CHARGES.get_ptr_mut(instance)
    }

    #[inline(always)]
    fn account_of(&self, entry: *mut Entry, side: Side) -> Option<*mut Charge> {
        CHARGES.get_ptr_mut(address(entry, side))
    }

    #[inline(always)]
    fn charge(&self, account: *mut Charge, class: Class) -> u64 {
        add(account, class, 1)
    }

    #[inline(always)]
    fn discharge(&self, account: *mut Charge, class: Class) {
        add(account, class, u64::MAX);
    }

    #[inline(always)]
    fn credit(&self, rule: RuleId, traffic: Traffic, flows: u32) {
        if let Some(usage) = USAGE.get_ptr_mut(rule.0) {
            // SAFETY: a value of a preallocated map stays mapped for the program's run; the additions are atomic, and of
            // times that race any is right.
            unsafe {
                atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(&raw mut (*usage).packets, traffic.packets());
                atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(&raw mut (*usage).bytes, traffic.bytes());
                atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(&raw mut (*usage).flows, u64::from(flows));
                (*usage).last_hit = Self::nanoseconds();
            }
        }
    }

    #[inline(always)]
    fn ended(&self, entry: *mut Entry, key: &FlowKey) {
        event::report_flow(self, EventKind::End, key, entry);
    }
}

// A pointer to a record is one to its entry, and the other way round.
const _: () = assert!(offset_of!(Record, entry) == 0);

/// The entry of a record.
#[inline(always)]
pub fn entry_of(record: *mut Record) -> *mut Entry {
    record.cast()
}

/// One of the ends of a flow that was found.
#[inline(always)]
fn address<'a>(entry: *mut Entry, side: Side) -> &'a Address {
    // SAFETY: a value of a preallocated map stays mapped for the program's run, and an entry is the first thing in it. One
    // recycled under our eyes has the address of another flow, whose word then does not bind this one.
    unsafe { (*entry.cast::<Record>()).address(side) }
}

/// Adds to one of the two counts, wrapping, and returns what stood before.
#[inline(always)]
fn add(charge: *mut Charge, class: Class, amount: u64) -> u64 {
    // SAFETY: a value of a preallocated map stays mapped for the program's run; the addition is atomic.
    unsafe {
        let count = match class {
            Class::Unanswered => &raw mut (*charge).unanswered,
            Class::Answered => &raw mut (*charge).answered,
            Class::Fragmented => &raw mut (*charge).fragmented,
        };
        atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(count, amount)
    }
}

/// The table of flows, for the sweep's walk.
#[inline(always)]
pub fn flows() -> *mut core::ffi::c_void {
    (&raw const FLOWS).cast_mut().cast()
}
