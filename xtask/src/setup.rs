//! `cargo xtask setup`: what building and running needs beyond a toolchain. Does nothing when nothing is missing.
//!
//! The BPF linker must speak the bitcode of the compiler that feeds it, so it is built against the very
//! libLLVM that the pinned toolchain ships, and again whenever that library or the checkout moves.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::progress::{self, Failure};
use crate::workspace;

const BPF_LINKER: &str = "0.13.0";
const CARGO_FUZZ: &str = "0.13.2";
const SCHEMATHESIS: &str = "4.32.5";

/// Debian packages: namespaces and traffic for tests, captures, peers for benches; what compiles etcd's protocol;
/// what asks the API by its description.
const PACKAGES: [&str; 13] = [
    "iproute2",
    "iputils-ping",
    "iputils-arping",
    "tcpdump",
    "netcat-openbsd",
    "iperf3",
    "util-linux",
    "iptables",
    "nftables",
    "protobuf-compiler",
    "libprotobuf-dev",
    "python3-venv",
    "wrk",
];

/// Debian packages of which the program alone is used, unpacked: they themselves would start a service on this machine. For tests
/// of stores in etcd, and for the gatekeeper's bench.
const PROGRAMS: [Program; 2] =
    [Program { package: "etcd-server", path: "usr/bin/etcd" }, Program { package: "nginx", path: "usr/sbin/nginx" }];

/// A program and the package that it lies in.
struct Program {
    package: &'static str,
    path: &'static str,
}

const RUSTUP: &str = "install rustup and the toolchain that rust-toolchain.toml names";
const APT: &str = "on Debian, as root, `apt-get update` and `apt-get install` the packages named above";

pub(crate) fn run() -> Result<(), Failure> {
    let toolchain = Toolchain::of_checkout()?;
    rust_src(&toolchain)?;
    bpf_linker(&toolchain)?;
    packages()?;
    PROGRAMS.iter().try_for_each(program)
}

/// Adds components of the pinned toolchain that are not there yet.
pub(crate) fn components(names: &[&str]) -> Result<(), Failure> {
    let toolchain = Toolchain::of_checkout()?;
    for name in names {
        let program = match *name {
            "clippy" => "bin/cargo-clippy",
            other => &format!("bin/{other}"),
        };
        if !toolchain.sysroot.join(program).exists() {
            add_component(name)?;
        }
    }
    Ok(())
}

fn add_component(name: &str) -> Result<(), Failure> {
    let mut command = workspace::command("rustup");
    progress::step(&format!("install {name}"), command.args(["component", "add", name]), RUSTUP).map(drop)
}

/// The compiler that builds this checkout, and the LLVM inside it.
struct Toolchain {
    sysroot: PathBuf,
    llvm_version: String,
}

impl Toolchain {
    fn of_checkout() -> Result<Self, Failure> {
        let sysroot = ask_rustc(&["--print", "sysroot"])?.trim().into();
        let version = ask_rustc(&["-vV"])?;
        let llvm_version = version.lines().find_map(|line| line.strip_prefix("LLVM version: "));
        let Some(llvm_version) = llvm_version else {
            return Err(Failure::new(
                "setup",
                version.clone(),
                "this compiler names no LLVM version; use the pinned one",
            ));
        };
        Ok(Self { sysroot, llvm_version: llvm_version.to_owned() })
    }

    fn llvm_major(&self) -> &str {
        self.llvm_version.split('.').next().unwrap_or(&self.llvm_version)
    }

    /// Its name carries version and channel, `libLLVM.so.22.1-rust-1.95.0-stable`.
    fn llvm_library(&self) -> Result<PathBuf, Failure> {
        let directory = self.sysroot.join("lib");
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        let found = entries.map(|entry| entry.path()).find(|path| file_name(path).starts_with("libLLVM.so."));
        found.ok_or_else(|| Failure::new("setup", format!("no libLLVM.so.* in {}", directory.display()), RUSTUP))
    }
}

/// What feeds what reads bytes of others with anything.
pub(crate) fn cargo_fuzz() -> Result<PathBuf, Failure> {
    let tools = workspace::tools();
    let program = tools.join("bin/cargo-fuzz");
    if program.exists() {
        return Ok(program);
    }
    let mut install = workspace::command("cargo");
    install.args(["install", "cargo-fuzz", "--version", CARGO_FUZZ, "--locked", "--root"]).arg(&tools);
    progress::step("install cargo-fuzz", &mut install, "it is built from the package registry")?;
    Ok(program)
}

/// What asks the API by its description; from Python's registry, in an environment of its own.
pub(crate) fn schemathesis() -> Result<PathBuf, Failure> {
    let environment = workspace::tools().join(format!("schemathesis-{SCHEMATHESIS}"));
    let program = environment.join("bin/schemathesis");
    if program.exists() {
        return Ok(program);
    }
    let remedy = "python3 with its venv module is needed, and Python's package registry";
    progress::step(
        "make a Python environment",
        workspace::command("python3").args(["-m", "venv"]).arg(&environment),
        remedy,
    )?;
    let mut install = workspace::command(&environment.join("bin/pip").to_string_lossy());
    install.args(["install", "--quiet", "--disable-pip-version-check", &format!("schemathesis=={SCHEMATHESIS}")]);
    progress::step("install schemathesis", &mut install, remedy)?;
    Ok(program)
}

fn ask_rustc(arguments: &[&str]) -> Result<String, Failure> {
    let answer = workspace::command("rustc").args(arguments).output();
    match answer {
        Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(output) => Err(Failure::new("setup", String::from_utf8_lossy(&output.stderr), RUSTUP)),
        Err(error) => Err(Failure::new("setup", format!("rustc: {error}"), RUSTUP)),
    }
}

fn rust_src(toolchain: &Toolchain) -> Result<(), Failure> {
    let core = toolchain.sysroot.join("lib/rustlib/src/rust/library/core");
    if core.exists() { Ok(()) } else { add_component("rust-src") }
}

fn bpf_linker(toolchain: &Toolchain) -> Result<(), Failure> {
    let tools = workspace::tools();
    let library = toolchain.llvm_library()?;
    let stamp = tools.join("stamp");
    // The linker stores the absolute path of .tools/llvm/lib and finds its LLVM there.
    let wanted =
        format!("bpf-linker {BPF_LINKER}\n{}\n{}\n{}\n", toolchain.llvm_version, library.display(), tools.display());
    let current = fs::read_to_string(&stamp).is_ok_and(|found| found == wanted);
    if current && tools.join("bin/bpf-linker").exists() {
        return Ok(());
    }
    link_library(&library, &tools)
        .map_err(|error| Failure::new("setup", error.to_string(), "make .tools/ writable"))?;
    build_linker(toolchain, &tools)?;
    fs::write(&stamp, wanted).map_err(|error| Failure::new("setup", error.to_string(), "make .tools/ writable"))
}

fn link_library(library: &Path, tools: &Path) -> std::io::Result<()> {
    let directory = tools.join("llvm/lib");
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    fs::create_dir_all(&directory)?;
    symlink(library, directory.join("libLLVM.so"))?;
    symlink(library, directory.join(file_name(library)))
}

fn build_linker(toolchain: &Toolchain, tools: &Path) -> Result<(), Failure> {
    let mut command = workspace::command("cargo");
    command.args(["install", "bpf-linker", "--version", BPF_LINKER, "--locked", "--force", "--no-default-features"]);
    command.arg("--features").arg(format!("llvm-{}", toolchain.llvm_major()));
    command.arg("--root").arg(tools).env("LLVM_PREFIX", tools.join("llvm"));
    // A private directory: the shared one may be locked by a build that waits for this linker.
    command.env("CARGO_TARGET_DIR", tools.join("build"));
    // It links for seconds, most of them in LLVM, but is compiled for more than a minute.
    command.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1").env("CARGO_PROFILE_RELEASE_LTO", "off");
    progress::step(
        "install bpf-linker",
        &mut command,
        "it is built from the package registry with a C++ linker; are both there?",
    )?;
    fs::remove_dir_all(tools.join("build"))
        .map_err(|error| Failure::new("install bpf-linker", error.to_string(), "remove .tools/build by hand"))
}

fn packages() -> Result<(), Failure> {
    let missing: Vec<&str> = PACKAGES.into_iter().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !workspace::is_root() {
        return Err(Failure::new("setup", format!("missing: {}", missing.join(", ")), APT));
    }
    update_package_lists()?;
    let mut install = apt_get();
    install.args(["install", "-y", "--no-install-recommends"]).args(&missing);
    progress::step(&format!("install {}", missing.join(" ")), &mut install, APT).map(drop)
}

fn program(program: &Program) -> Result<(), Failure> {
    let Program { package, path } = program;
    let (tools, inside) = (workspace::tools(), Path::new(path));
    let (installed, unpacked) = (tools.join("bin").join(file_name(inside)), tools.join(package));
    if installed.exists() {
        return Ok(());
    }
    let writable = |error: std::io::Error| Failure::new("setup", error.to_string(), "make .tools/ writable");
    if unpacked.exists() {
        fs::remove_dir_all(&unpacked).map_err(writable)?;
    }
    fs::create_dir_all(&unpacked).map_err(writable)?;
    if workspace::is_root() {
        update_package_lists()?;
    }
    let mut download = apt_get();
    download.args(["download", package]).current_dir(&unpacked);
    progress::step(&format!("download {package}"), &mut download, APT)?;
    let packages = fs::read_dir(&unpacked).map_err(writable)?.flatten().map(|entry| entry.path());
    for package_file in packages {
        let mut unpack = workspace::command("dpkg-deb");
        progress::step(&format!("unpack {package}"), unpack.arg("-x").arg(package_file).arg(&unpacked), APT)?;
    }
    fs::create_dir_all(tools.join("bin")).map_err(writable)?;
    fs::rename(unpacked.join(inside), &installed).map_err(writable)?;
    fs::remove_dir_all(&unpacked).map_err(writable)
}

fn is_installed(package: &str) -> bool {
    let query = workspace::command("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]).output();
    query.is_ok_and(|answer| answer.stdout == b"installed")
}

/// The lock on package lists knows no time-out of its own, unlike the one on the packages.
fn update_package_lists() -> Result<(), Failure> {
    const ATTEMPTS: u32 = 6;
    for _ in 1..ATTEMPTS {
        match progress::step("update package lists", apt_get().arg("update"), APT) {
            Ok(_) => return Ok(()),
            Err(_) => std::thread::sleep(Duration::from_secs(10)),
        }
    }
    progress::step("update package lists", apt_get().arg("update"), APT).map(drop)
}

fn apt_get() -> std::process::Command {
    let mut command = workspace::command("apt-get");
    command.args(["-q", "-o", "DPkg::Lock::Timeout=120"]).env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
