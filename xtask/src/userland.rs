//! Builds every binary and test of the workspace once, outside any sandbox.

use std::path::PathBuf;

use crate::progress::{self, Failure};
use crate::workspace;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    Debug,
    Release,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Artifacts {
    Binaries,
    BinariesAndTests,
}

const REMEDY: &str = "the compiler's message stands above; if it speaks of the eBPF programs, run `cargo xtask setup`";

pub(crate) fn build(profile: Profile, artifacts: Artifacts) -> Result<(), Failure> {
    if artifacts == Artifacts::BinariesAndTests {
        build_next_layout(profile)?;
    }
    let mut command = workspace::command("cargo");
    command.args(["build", "--workspace", "--locked", "--bins"]);
    match artifacts {
        // One small test makes cargo count the features that tests need. Without it `demo` and `test` would each
        // compile half of the packages in their own way.
        Artifacts::Binaries => command.args(["--test", "architecture"]),
        Artifacts::BinariesAndTests => command.arg("--tests"),
    };
    if profile == Profile::Release {
        command.arg("--release");
    }
    progress::step("build", &mut command, REMEDY).map(drop)
}

/// The agent as if its maps' layout had changed once more, for the tests that upgrade to it. Built first, as both binaries
/// are called the same.
fn build_next_layout(profile: Profile) -> Result<(), Failure> {
    let mut command = workspace::command("cargo");
    // Chosen with the tests, so that what both need is compiled once.
    command.args(["build", "--locked", "-p", "agent", "-p", "tests", "--bin", "netpol-agent"]);
    command.args(["--features", "agent/next-layout"]);
    if profile == Profile::Release {
        command.arg("--release");
    }
    progress::step("build of the next layout", &mut command, REMEDY)?;
    let (made, kept) = (binary(profile, "netpol-agent"), binary(profile, "netpol-agent-next"));
    let copied = std::fs::copy(&made, &kept).map(drop);
    copied.map_err(|error| Failure::new("build", format!("{}: {error}", kept.display()), "make target/ writable"))
}

pub(crate) fn binary(profile: Profile, name: &str) -> PathBuf {
    let directory = match profile {
        Profile::Debug => "debug",
        Profile::Release => "release",
    };
    workspace::target().join(directory).join(name)
}
