//! What the tests share: the real `netpol`, run as a user runs it, and what it said.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

pub(crate) mod agent;
pub(crate) mod api;
pub(crate) mod events;

/// The binary under test.
pub(crate) const NETPOL: &str = env!("CARGO_BIN_EXE_netpol");

/// A user's shell: a directory of their own and the environment of one connection.
pub(crate) struct Shell {
    pub(crate) dir: TempDir,
    environment: Vec<(String, String)>,
}

/// What a command left behind.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Shell {
    /// A shell that knows no API and no agent.
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().expect("a directory");
        let nowhere = dir.path().join("nowhere.sock");
        let mut shell = Self { dir, environment: Vec::new() };
        shell.set("NETPOL_CONFIG", "/dev/null");
        shell.set("NETPOL_SOCKET", &nowhere.to_string_lossy());
        shell
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// `netpol`, ready to be given arguments.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(NETPOL);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("NETPOL_") {
                command.env_remove(name);
            }
        }
        command.env_remove("NO_COLOR").envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null());
        command
    }

    /// Types a line; words are separated by spaces, so values have none.
    pub(crate) fn netpol(&self, line: &str) -> Said {
        self.run(line.split_whitespace())
    }

    pub(crate) fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Said {
        self.command().args(arguments).output().expect("netpol starts").into()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).expect("text"),
            stderr: String::from_utf8(output.stderr).expect("text"),
        }
    }
}

impl Said {
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub(crate) fn prints(self, part: &str) -> Self {
        assert!(self.stdout.contains(part), "stdout has no `{part}`:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Says it to the person, on stderr.
    #[track_caller]
    pub(crate) fn tells(self, part: &str) -> Self {
        assert!(self.stderr.contains(part), "stderr has no `{part}`:\n{}\nstdout:\n{}", self.stderr, self.stdout);
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        let json: serde_json::Value = serde_json::from_str(&self.stdout).expect("stdout is one JSON document");
        assert_eq!(json["apiVersion"], "netpol/v1");
        json
    }
}

/// Waits for something that another process does, and fails the test if it never comes.
#[track_caller]
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !done() {
        assert!(std::time::Instant::now() < deadline, "never: {what}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

pub(crate) fn exists(path: &Path) -> bool {
    path.exists()
}
