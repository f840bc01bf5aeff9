//! Watches: how everybody learns what was committed, and how we learn where it is in force. Knows no HTTP.

mod presence;
mod stream;

pub use self::{
    presence::{Connection, Presence, Seen},
    stream::{Line, Timing, feed, stopped},
};
