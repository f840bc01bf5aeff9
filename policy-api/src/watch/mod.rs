//! Watches: how everybody learns what was committed, and how we learn where it is in force. Knows no HTTP.

mod gate;
mod planner;
mod presence;
mod scoped;
mod spread;
mod stream;

pub use self::{
    gate::feed_gate,
    planner::{Place, Planner, Planning},
    presence::{Connection, Presence, Seen},
    scoped::feed_scope,
    spread::note_spread,
    stream::{Line, Timing, feed, stopped},
};
