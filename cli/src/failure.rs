//! How a command ends: the exit codes of the contract, and the one error type that carries them.
//!
//! Everything that can go wrong becomes a [`Failure`] where it is understood best; `main` only prints it.

use std::fmt;
use std::io;
use std::process::ExitCode;

/// The exit codes that scripts may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Yes, done, or nothing to do.
    Ok,
    /// The answer is no: denied, not found.
    No,
    /// The input is wrong.
    Usage,
    /// The token or the user may not do this.
    NotPermitted,
    /// The API or the node's agent cannot be reached, or cannot answer.
    Unreachable,
    /// Waited as long as was asked for.
    TimedOut,
    /// What was asked contradicts what stands.
    Conflict,
    /// A code that is not netpol's own: that of the command under `netpol run`, or of a signal.
    Passed(u8),
}

impl Exit {
    /// Returns the number the process ends with.
    pub(crate) fn code(self) -> u8 {
        match self {
            Exit::Ok => 0,
            Exit::No => 1,
            Exit::Usage => 2,
            Exit::NotPermitted => 3,
            Exit::Unreachable => 4,
            Exit::TimedOut => 5,
            Exit::Conflict => 6,
            Exit::Passed(code) => code,
        }
    }

    /// Returns the meaning of an HTTP status that is not a success.
    pub(crate) fn from_status(status: u16) -> Self {
        match status {
            404 => Exit::No,
            401 | 403 => Exit::NotPermitted,
            408 | 504 => Exit::TimedOut,
            429 => Exit::Unreachable,
            409 | 412 => Exit::Conflict,
            400..=499 => Exit::Usage,
            _ => Exit::Unreachable,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

/// Why a command could not give its answer.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    /// `None` where there is nobody left to tell: the reader of our output went away.
    message: Option<String>,
    tips: Vec<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: Some(message.into()), tips: Vec::new() }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Adds a line that says what to do about it.
    pub(crate) fn tip(mut self, tip: impl Into<String>) -> Self {
        self.tips.push(tip.into());
        self
    }

    /// Adds a tip if there is one.
    pub(crate) fn maybe_tip(self, tip: Option<String>) -> Self {
        match tip {
            Some(tip) => self.tip(tip),
            None => self,
        }
    }

    /// Says first what was being done.
    pub(crate) fn during(mut self, doing: &str) -> Self {
        self.message = self.message.map(|message| format!("{doing}: {message}"));
        self
    }

    /// Returns what went wrong, for a place that goes on nevertheless.
    pub(crate) fn brief(&self) -> &str {
        self.message.as_deref().unwrap_or_default()
    }

    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// True if there is something to print.
    pub(crate) fn is_audible(&self) -> bool {
        self.message.is_some()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.brief())?;
        for tip in &self.tips {
            write!(f, "\n  tip: {tip}")?;
        }
        Ok(())
    }
}

/// What an IO error says, without the number that tells a reader nothing more.
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let end = text.rfind(" (os error ").unwrap_or(text.len());
    text[..end].to_owned()
}

/// Failing to write our own output. A reader that has seen enough (`| head`) is no failure.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self { exit: Exit::Ok, message: None, tips: Vec::new() };
        }
        Self::new(Exit::Passed(74), format!("cannot write the output: {}", plain(&error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_the_contract() {
        let all =
            [Exit::Ok, Exit::No, Exit::Usage, Exit::NotPermitted, Exit::Unreachable, Exit::TimedOut, Exit::Conflict];
        assert_eq!(all.map(Exit::code), [0, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn a_closed_pipe_is_the_end_and_no_failure() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(failure.exit() == Exit::Ok && !failure.is_audible());
        let full = Failure::from(io::Error::from(io::ErrorKind::StorageFull));
        assert!(full.exit() != Exit::Ok && full.is_audible());
    }

    #[test]
    fn a_failure_says_what_and_then_what_to_do() {
        let failure = Failure::usage("`x` is wrong").tip("write y").during("reading z");
        assert_eq!(failure.to_string(), "error: reading z: `x` is wrong\n  tip: write y");
        assert_eq!(plain(&io::Error::from_raw_os_error(libc::ENOENT)), "No such file or directory");
    }
}
