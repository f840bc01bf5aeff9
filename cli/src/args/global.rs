//! Flags that every command takes: how to print and how to reach the API. `netpol help connection` explains the latter.
//!
//! Only what was typed is here; variables, config file and defaults come in with `settings`.

use std::path::PathBuf;

use clap::{ArgAction, Args};

use crate::output::Format;
use crate::terminal::ColorChoice;

/// Connection and output flags.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct GlobalArgs {
    /// Print as table, wide, json, yaml, jsonl or name
    #[arg(
        short,
        long,
        global = true,
        value_name = "FORMAT",
        value_enum,
        help_heading = "Output",
        hide_possible_values = true
    )]
    pub(crate) output: Option<Format>,
    /// Print data and errors only, no hints
    #[arg(short, long, global = true, help_heading = "Output")]
    pub(crate) quiet: bool,
    /// Leave the header line of tables away
    #[arg(long, global = true, help_heading = "Output")]
    pub(crate) no_headers: bool,
    /// auto, always or never; auto honours NO_COLOR
    #[arg(long, global = true, value_name = "WHEN", value_enum, help_heading = "Output", hide_possible_values = true)]
    pub(crate) color: Option<ColorChoice>,

    /// Addresses of the policy API, separated by commas
    #[arg(long, global = true, value_name = "URL", value_delimiter = ',', hide_short_help = true)]
    pub(crate) api: Option<Vec<String>>,
    /// Certificate authority of the API, as PEM
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    pub(crate) ca: Option<PathBuf>,
    /// File that holds the token
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    pub(crate) token_file: Option<PathBuf>,
    /// Config file
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    pub(crate) config: Option<PathBuf>,
    /// Context of the config file
    #[arg(long, global = true, value_name = "NAME", hide_short_help = true)]
    pub(crate) context: Option<String>,
    /// Socket of this node's agent
    #[arg(long, global = true, value_name = "PATH", hide_short_help = true)]
    pub(crate) socket: Option<PathBuf>,

    /// Print help
    #[arg(short, long, global = true, action = ArgAction::HelpShort, help_heading = "Output")]
    pub(crate) help: Option<bool>,
}

/// Text that never shows itself, neither in a message nor in a panic.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// Takes the text without the line's end that files have.
    pub(crate) fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    /// Returns the text, for the one place that sends it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}
