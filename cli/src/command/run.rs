//! `run`: a command as an instance of an app, in a network namespace that lives as long as it does.
//!
//! The exit code is the command's own, so netpol's failures share one code of their own, 125, as with other programs
//! that start programs.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::kill;
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::node;
use crate::agent::{Agent, Attached};
use crate::args::RunArgs;
use crate::failure::{Exit, Failure, plain};
use crate::netns::Netns;
use crate::settings::Settings;
use crate::signal::{self, Held, Sender, Signals};
use crate::terminal;

/// netpol itself failed.
pub(crate) const NETPOL_FAILED: Exit = Exit::Passed(125);
/// The command exists but cannot be started.
const CANNOT_START: Exit = Exit::Passed(126);
/// There is no such command.
const NO_SUCH_COMMAND: Exit = Exit::Passed(127);

/// Runs the command and takes the endpoint away when it has ended, however it ended.
pub(crate) async fn run(args: &RunArgs, settings: &Settings) -> Result<Exit, Failure> {
    let mut signals = Signals::new()?;
    let agent = Agent::at(&settings.socket);
    let request = node::request(&args.endpoint)?;
    let netns = Arc::new(Netns::fresh()?);
    let attach = agent.attach(&netns, &request);
    let ended = match attached_or_signalled(attach, &mut signals).await? {
        Begin::Attached(attached) => {
            announce(&attached, settings);
            run_attached(args, &netns, &mut signals).await
        }
        Begin::Signalled(held) => Ok(signal::exit_of(held.signal as i32)),
    };
    if let Err(failure) = agent.detach(&netns).await {
        terminal::warn(&format!("warning: could not detach: {}", failure.brief()));
    }
    ended
}

/// How it begins: with an endpoint, or with the wish to end.
enum Begin {
    Attached(Box<Attached>),
    Signalled(Held),
}

/// Attaches, unless a signal comes first; then the agent may finish what it began, so that detaching finds it.
async fn attached_or_signalled(
    attach: impl Future<Output = Result<Attached, Failure>>,
    signals: &mut Signals,
) -> Result<Begin, Failure> {
    let mut attach = std::pin::pin!(attach);
    tokio::select! {
        biased;
        held = signals.next() => {
            let held = held?;
            let _ = tokio::time::timeout(GRACE, attach).await;
            Ok(Begin::Signalled(held))
        }
        attached = &mut attach => Ok(Begin::Attached(Box::new(attached?))),
    }
}

/// How long a signal may be kept waiting by an attachment that has begun.
const GRACE: Duration = Duration::from_secs(5);

fn announce(attached: &Attached, settings: &Settings) {
    let Attached { app, instance, node, addresses, .. } = attached;
    let addresses = crate::output::phrase::comma(addresses);
    settings.printer.say(&format!("netpol: running as {app}/{instance} on {node}, {addresses}"));
    node::remarks(attached).iter().for_each(|remark| settings.printer.say(&format!("netpol: {remark}")));
}

async fn run_attached(args: &RunArgs, netns: &Arc<Netns>, signals: &mut Signals) -> Result<Exit, Failure> {
    let mut child = match spawn(args, netns) {
        Ok(child) => child,
        Err(error) => return Err(cannot_start(args, &error)),
    };
    loop {
        tokio::select! {
            status = child.wait() => {
                let status = status.map_err(|error| Failure::new(Exit::Unreachable, format!("cannot wait for the command: {error}")))?;
                return Ok(exit_of(status));
            }
            held = signals.next() => pass_on(held?, &child),
        }
    }
}

fn spawn(args: &RunArgs, netns: &Arc<Netns>) -> io::Result<Child> {
    let [program, arguments @ ..] = args.command.as_slice() else {
        return Err(io::Error::new(io::ErrorKind::NotFound, "no command is given"));
    };
    let mut command = Command::new(program);
    command.args(arguments);
    let netns = Arc::clone(netns);
    // SAFETY: between fork and exec only one system call is made, on a descriptor that this closure keeps open; it
    // allocates nothing and takes no lock.
    unsafe { command.pre_exec(move || netns.enter()) };
    command.spawn()
}

fn cannot_start(args: &RunArgs, error: &io::Error) -> Failure {
    let program = args.command.first().map(|program| program.to_string_lossy()).unwrap_or_default();
    let exit = match error.kind() {
        io::ErrorKind::NotFound => NO_SUCH_COMMAND,
        _ => CANNOT_START,
    };
    Failure::new(exit, format!("cannot run `{}`: {}", terminal::printable(&program), plain(error)))
}

fn pass_on(held: Held, child: &Child) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok());
    if let (Sender::Process, Some(pid)) = (held.sender, pid)
        && let Err(errno) = kill(Pid::from_raw(pid), held.signal)
    {
        terminal::warn(&format!("warning: cannot pass {} on to the command: {errno}", held.signal));
    }
}

fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Passed(u8::try_from(code).unwrap_or(u8::MAX)),
        (None, Some(signal)) => signal::exit_of(signal),
        (None, None) => NETPOL_FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_the_commands_own() {
        assert_eq!(exit_of(ExitStatus::from_raw(0)).code(), 0);
        assert_eq!(exit_of(ExitStatus::from_raw(7 << 8)).code(), 7);
        assert_eq!(exit_of(ExitStatus::from_raw(15)).code(), 143);
    }
}
