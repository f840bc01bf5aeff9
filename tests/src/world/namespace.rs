//! A named network namespace, and code that runs inside it.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

/// Where `ip netns` looks for names.
const DIRECTORY: &str = "/run/netns";

#[derive(Debug)]
pub struct Namespace {
    name: String,
    file: File,
}

impl Namespace {
    /// Makes the namespace under a name that `ip -n` and `nsenter` understand, loopback up.
    pub fn create(name: &str) -> Result<Self> {
        let path = Path::new(DIRECTORY).join(name);
        File::create_new(&path).with_context(|| format!("make {}", path.display()))?;
        std::thread::scope(|scope| scope.spawn(|| pin_new_namespace(&path)).join())
            .expect("the thread only makes system calls")
            .with_context(|| format!("make network namespace {name}"))?;
        let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        let namespace = Self { name: name.to_owned(), file };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn path(&self) -> PathBuf {
        Path::new(DIRECTORY).join(&self.name)
    }

    /// Moves the calling thread inside for the rest of its life; sockets it opens belong here.
    pub fn enter(&self) -> Result<()> {
        setns(&self.file, CloneFlags::CLONE_NEWNET).with_context(|| format!("enter network namespace {}", self.name))
    }

    /// Runs `work` on a thread of its own inside; what it opens may be used anywhere afterwards.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let run = || {
            self.enter()?;
            work()
        };
        std::thread::scope(|scope| match scope.spawn(run).join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// A command that runs inside, with all mounts kept (`ip netns exec` would hide the pinned programs).
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program.as_ref());
        command
    }

    /// Runs lines of `ip` inside.
    pub fn ip(&self, lines: &str) -> Result<()> {
        let mut command = Command::new("ip");
        command.args(["-n", &self.name, "-batch", "-"]);
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().context("start ip")?;
        let mut input = child.stdin.take().expect("standard input was piped just above");
        input.write_all(lines.as_bytes()).context("write to ip")?;
        drop(input);
        let output = child.wait_with_output().context("await ip")?;
        ensure!(
            output.status.success(),
            "in network namespace {}: {}\nof these lines of ip:\n{lines}",
            self.name,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }

    /// The MAC address of an interface inside.
    pub fn mac(&self, interface: &str) -> Result<[u8; 6]> {
        let output = Command::new("ip").args(["-n", &self.name, "-json", "link", "show", interface]).output()?;
        let links: serde_json::Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{}: {}", self.name, String::from_utf8_lossy(&output.stderr).trim()))?;
        let Some(text) = links.pointer("/0/address").and_then(serde_json::Value::as_str) else {
            bail!("interface {interface} of {} has no address", self.name);
        };
        parse_mac(text).with_context(|| format!("`{text}` is no MAC address"))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let path = self.path();
        // What cannot be removed goes with the sandbox.
        umount2(&path, MntFlags::MNT_DETACH).unwrap_or_default();
        fs::remove_file(&path).unwrap_or_default();
    }
}

/// Leaves the calling thread in a new namespace that lives on under `path`.
fn pin_new_namespace(path: &Path) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    mount(Some("/proc/thread-self/ns/net"), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    Ok(())
}

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let bytes: Vec<u8> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect::<Option<_>>()?;
    bytes.try_into().ok()
}
