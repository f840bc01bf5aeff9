//! `cargo xtask bench NAME…`: the bench program in a sandbox, with a place for its results.

use std::fs;
use std::process::ExitCode;

use crate::progress::Failure;
use crate::userland::{self, Artifacts, Profile};
use crate::{sandbox, setup, workspace};

pub(crate) fn run(profile: Profile, arguments: &[String]) -> Result<ExitCode, Failure> {
    setup::run()?;
    userland::build(profile, Artifacts::Binaries)?;
    let results = workspace::target().join("bench");
    fs::create_dir_all(&results)
        .map_err(|error| Failure::new("bench", error.to_string(), "make target/bench writable"))?;
    let mut sandbox = sandbox::around(&userland::binary(profile, "bench"))?;
    sandbox.command.args(arguments).env("NETPOL_BENCH_DIR", &results);
    let status = sandbox
        .command
        .status()
        .map_err(|error| Failure::new("bench", error.to_string(), "run `cargo xtask setup`"))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
