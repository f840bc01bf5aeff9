//! The kernel/user border of netpol and its pure verdict engine.
//!
//! Everything here runs in three places: in the kernel's programs, in `netpol check`, and in tests. It does no IO, does
//! not allocate, and knows numbers only: names of apps, rules as users write them and BPF maps are somebody else's.
//!
//! Read in this order: [`packet`] (bytes to fields), [`placement`] (who may send from where), [`rule`] and [`decide`]
//! (what policy says), [`tuple`] and [`conntrack`] (flows), [`datagram`] (fragments), [`judge`](mod@judge) (the verdict on a flow), [`path`] (the whole way of a packet,
//! one function per program), [`refusal`] and [`event`] (what is told about it).
#![no_std]

#[cfg(any(test, feature = "model"))]
extern crate std;

pub mod address;
pub mod check;
pub mod conntrack;
pub mod datagram;
pub mod decide;
pub mod event;
pub mod identity;
pub mod judge;
#[cfg(any(test, feature = "model"))]
pub mod model;
pub mod older;
pub mod outer;
pub mod packet;
pub mod path;
pub mod placement;
pub mod port;
pub mod port_set;
pub mod refusal;
pub mod rule;
pub mod settings;
pub mod terms;
pub mod tuple;
pub mod verdict;

pub use address::{Address, Mac};
pub use conntrack::Entry;
pub use decide::{Answer, Decision, Question, Rules, decide};
pub use identity::Identity;
pub use judge::{Ends, Node, Softening, judge};
pub use packet::{Family, Fragment, Kind, Packet, Protocol};
pub use port::{PortPrefix, PortRange};
pub use rule::{Action, Layer, Party, RuleId, Ruling};
pub use terms::{Term, Terms};
pub use tuple::{FlowKey, Side, Tuple};
pub use verdict::{Direction, DropReason, Grounds, Note, Outcome, Pass, Verdict};

/// The version of every layout in this crate that a pinned map holds; it names the pin directory, so that programs never
/// meet maps of another layout.
pub const SCHEMA: u32 = if cfg!(feature = "next-layout") { LATEST + 1 } else { LATEST };

const LATEST: u32 = 6;

/// Declares that a type may be copied to and from a BPF map byte by byte.
macro_rules! border {
    ($($name:ty = $size:literal),+ $(,)?) => { $(
        // A layout change that forgets the schema version fails here first.
        const _: () = assert!(core::mem::size_of::<$name>() == $size);
        // SAFETY: `repr(C)`, `Copy`, 'static, every bit pattern is valid, and the size above is the sum of the fields, so
        // there is no padding.
        #[cfg(feature = "aya")]
        unsafe impl aya::Pod for $name {}
    )+ };
}
pub(crate) use border;
