//! A real binary that runs in the background, with its log in a file.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::patience::{PATIENCE, await_some, await_that};

/// What a test may want to read of a log when it has failed.
const TAIL: usize = 60;

#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts `command` with both its outputs appended to `directory/name.log`.
    pub fn start(name: &str, command: &mut Command, directory: &Path) -> Result<Self> {
        Self::start_with(Stdio::null(), name, command, directory)
    }

    /// Starts `command` as systemd does that listens for it, with the socket as descriptor 3.
    pub fn start_listening(socket: &TcpListener, name: &str, command: &Command, directory: &Path) -> Result<Self> {
        const ACTIVATE: &str = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\"";
        let socket = OwnedFd::from(socket.try_clone().context("share the socket")?);
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(ACTIVATE).arg(command.get_program()).args(command.get_args());
        Self::start_with(socket.into(), name, &mut shell, directory)
    }

    fn start_with(input: Stdio, name: &str, command: &mut Command, directory: &Path) -> Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let file =
            File::options().create(true).append(true).open(&log).with_context(|| format!("open {}", log.display()))?;
        let child = command
            .env("NO_COLOR", "1")
            // Of a panic its message matters, which a stack would push out of the last lines.
            .env("RUST_BACKTRACE", "0")
            .stdin(input)
            .stdout(file.try_clone().context("share the log file")?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("start {name}: {command:?}"))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Waits until `look` sees it at work, or says what the daemon said if it ended instead.
    pub fn await_ready(&mut self, mut look: impl FnMut() -> Result<bool>) -> Result<()> {
        let what = format!("{} to be ready", self.name);
        let ended = await_some(&what, PATIENCE, || match self.child.try_wait()? {
            Some(status) => Ok(Some(Some(status))),
            None => look().map(|ready| ready.then_some(None)),
        })
        .with_context(|| self.log_tail())?;
        match ended {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status} before it was ready\n{}", self.name, self.log_tail()),
        }
    }

    pub fn process(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(TAIL);
        format!("--- last lines of {} ---\n{}\n", self.name, lines[from..].join("\n"))
    }

    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Waits until it has ended by itself, and well.
    pub fn await_end(&mut self) -> Result<()> {
        let what = format!("{} to end", self.name);
        let status = await_some(&what, PATIENCE, || Ok(self.child.try_wait()?)).with_context(|| self.log_tail())?;
        ensure!(status.success(), "{} ended with {status}\n{}", self.name, self.log_tail());
        Ok(())
    }

    /// Kill -9: no chance to tidy up.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().with_context(|| format!("kill {}", self.name))?;
        self.child.wait().map(drop).with_context(|| format!("await the end of {}", self.name))
    }

    /// Asks it to stop and waits for its end.
    pub fn terminate(&mut self) -> Result<()> {
        let pid = i32::try_from(self.child.id()).context("a process id fits")?;
        kill(Pid::from_raw(pid), Signal::SIGTERM).with_context(|| format!("stop {}", self.name))?;
        const STOPPING: Duration = Duration::from_secs(10);
        let what = format!("{} to stop", self.name);
        await_that(&what, STOPPING, || Ok(self.child.try_wait()?.is_some())).with_context(|| self.log_tail())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Already gone is as good.
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}
