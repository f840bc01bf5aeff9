//! `cargo xtask demo`: the story on the real kernel, told on the terminal.

use std::process::ExitCode;

use crate::progress::Failure;
use crate::userland::{self, Artifacts, Profile};
use crate::{sandbox, setup};

pub(crate) fn run() -> Result<ExitCode, Failure> {
    setup::run()?;
    userland::build(Profile::Debug, Artifacts::Binaries)?;
    let mut sandbox = sandbox::around(&userland::binary(Profile::Debug, "demo"))?;
    let status =
        sandbox.command.status().map_err(|error| Failure::new("demo", error.to_string(), "run `cargo xtask setup`"))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
