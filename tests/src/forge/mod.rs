//! Packets that nobody should believe: whole Ethernet frames of our own making, sent past the kernel's checks.

mod frame;
mod raw;

pub use self::frame::{Datagram, MARK, in_vxlan};
pub use self::raw::{RawSocket, Watcher};
