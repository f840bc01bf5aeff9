//! Builds the kernel's programs and hands their object to the agent, which embeds it.
//!
//! A cargo of its own, because the programs have another target, profile and lock file. `EBPF_OBJECT` names a ready
//! object instead.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("..");
    let output = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("netpol-ebpf");
    println!("cargo:rerun-if-env-changed=EBPF_OBJECT");
    for watched in ["ebpf/src", "ebpf/Cargo.toml", "ebpf/Cargo.lock", "common/src", "common/Cargo.toml"] {
        println!("cargo:rerun-if-changed={}", root.join(watched).display());
    }
    let object = env::var_os("EBPF_OBJECT").map_or_else(|| build(&root), PathBuf::from);
    fs::copy(&object, &output).unwrap_or_else(|error| panic!("copy {}: {error}", object.display()));
}

fn build(root: &Path) -> PathBuf {
    let target = root.join("target/ebpf");
    let tools = root.join(".tools/bin");
    let path = env::var_os("PATH").unwrap_or_default();
    let paths = env::join_paths(std::iter::once(tools).chain(env::split_paths(&path))).expect("no separator in paths");
    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo sets it"));
    cargo
        .args(["build", "--release", "--locked", "--target", "bpfel-unknown-none", "-Zbuild-std=core", "--target-dir"])
        .arg(&target)
        .current_dir(root.join("ebpf"))
        .env("PATH", paths)
        // The pinned stable compiler builds `core` for the BPF target with this and nothing else.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", "-Cdebuginfo=2\x1f-Clink-arg=--btf\x1f-Ctarget-cpu=v3");
    if env::var_os("CARGO_FEATURE_NEXT_LAYOUT").is_some() {
        cargo.args(["--features", "next-layout"]);
    }
    for foreign in
        ["RUSTC", "RUSTC_WORKSPACE_WRAPPER", "RUSTC_WRAPPER", "RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_TARGET_DIR"]
    {
        cargo.env_remove(foreign);
    }
    let status = cargo.status().expect("start cargo");
    assert!(status.success(), "the programs did not build; run `cargo xtask setup` for the BPF linker and rust-src");
    target.join("bpfel-unknown-none/release/netpol-ebpf")
}
