//! Scenarios over the real binaries and the real kernel: the worlds they play in, and the story that both a
//! test and the demo tell.
//!
//! A world is a handful of network namespaces: a fabric, a control host, nodes, instances. It runs inside the
//! sandbox that `cargo xtask` makes, so nothing here has to survive being killed.

pub mod bench;
pub mod forge;
pub mod lab;
pub mod story;
pub mod world;

/// How often a proof repeats itself: `ci` in every run, `soak` under `cargo xtask soak`.
pub fn rounds(ci: usize, soak: usize) -> usize {
    if std::env::var_os("NETPOL_SOAK").is_some() { soak } else { ci }
}
