//! Where output goes and how it may look: data on stdout, talk on stderr.
//!
//! Nothing here knows what is printed. All writing of the program passes through this file, so that a closed pipe
//! is met in one place and never as a panic.

use std::env;
use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;

use crate::failure::Failure;

/// When to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ColorChoice {
    /// Where stdout is a terminal and NO_COLOR is not set.
    #[default]
    Auto,
    Always,
    Never,
}

/// Whether notes and hints are wanted beside the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Talk {
    Normal,
    Quiet,
}

/// What a table may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// Columns of the terminal; `None` where stdout is none and lines may be as long as they like.
    pub(crate) width: Option<u16>,
    pub(crate) color: bool,
    pub(crate) headers: bool,
}

/// The process's two outputs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terminal {
    pub(crate) look: Look,
    pub(crate) talk: Talk,
    /// True if stdout is a screen that can be redrawn.
    pub(crate) interactive: bool,
}

impl Terminal {
    /// Looks at the process's own stdout and environment.
    pub(crate) fn detect(color: ColorChoice, headers: bool, talk: Talk) -> Self {
        let interactive = io::stdout().is_terminal();
        let width = terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| width.0);
        let color = match color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => interactive && environment_likes_color(),
        };
        Self { look: Look { width: width.filter(|_| interactive), color, headers }, talk, interactive }
    }

    /// Prints data.
    pub(crate) fn data(&self, text: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        if !text.is_empty() && !text.ends_with('\n') {
            stdout.write_all(b"\n")?;
        }
        Ok(stdout.flush()?)
    }

    /// Empties the screen before a table is drawn again; does nothing on a pipe.
    pub(crate) fn clear(&self) -> Result<(), Failure> {
        if self.interactive {
            self.data("\x1b[H\x1b[J")?;
        }
        Ok(())
    }

    /// Prints a line for the person at the terminal, unless `-q` is given.
    pub(crate) fn say(&self, line: &str) {
        match self.talk {
            Talk::Normal => warn(line),
            Talk::Quiet => {}
        }
    }
}

/// Prints a line on stderr whatever was asked: errors and what must not be missed.
pub(crate) fn warn(line: &str) {
    // With stderr gone there is nobody to tell, and nothing else to do about it.
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Asks the person at the terminal for something, on the same line.
pub(crate) fn prompt(text: &str) {
    // As for a warning: with stderr gone there is nobody to ask.
    let _ = write!(io::stderr().lock(), "{text}").and_then(|()| io::stderr().flush());
}

fn environment_likes_color() -> bool {
    let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
    !refused && !dumb
}

/// Makes text from elsewhere safe to show: control characters could redraw the reader's terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn text_from_elsewhere_cannot_move_the_cursor() {
        assert_eq!(printable("a\x1b[2Jb\nc"), "a\u{fffd}[2Jb\u{fffd}c");
        assert_eq!(printable("CHG-118 größer"), "CHG-118 größer");
    }
}
