//! Commands about the program itself.

use clap::CommandFactory;
use policy_api::model::nearest_name;
use serde::Serialize;

use crate::args::{Cli, CompletionArgs, HelpArgs, help};
use crate::failure::{Exit, Failure};
use crate::output::{Answer, Detail};
use crate::settings::Settings;
use crate::terminal::{Look, printable};

/// Prints the completion script of a shell.
pub(crate) fn completion(args: &CompletionArgs, settings: &Settings) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "netpol", &mut script);
    settings.printer.terminal.data(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Ok)
}

/// Explains a command, a topic, or shows all commands.
pub(crate) fn help(args: &HelpArgs, settings: &Settings) -> Result<Exit, Failure> {
    let terminal = settings.printer.terminal;
    let mut all = Cli::command();
    all.build();
    let styled = match args.topic.as_deref() {
        Some(help::CONNECTION_TOPIC) => {
            terminal.data(help::CONNECTION)?;
            return Ok(Exit::Ok);
        }
        Some(topic) => match all.find_subcommand_mut(topic) {
            Some(command) => command.render_help(),
            None => return Err(no_topic(topic, &all)),
        },
        None => all.render_help(),
    };
    let text = if terminal.look.color { styled.ansi().to_string() } else { styled.to_string() };
    terminal.data(&text)?;
    Ok(Exit::Ok)
}

fn no_topic(topic: &str, all: &clap::Command) -> Failure {
    let topics = all.get_subcommands().map(clap::Command::get_name).chain([help::CONNECTION_TOPIC]);
    let tip = nearest_name(topic, topics).map(|near| format!("did you mean `{near}`?"));
    Failure::usage(format!("there is no command or topic `{}`", printable(topic))).maybe_tip(tip)
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
