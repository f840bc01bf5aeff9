//! `cargo xtask lint`: formatting and clippy for both sides of the kernel border, and deny.toml on demand.

use std::path::Path;
use std::process::Command;

use crate::command::LintScope;
use crate::progress::{self, Failure};
use crate::setup;
use crate::workspace;

const FORMAT: &str = "run `cargo fmt --all`, and `cargo fmt` in ebpf/";
const CLIPPY: &str = "clippy's message stands above; every lint's reason stands in Cargo.toml";

/// The newest that builds with the pinned toolchain.
const CARGO_DENY: &str = "0.20.2";

pub(crate) fn run(scope: LintScope) -> Result<(), Failure> {
    setup::run()?;
    setup::components(&["rustfmt", "clippy"])?;
    progress::step("format", workspace::command("cargo").args(["fmt", "--all", "--check"]), FORMAT)?;
    progress::step("format ebpf", ebpf("cargo").args(["fmt", "--check"]), FORMAT)?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    progress::step("clippy", workspace::command("cargo").args(clippy), CLIPPY)?;
    progress::step("clippy ebpf", &mut clippy_ebpf(), CLIPPY)?;
    match scope {
        LintScope::Code => Ok(()),
        LintScope::CodeAndDependencies => dependencies(),
    }
}

fn ebpf(program: &str) -> Command {
    let mut command = workspace::command(program);
    command.current_dir(workspace::root().join("ebpf"));
    command
}

/// For the BPF target, which has no ready-made core: the stable compiler builds it, as agent/build.rs does.
fn clippy_ebpf() -> Command {
    let mut command = ebpf("cargo");
    command.args(["clippy", "--release", "--locked", "--target", "bpfel-unknown-none", "-Z", "build-std=core"]);
    command.arg("--target-dir").arg(workspace::target().join("ebpf"));
    command.args(["--", "-D", "warnings"]).env("RUSTC_BOOTSTRAP", "1");
    command
}

fn dependencies() -> Result<(), Failure> {
    let program = workspace::tools().join("bin/cargo-deny");
    if !program.exists() {
        let mut install = workspace::command("cargo");
        install.args(["install", "cargo-deny", "--version", CARGO_DENY, "--locked"]);
        install.arg("--root").arg(workspace::tools());
        progress::step(
            "install cargo-deny",
            &mut install,
            "cargo-deny is built from the package registry; is it in reach?",
        )?;
    }
    check_dependencies(&program, "dependencies", "Cargo.toml")?;
    check_dependencies(&program, "dependencies ebpf", "ebpf/Cargo.toml")
}

fn check_dependencies(program: &Path, step: &str, manifest: &str) -> Result<(), Failure> {
    let root = workspace::root();
    let mut deny = Command::new(program);
    deny.current_dir(&root).arg("--manifest-path").arg(root.join(manifest));
    deny.arg("--config").arg(root.join("deny.toml")).args(["--log-level", "error", "--locked", "check"]);
    // Advisories would need a database from outside the package registry.
    deny.args(["bans", "licenses", "sources"]);
    progress::step(step, &mut deny, "deny.toml gives the reason for each entry").map(drop)
}
