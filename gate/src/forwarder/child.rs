//! A command beside which a forwarder runs: it finds the proxy in its environment, gets the signals that are sent to the forwarder,
//! and its end is the forwarder's.

use std::{
    ffi::OsString,
    io::{self, stdin},
    os::unix::process::ExitStatusExt as _,
    process::ExitStatus,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, getpgrp, tcgetpgrp},
};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tracing::warn;

use super::options::TOKEN_VARIABLE;

/// The exit codes of what was never the command's own, as of other programs that start programs.
pub(super) const FAILED: u8 = 125;
const CANNOT_START: u8 = 126;
const NO_SUCH_COMMAND: u8 = 127;

/// Where the command finds the proxy.
pub(super) struct Environment {
    pub(super) proxy: String,
    /// Whether tunnels go anywhere: without, a client of https would only be refused.
    pub(super) tunnels: bool,
}

/// Runs the command to its end and returns its code.
pub(super) async fn run(command: &[OsString], environment: &Environment) -> Result<u8, (u8, String)> {
    let [program, arguments @ ..] = command else { return Err((FAILED, "no command is given".to_owned())) };
    let mut signals = signals().map_err(|error| (FAILED, format!("cannot receive signals: {error}")))?;
    let cannot_start = |error: io::Error| {
        let code = if error.kind() == io::ErrorKind::NotFound { NO_SUCH_COMMAND } else { CANNOT_START };
        (code, format!("cannot run `{}`: {error}", program.to_string_lossy().escape_debug()))
    };
    let mut child = Command::new(program);
    // The command needs no secret: that is what the forwarder is for.
    child.args(arguments).envs(environment.variables()).env_remove(TOKEN_VARIABLE);
    let mut child = child.spawn().map_err(cannot_start)?;
    loop {
        tokio::select! {
            ended = child.wait() => {
                return ended.map(code_of).map_err(|error| (FAILED, format!("cannot wait for the command: {error}")));
            }
            Some(signal) = signals.recv() => pass_on(signal, &child),
        }
    }
}

impl Environment {
    fn variables(&self) -> Vec<(&'static str, &str)> {
        let http = ["http_proxy", "HTTP_PROXY"].map(|name| (name, self.proxy.as_str()));
        let https = ["https_proxy", "HTTPS_PROXY"].map(|name| (name, self.proxy.as_str()));
        http.into_iter().chain(https.into_iter().filter(|_| self.tunnels)).collect()
    }
}

/// Every signal that is passed on, as it comes.
fn signals() -> io::Result<mpsc::Receiver<Signal>> {
    let passed = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2];
    let (sender, receiver) = mpsc::channel(passed.len());
    for kind in passed {
        let mut stream = signal(SignalKind::from_raw(kind as i32))?;
        let sender = sender.clone();
        tokio::spawn(async move { while stream.recv().await.is_some() && sender.send(kind).await.is_ok() {} });
    }
    Ok(receiver)
}

fn pass_on(signal: Signal, child: &Child) {
    // What a terminal sends goes to the whole group that is in front of it, so the command has it already.
    let of_terminal = matches!(signal, Signal::SIGINT | Signal::SIGQUIT);
    let in_front = tcgetpgrp(stdin()).is_ok_and(|front| front == getpgrp());
    let pid = child.id().and_then(|id| i32::try_from(id).ok());
    if let (false, Some(pid)) = (of_terminal && in_front, pid)
        && let Err(errno) = kill(Pid::from_raw(pid), signal)
    {
        warn!(%errno, %signal, "a signal is not passed on to the command");
    }
}

/// Its own, or 128 and the signal that ended it, as shells count.
fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILED)
}
