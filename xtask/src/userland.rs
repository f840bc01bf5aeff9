//! Builds every binary and test of the workspace once, outside any sandbox.

use std::path::PathBuf;

use crate::progress::{self, Failure};
use crate::workspace;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    Debug,
    Release,
    /// As fast as a release, with the checks of a debug build: for proofs of many rounds.
    Soak,
}

impl Profile {
    /// Chooses it, as flags of cargo.
    pub(crate) fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Debug => &[],
            Self::Release => &["--release"],
            Self::Soak => &["--profile", "soak"],
        }
    }
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
    command.args(profile.flags());
    progress::step("build", &mut command, REMEDY).map(drop)
}

/// The agent as if its maps' layout had changed once more, for the tests that upgrade to it. Built first, as both binaries
/// are called the same.
fn build_next_layout(profile: Profile) -> Result<(), Failure> {
    let mut command = workspace::command("cargo");
    // Chosen out of the whole workspace and with a test that needs little, so that packages of others are compiled as the
    // build after it wants them. Ours are not: the layout is a feature of `common`, which all of them need.
    command.args(["build", "--workspace", "--locked", "--bin", "netpol-agent", "--test", "layers"]);
    command.args(["--features", "agent/next-layout"]);
    command.args(profile.flags());
    progress::step("build of the next layout", &mut command, REMEDY)?;
    let (made, kept) = (binary(profile, "netpol-agent"), binary(profile, "netpol-agent-next"));
    let copied = std::fs::copy(&made, &kept).map(drop);
    copied.map_err(|error| Failure::new("build", format!("{}: {error}", kept.display()), "make target/ writable"))
}

pub(crate) fn binary(profile: Profile, name: &str) -> PathBuf {
    let directory = match profile {
        Profile::Debug => "debug",
        Profile::Release => "release",
        Profile::Soak => "soak",
    };
    workspace::target().join(directory).join(name)
}
