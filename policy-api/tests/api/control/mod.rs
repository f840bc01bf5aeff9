//! What the control plane promises whatever befalls it: `cargo xtask soak control` runs these for long.

pub(crate) mod cluster;
pub(crate) mod durable;
mod model;
mod torn;
