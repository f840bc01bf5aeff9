//! HTTP/1 as bytes, before any parser that forgives: what is ambiguous about where a request begins and ends is refused here,
//! so that whoever reads the same bytes behind us cannot read another request out of them.
//!
//! hyper reads what is let through. It would join two equal lengths to one, prefer an encoding to a length, take a bare LF for
//! the end of a line, and answer what it cannot read without a word; all of that is decided before it sees a byte.

mod chunk;
mod framing;
mod guard;
mod head;

pub use framing::{Framing, Limits, Step};
pub use head::{Body, Head, read_head};

pub(crate) use guard::{Guard, Notice};
