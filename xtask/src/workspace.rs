//! Where things are: the checkout, its tools, its build output.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The checkout that this program was built from.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().expect("xtask lies in the checkout").to_path_buf()
}

pub(crate) fn tools() -> PathBuf {
    root().join(".tools")
}

pub(crate) fn target() -> PathBuf {
    root().join("target")
}

/// A command that runs in the checkout, so that rust-toolchain.toml decides which compiler it gets.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    // `cargo run` exports the compiler it chose; a cargo for another manifest must choose by itself.
    command.env_remove("CARGO").env_remove("RUSTC");
    command
}

pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}
