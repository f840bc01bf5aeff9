//! Signals: a Ctrl-C that ends waiting, and signals that `netpol run` passes on.
//!
//! What the terminal sends (Ctrl-C, Ctrl-\) goes to the whole foreground group, so the command under `run` has it
//! already; only what another process sent to us alone is passed on.

use std::io;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::failure::{Exit, Failure};

/// The signals that end or steer a command.
const HELD: [Signal; 6] =
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// The exit code of a command that Ctrl-C ended, as shells count.
pub(crate) const INTERRUPTED: Exit = Exit::Passed(130);

/// Blocks the held signals in this thread and all it will start, so that [`Signals`] receives them.
pub(crate) fn hold() -> Result<(), Failure> {
    held().thread_block().map_err(|errno| cannot(errno.into()))
}

/// A signal that was held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) signal: Signal,
    pub(crate) sender: Sender,
}

/// Who sent a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    /// The kernel, on behalf of the terminal: every process of the group has received it.
    Terminal,
    /// A process, to us alone.
    Process,
}

/// The held signals, one after the other.
#[derive(Debug)]
pub(crate) struct Signals(AsyncFd<SignalFd>);

impl Signals {
    /// Needs [`hold`] to have been called before.
    pub(crate) fn new() -> Result<Self, Failure> {
        let fd = SignalFd::with_flags(&held(), SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
            .map_err(|errno| cannot(errno.into()))?;
        // SAFETY: the descriptor is open, `SignalFd` owns it until it is dropped, and never exchanges it for another.
        let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        registered.map(Self).map_err(|refused| cannot(refused.into_parts().1))
    }

    /// Waits for the next one. May be dropped and called again without losing any.
    pub(crate) async fn next(&mut self) -> io::Result<Held> {
        loop {
            let mut ready = self.0.readable_mut().await?;
            match ready.get_inner_mut().read_signal()? {
                None => ready.clear_ready(),
                Some(info) => {
                    let number = i32::try_from(info.ssi_signo).map_err(io::Error::other)?;
                    let terminal = info.ssi_code == libc::SI_KERNEL;
                    return Ok(Held {
                        signal: Signal::try_from(number)?,
                        sender: if terminal { Sender::Terminal } else { Sender::Process },
                    });
                }
            }
        }
    }
}

/// Waits for Ctrl-C.
pub(crate) async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        // Without a handler the signal ends us the usual way, and there is nothing to wait for here.
        std::future::pending::<()>().await;
    }
}

/// The exit code of a command that a signal ended, as shells count.
pub(crate) fn exit_of(signal: i32) -> Exit {
    Exit::Passed(u8::try_from(128 + signal).unwrap_or(u8::MAX))
}

fn held() -> SigSet {
    HELD.into_iter().collect()
}

fn cannot(error: io::Error) -> Failure {
    Failure::new(Exit::Unreachable, format!("cannot receive signals: {error}"))
}
