//! Every step that CI runs, as a command that anyone can run: `cargo xtask help`.
//!
//! Depends on nothing, so that it starts within a second on a machine that has only a toolchain.
//! What runs real programs in the kernel runs inside a `sandbox` that takes everything down with it.

mod api;
mod bench;
mod command;
mod demo;
mod fuzz;
mod help;
mod lint;
mod progress;
mod sandbox;
mod setup;
mod suite;
mod tally;
mod userland;
mod workspace;

use std::process::ExitCode;

use command::{Command, UsageError};
use progress::Failure;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let command = match command::parse(&arguments) {
        Ok(command) => command,
        Err(UsageError(complaint)) => {
            eprintln!("error: {complaint}\n\n{}", help::OVERVIEW);
            return ExitCode::from(2);
        }
    };
    match run(&command) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Help(topic) => {
            println!("{}", help::text(*topic));
            Ok(ExitCode::SUCCESS)
        }
        Command::Setup => setup::run().map(|()| ExitCode::SUCCESS),
        Command::Lint(scope) => lint::run(*scope).map(|()| ExitCode::SUCCESS),
        Command::Test { filter } => suite::run(filter.as_deref(), suite::Effort::Ci),
        Command::Soak { name } if name == "fuzz" => fuzz::run().map(|()| ExitCode::SUCCESS),
        Command::Soak { name } => suite::run(Some(name), suite::Effort::Soak),
        Command::Api => api::run().map(|()| ExitCode::SUCCESS),
        Command::Demo => demo::run(),
        Command::Bench { profile, arguments } => bench::run(*profile, arguments),
    }
}
