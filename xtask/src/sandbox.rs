//! Namespaces of our own around whatever touches the kernel: mounts, networks, processes.
//!
//! Everything made inside (named network namespaces, pins, daemons) lives only as long as the sandbox's
//! first process, and that one dies with xtask: nothing has to be cleaned up, not even after kill -9.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::progress::Failure;
use crate::workspace;

/// Runs as process 1 of the sandbox, then waits for the command it is given.
///
/// `/run` is covered as a whole, so that no mount point has to be made on the machine itself. The shell
/// stays process 1: it takes over the orphans of killed daemons, which the command could not.
const PROLOGUE: &str = r#"
set -eu
mount -t tmpfs -o mode=0755 tmpfs /run
mkdir -m 0755 /run/netns /run/lock
mkdir -m 0700 /run/netpol
mount -t bpf -o mode=0700 bpf /sys/fs/bpf
ip link set lo up
"$@" || exit $?
exit 0
"#;

/// A command that runs in a new sandbox; its scratch directory goes when this value does.
pub(crate) struct Sandbox {
    pub(crate) command: Command,
    _scratch: Scratch,
}

/// Wraps `program`; add its arguments to the returned command.
pub(crate) fn around(program: &Path) -> Result<Sandbox, Failure> {
    if !workspace::is_root() {
        return Err(Failure::new(
            "sandbox",
            "network namespaces and eBPF programs need root",
            "run this command as root",
        ));
    }
    let scratch = Scratch::create()?;
    let mut command = workspace::command("setpriv");
    // The kernel kills `unshare` when we die, by whatever means, and `unshare` takes process 1 along.
    command.args(["--pdeathsig", "KILL", "unshare"]);
    command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]);
    command.args(["sh", "-c", PROLOGUE, "sandbox"]).arg(program);
    // An error of a test says where it stands by its contexts; a stack of the test runner's frames hides them.
    command.env("RUST_LIB_BACKTRACE", "0");
    command.env("NETPOL_SANDBOX", "1").env("NETPOL_SANDBOX_DIR", &scratch.0).env("PATH", search_path());
    Ok(Sandbox { command, _scratch: scratch })
}

/// Login shells of plain users lack the directories where `ip` and `tcpdump` live.
fn search_path() -> String {
    let inherited = std::env::var("PATH").unwrap_or_default();
    format!("{inherited}:/usr/sbin:/sbin:/usr/bin:/bin")
}

/// A directory on a real disk, for stores that sync and logs that are read; named after our process.
struct Scratch(PathBuf);

impl Scratch {
    fn create() -> Result<Self, Failure> {
        let parent = workspace::target().join("sandbox");
        sweep(&parent);
        let path = parent.join(std::process::id().to_string());
        fs::create_dir_all(&path).map_err(|error| {
            Failure::new("sandbox", format!("{}: {error}", path.display()), "make target/ writable")
        })?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left over is swept by the next run.
        fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

/// Removes directories of runs that were killed.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let owner = Path::new("/proc").join(entry.file_name());
        if !owner.exists() {
            fs::remove_dir_all(entry.path()).unwrap_or_default();
        }
    }
}
