//! Flags that every command takes: how to reach the API and how to print.

use std::path::PathBuf;

use clap::Args;

use crate::output::Format;
use crate::terminal::ColorChoice;

/// Connection and output flags. Absent here means: ask the config file, then take the default.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct GlobalArgs {
    /// Print as table, wide, json, yaml, jsonl or name
    #[arg(
        short,
        long,
        global = true,
        value_name = "FORMAT",
        value_enum,
        env = "NETPOL_OUTPUT",
        help_heading = "Output",
        hide_possible_values = true
    )]
    pub(crate) output: Option<Format>,

    /// Print data and errors only, no hints
    #[arg(short, long, global = true, help_heading = "Output")]
    pub(crate) quiet: bool,

    /// Leave the header line of tables away
    #[arg(long, global = true, help_heading = "Output", hide_short_help = true)]
    pub(crate) no_headers: bool,

    /// When to colour; NO_COLOR is honoured by `auto`, the default
    #[arg(long, global = true, value_name = "WHEN", value_enum, help_heading = "Output", hide_short_help = true)]
    pub(crate) color: Option<ColorChoice>,

    /// Addresses of the policy API, separated by commas [default: https://127.0.0.1:7443]
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "NETPOL_API",
        value_delimiter = ',',
        help_heading = "Connection",
        hide_short_help = true
    )]
    pub(crate) api: Option<Vec<String>>,

    /// The token itself; other users of this machine may see it here, so prefer the file or the variable
    #[arg(
        long,
        global = true,
        value_name = "TOKEN",
        env = "NETPOL_TOKEN",
        hide_env_values = true,
        help_heading = "Connection",
        hide_short_help = true
    )]
    pub(crate) token: Option<Secret>,

    /// File that holds the token [default: /etc/netpol/operator.token]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "NETPOL_TOKEN_FILE",
        help_heading = "Connection",
        hide_short_help = true
    )]
    pub(crate) token_file: Option<PathBuf>,

    /// Certificate authority of the API, as PEM [default: /etc/netpol/ca.pem]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "NETPOL_CA",
        help_heading = "Connection",
        hide_short_help = true
    )]
    pub(crate) ca: Option<PathBuf>,

    /// Config file, which may hold contexts [default: /etc/netpol/cli.toml]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "NETPOL_CONFIG",
        help_heading = "Connection",
        hide_short_help = true
    )]
    pub(crate) config: Option<PathBuf>,

    /// Context of the config file to use
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        env = "NETPOL_CONTEXT",
        help_heading = "Connection",
        hide_short_help = true
    )]
    pub(crate) context: Option<String>,

    /// Socket of this node's agent [default: /run/netpol/agent.sock]
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "NETPOL_SOCKET",
        help_heading = "Connection",
        hide_short_help = true
    )]
    pub(crate) socket: Option<PathBuf>,
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

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(&text)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}
