//! `netpol`: the command line of the identity firewall.
//!
//! Text becomes the model's types (`args`), goes to the policy API or to the local agent (`command`), and comes back as
//! a table or JSON (`output`). What rules mean is none of this crate's business.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{ColorChoice, CommandFactory, FromArgMatches};

mod agent;
mod args;
mod command;
mod failure;
mod netns;
mod output;
mod settings;
mod signal;
mod terminal;

use args::{Cli, Command};
use failure::{Exit, Failure};
use settings::{Environment, Settings};

fn main() -> ExitCode {
    let cli = match parse() {
        Ok(cli) => cli,
        Err(refused) => {
            // A closed pipe leaves nobody to read the help or the refusal.
            let _ = refused.print();
            return ExitCode::from(u8::try_from(refused.exit_code()).unwrap_or(Exit::Usage.code()));
        }
    };
    let own_failures = command::exit_of_failures(&cli.command);
    run(&cli)
        .unwrap_or_else(|failure| {
            if failure.is_audible() {
                terminal::warn(&failure.to_string());
            }
            own_failures(failure.exit())
        })
        .into()
}

fn parse() -> Result<Cli, clap::Error> {
    let matches = Cli::command().color(color_of_help(std::env::args_os())).try_get_matches()?;
    Cli::from_arg_matches(&matches)
}

/// Help and refusals are printed before the flags are known, so `--color` is looked for by itself.
fn color_of_help(arguments: impl Iterator<Item = OsString>) -> ColorChoice {
    let arguments = arguments.map(|word| word.to_string_lossy().into_owned());
    let words: Vec<String> = arguments.take_while(|word| word != "--").collect();
    let joined = words.iter().filter_map(|word| word.strip_prefix("--color="));
    let apart = words.windows(2).filter(|pair| pair[0] == "--color").map(|pair| pair[1].as_str());
    match joined.chain(apart).last() {
        Some("always") => ColorChoice::Always,
        Some("never") => ColorChoice::Never,
        Some(_) | None => ColorChoice::Auto,
    }
}

fn run(cli: &Cli) -> Result<Exit, Failure> {
    let settings = Settings::resolve(&cli.global, &Environment::of_process())?;
    if let Command::Run(_) = cli.command {
        // Before there is any thread, as every thread inherits what is blocked.
        signal::hold()?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Unreachable, format!("cannot start the runtime: {error}")))?;
    runtime.block_on(command::dispatch(&cli.command, &settings))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_colour_of_help_is_found_wherever_it_stands() {
        let color = |line: &str| color_of_help(line.split(' ').map(OsString::from));
        assert_eq!(color("netpol --color never allow"), ColorChoice::Never);
        assert_eq!(color("netpol allow --color=always"), ColorChoice::Always);
        assert_eq!(color("netpol allow"), ColorChoice::Auto);
        assert_eq!(color("netpol run --app a -- ls --color=never"), ColorChoice::Auto);
    }
}
