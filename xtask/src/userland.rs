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

pub(crate) fn binary(profile: Profile, name: &str) -> PathBuf {
    let directory = match profile {
        Profile::Debug => "debug",
        Profile::Release => "release",
    };
    workspace::target().join(directory).join(name)
}
