//! Watches: how everybody learns what was committed, and how we learn where it is in force. Knows no HTTP.

mod planner;
mod presence;
mod scoped;
mod stream;

pub use self::{
    planner::{Place, Planner, Planning},
    presence::{Connection, Presence, Seen},
    scoped::feed_scope,
    stream::{Line, Timing, feed, stopped},
};
