//! Commands about the program itself.

use clap::CommandFactory;
use serde::Serialize;

use crate::args::{Cli, CompletionArgs};
use crate::failure::{Exit, Failure};
use crate::output::{Answer, Detail};
use crate::settings::Settings;
use crate::terminal::Look;

/// Prints the completion script of a shell.
pub(crate) fn completion(args: &CompletionArgs, settings: &Settings) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "netpol", &mut script);
    settings.printer.terminal.data(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Ok)
}

/// Prints the version.
pub(crate) fn version(settings: &Settings) -> Result<Exit, Failure> {
    settings.printer.answer(&Version { version: env!("CARGO_PKG_VERSION") })?;
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Version {
    version: &'static str,
}

impl Answer for Version {
    fn text(&self, _: &Look, _: Detail) -> String {
        format!("netpol {}", self.version)
    }

    fn name(&self) -> String {
        self.version.to_owned()
    }
}
