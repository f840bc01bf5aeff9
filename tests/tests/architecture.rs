//! Who may import whom: the invariants of docs/architecture.md, each the absence of something, read from
//! `cargo metadata` and from the sources.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// Absent for what the package itself is built from; else `dev` or `build`.
    kind: Option<String>,
    optional: bool,
    uses_default_features: bool,
    features: Vec<String>,
}

impl Package {
    /// What its own code may name: neither tests nor build script.
    fn imports(&self) -> impl Iterator<Item = &Dependency> {
        self.dependencies.iter().filter(|dependency| dependency.kind.is_none())
    }

    fn imported_names(&self) -> BTreeSet<&str> {
        self.imports().map(|dependency| dependency.name.as_str()).collect()
    }

    fn import(&self, name: &str) -> &Dependency {
        let found = self.imports().find(|dependency| dependency.name == name);
        found.unwrap_or_else(|| panic!("{} does not import {name}", self.name))
    }
}

const OURS: [&str; 7] = ["common", "policy-api", "gate", "agent", "cli", "tests", "xtask"];

fn checkout() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the tests lie in the checkout").to_path_buf()
}

fn packages(manifest: &str) -> Vec<Package> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--offline", "--no-deps", "--format-version", "1", "--manifest-path"]);
    let output = command.arg(checkout().join(manifest)).output().expect("cargo starts");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Metadata = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    metadata.packages
}

fn package(name: &str) -> Package {
    let found = packages("Cargo.toml").into_iter().find(|package| package.name == name);
    found.unwrap_or_else(|| panic!("no package {name} in this workspace"))
}

fn ours_imported_by(name: &str) -> BTreeSet<String> {
    let package = package(name);
    let ours = package.imported_names().into_iter().filter(|name| OURS.contains(name)).map(str::to_owned);
    ours.collect()
}

#[track_caller]
fn assert_imports_of_ours(name: &str, allowed: &[&str]) {
    let imported = ours_imported_by(name);
    let allowed: BTreeSet<String> = allowed.iter().map(|&name| name.to_owned()).collect();
    let forbidden: Vec<_> = imported.difference(&allowed).collect();
    assert!(forbidden.is_empty(), "{name} may import {allowed:?} of ours, but imports {forbidden:?} too");
}

#[test]
fn crates_import_only_those_below_them() {
    assert_imports_of_ours("common", &[]);
    assert_imports_of_ours("policy-api", &["common"]);
    assert_imports_of_ours("gate", &["policy-api"]);
    assert_imports_of_ours("agent", &["common", "gate", "policy-api"]);
    assert_imports_of_ours("cli", &["common", "policy-api"]);
    assert_imports_of_ours("xtask", &[]);
}

#[test]
fn the_programs_import_nothing_of_ours_but_common() {
    let programs = packages("ebpf/Cargo.toml");
    for package in &programs {
        let names = package.imported_names();
        let forbidden: Vec<_> = names.iter().filter(|name| OURS.contains(name) && **name != "common").collect();
        assert!(forbidden.is_empty(), "{} imports {forbidden:?}", package.name);
    }
}

#[test]
fn xtask_starts_at_once_because_it_depends_on_nothing() {
    let names: Vec<String> = package("xtask").dependencies.into_iter().map(|dependency| dependency.name).collect();
    assert!(names.is_empty(), "xtask depends on {names:?}");
}

#[test]
fn agent_cli_and_gate_know_the_policy_api_as_clients_only() {
    let clients = [("agent", ["client"].as_slice()), ("cli", &["client", "policy"]), ("gate", &["client", "jose"])];
    for (name, features) in clients {
        let package = package(name);
        let import = package.import("policy-api");
        assert!(!import.uses_default_features, "{name} takes policy-api's default features");
        assert_eq!(import.features, features, "{name} takes more of policy-api than is a client's");
    }
}

#[test]
fn common_does_no_io_and_allocates_nothing() {
    let required: Vec<String> =
        package("common").imports().filter(|import| !import.optional).map(|import| import.name.clone()).collect();
    assert!(required.is_empty(), "common depends on {required:?}");
    let root = fs::read_to_string(checkout().join("common/src/lib.rs")).expect("common has a lib.rs");
    assert!(root.contains("no_std"), "common is not no_std");
    assert_absent_from("common/src", &["alloc", "tokio", "serde"], |_| true);
}

#[test]
fn the_model_and_the_store_know_nothing_of_http() {
    for part in ["model", "policy", "store"] {
        assert_absent_from("policy-api/src", &["axum", "hyper", "reqwest"], |path| belongs_to(path, part));
    }
}

#[test]
fn each_library_of_the_agent_has_one_home() {
    for (library, home) in
        [("aya", "datapath"), ("rtnetlink", "link"), ("netlink_packet_route", "link"), ("axum", "admin")]
    {
        assert_absent_from("agent/src", &[library], |path| !belongs_to(path, home));
    }
    assert_absent_from("agent/src", &["policy_api::client"], |path| !belongs_to(path, "watch"));
}

#[test]
fn the_gate_knows_no_datapath_and_its_gatekeeper_no_tokens() {
    assert_absent_from("gate/src", &["aya", "rtnetlink", "common", "axum"], |_| true);
    let authorities = ["jsonwebtoken", "reqwest", "ring", "policy_api::client"];
    assert_absent_from("gate/src/gatekeeper", &authorities, |path| !path.ends_with("tls.rs"));
}

#[test]
fn whether_a_request_is_one_is_decided_without_effects() {
    let pure =
        ["admit.rs", "path.rs", "privilege.rs", "refusal.rs", "wire/head.rs", "wire/chunk.rs", "wire/framing.rs"];
    let effects = ["hyper", "tokio", "std::fs", "std::net", "std::time", "tracing"];
    assert_absent_from("gate/src/gatekeeper", &effects, |path| pure.iter().any(|pure| path == Path::new(pure)));
}

#[test]
fn compiling_rules_to_rows_is_pure() {
    let effects = [
        "aya",
        "rtnetlink",
        "netlink_packet_route",
        "axum",
        "tokio",
        "policy_api::client",
        "std::fs",
        "std::net::TcpStream",
    ];
    assert_absent_from("agent/src", &effects, |path| belongs_to(path, "compile"));
}

/// Whether a path below `src` is module `part` or lies in it.
fn belongs_to(path: &Path, part: &str) -> bool {
    let first = path.components().next().map(|component| component.as_os_str().to_string_lossy().into_owned());
    first.is_some_and(|first| first == part || first == format!("{part}.rs"))
}

#[track_caller]
fn assert_absent_from(directory: &str, names: &[&str], concerns: impl Fn(&Path) -> bool) {
    let root = checkout().join(directory);
    let mut examined = 0;
    for path in sources(&root) {
        let relative = path.strip_prefix(&root).expect("it was found below the root");
        if !concerns(relative) {
            continue;
        }
        examined += 1;
        let text = fs::read_to_string(&path).expect("a source file is readable");
        for name in names {
            let found = text.lines().position(|line| names_crate(line, name));
            assert!(found.is_none(), "{directory}/{}:{} names {name}", relative.display(), found.unwrap_or(0) + 1);
        }
    }
    // Else the rule would hold because what it speaks of has moved.
    assert!(examined > 0, "no file of {directory} is meant");
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let paths = entries.map(|entry| entry.expect("the directory is readable").path());
    paths
        .flat_map(|path| match path {
            path if path.is_dir() => sources(&path),
            path if path.extension().is_some_and(|extension| extension == "rs") => vec![path],
            _ => Vec::new(),
        })
        .collect()
}

/// Whether a line of code, comments aside, has `name` as the start of a path: `name::…` or `use name;`.
fn names_crate(line: &str, name: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    code.match_indices(name).any(|(start, _)| {
        let before = code[..start].chars().next_back();
        let after = &code[start + name.len()..];
        let begins = before.is_none_or(|letter| !letter.is_alphanumeric() && letter != '_' && letter != ':');
        begins && (after.starts_with("::") || (code.trim_start().starts_with("use ") && after.starts_with(';')))
    })
}

#[test]
fn an_import_is_told_from_a_mention() {
    assert!(names_crate("use aya::maps::HashMap;", "aya"));
    assert!(names_crate("    let map: aya::maps::MapData = open();", "aya"));
    assert!(!names_crate("// as aya::maps does", "aya"));
    assert!(!names_crate("use crate::aya_like::Map;", "aya"));
    assert!(!names_crate("use core::alloc::Layout;", "alloc"));
}
