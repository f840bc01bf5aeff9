//! What policy says: its rows over BPF maps, and the epoch that they stand for. Who the ends of a packet are was found out
//! before, and what becomes of it is decided elsewhere.

use core::{ffi::c_void, mem::MaybeUninit, ptr};

use aya_ebpf::{
    btf_maps::{Array, HashMap, PerCpuArray},
    helpers::bpf_loop,
    macros::btf_map,
};
use common::{
    Identity, Rules, Side,
    conntrack::Epoch,
    decide::{Decision, Question, Widening, rows_say},
    judge::consult,
    port_set::PortSet,
    rule::{Layer, Lengths, Membership, Memberships, PairKey, Row, RowKey, Scope, SetPlace},
};

use crate::act::at_hand;

/// Sizes are defaults; the agent sets its own when it loads.
#[btf_map]
static ROWS: HashMap<RowKey, Row, 262_144> = HashMap::new();
#[btf_map]
static LENGTHS: HashMap<PairKey, Lengths, 131_072> = HashMap::new();
#[btf_map]
static PORT_SETS: Array<PortSet, { SetPlace::COUNT as usize }> = Array::new();
#[btf_map]
static MEMBERSHIPS: HashMap<u32, Memberships, 16_384> = HashMap::new();
/// Lets user space write single values in place, so that no reader sees half of one.
const MMAPABLE: usize = 1 << 10;
/// The epoch in the lower half, the scope of rows in the upper: one word, so that they change together.
#[btf_map]
static EPOCH: Array<u64, 1, MMAPABLE> = Array::new();

/// The question that is being put to wide rows on this CPU. Programs do not interrupt each other on one, and the stack has
/// no room for it.
#[btf_map]
static WIDENING: PerCpuArray<Widening, 1> = PerCpuArray::new();

/// The rows of this node. Without the node's settings, which no row asks for: a look-up less for each question.
pub struct Policy;

/// Epoch and scope.
#[inline(always)]
fn epoch_word() -> u64 {
    EPOCH.get_ptr(0).map_or(0, |epoch| {
        // SAFETY: array values live as long as the map; the read is one aligned word.
        unsafe { ptr::read_volatile(epoch) }
    })
}

/// The epoch that stands.
#[inline(always)]
pub fn epoch() -> Epoch {
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is the epoch")]
    Epoch(epoch_word() as u32)
}

/// Puts the question of the matter at hand to policy. A global function with a plain number: the verifier proves it once for
/// each program, whoever calls it and however often.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn consult_at_hand(initiator: u32) -> u32 {
    let Some(found) = at_hand() else { return 1 };
    let initiator = if initiator == Side::Low as u32 { Side::Low } else { Side::High };
    // SAFETY: whoever calls has written the matter before.
    consult(&Policy, unsafe { found.matter().assume_init_mut() }, initiator);
    0
}

/// Asks the rows of a pair, given in words with the port ([`PairKey::words_with`]); answers in one ([`Decision::word`]). Global for the
/// same reason: its loop is the longest thing to prove, and it is asked from many places.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ask_rows(parties: u64, rest: u64) -> u64 {
    let (pair, port) = PairKey::from_words([parties, rest]);
    #[expect(clippy::cast_possible_truncation, reason = "only `ask` calls, with a port")]
    rows_say(&Policy, pair, port as u16).word()
}

impl Rules for Policy {
    #[inline(always)]
    fn ask(&self, pair: PairKey, port: u16) -> Decision {
        let [parties, rest] = pair.words_with(u32::from(port));
        Decision::from_word(ask_rows(parties, rest))
    }

    #[inline(always)]
    fn scope(&self) -> Scope {
        Scope::from_bits((epoch_word() >> 32) as u32)
    }

    #[inline(always)]
    fn membership(&self, app: Identity, place: usize) -> Membership {
        let Some(groups) = MEMBERSHIPS.get_ptr(app.number()) else { return Membership::NONE };
        if place >= Memberships::MOST {
            return Membership::NONE;
        }
        // SAFETY: the place is inside the list; copied out as one aligned word, which says whose list it is part of.
        unsafe { ptr::read_volatile(groups.cast::<Membership>().add(place)) }
    }

    #[inline(always)]
    fn lengths(&self, key: &PairKey) -> Option<Lengths> {
        // SAFETY: copied out at once as one aligned word, which carries a digest of its key.
        LENGTHS.get_ptr(key).map(|lengths| unsafe { ptr::read_volatile(lengths) })
    }

    #[inline(always)]
    fn set_has(&self, place: SetPlace, port: u16) -> bool {
        let Some(set) = PORT_SETS.get_ptr(place.index()) else { return true };
        let (word, bit) = PortSet::place(u32::from(port));
        // SAFETY: the word is inside the set; read at once, while the agent may write others. Another pair gets the place
        // only when every program that was told of it by this one has ended.
        unsafe { ptr::read_volatile(set.cast::<u64>().add(word)) >> bit & 1 != 0 }
    }

    #[inline(always)]
    fn row(&self, key: &RowKey) -> Option<Row> {
        // SAFETY: as above.
        ROWS.get_ptr(key).map(|row| unsafe { ptr::read_volatile(row) })
    }

    #[inline(never)]
    fn widen(&self, question: &Question, layer: Layer, decision: &mut Decision) {
        let Some(widening) = WIDENING.get_ptr_mut(0) else { return *decision = Decision::DOUBT };
        // SAFETY: the slot is this CPU's own.
        let place = unsafe { &mut *widening.cast::<MaybeUninit<Widening>>() };
        let Some(begun) = Widening::begin(place, self, question, layer, *decision) else {
            return *decision = Decision::DOUBT;
        };
        let steps = begun.steps();
        // SAFETY: `step` has the callback's signature, and nobody else holds the slot meanwhile.
        unsafe {
            bpf_loop(steps, step as *mut c_void, ptr::null_mut(), 0);
            *decision = (*widening).decision();
        }
    }
}

unsafe extern "C" fn step(_: u64, _: *mut c_void) -> i64 {
    const GO_ON: i64 = 0;
    const STOP: i64 = 1;
    let Some(widening) = WIDENING.get_ptr_mut(0) else { return STOP };
    // SAFETY: `widen` has set this CPU's slot and waits for us.
    unsafe { (*widening).step(&Policy) };
    GO_ON
}
