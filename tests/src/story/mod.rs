//! The story of one rule, as data: what is done, and what has to come back. A test asserts it, the demo tells it.

mod cast;
mod play;
mod script;

pub use self::cast::{Cast, Who};
pub use self::play::{Telling, play};
pub use self::script::{CHAPTERS, Chapter};

use crate::world::probe::Transport;

/// One thing that is done, with what it has to lead to.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// The operator types this; it ends with this exit code and says all of these words.
    Netpol { arguments: &'static [&'static str], exit: i32, says: &'static [&'static str] },
    /// Asks who holds the address of this instance.
    Lookup(Who),
    /// A connection, or datagram and answer, that has to work.
    Reaches { transport: Transport, from: Who, to: Who, port: u16 },
    /// One of which nothing may arrive.
    Blocked { transport: Transport, from: Who, to: Who, port: u16 },
    /// A connection whose packets are captured between the nodes, to see the tag they carry.
    Tagged { from: Who, to: Who, port: u16 },
    /// Opens a stream that stays: both ends send all the time.
    Open { transport: Transport, from: Who, to: Who, port: u16 },
    /// The open stream of this transport has fallen silent both ways since the latest command.
    Silenced(Transport),
    /// The open stream of this transport still flows both ways.
    Flows(Transport),
}
