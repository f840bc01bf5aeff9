//! Flags of the commands that only look.

use clap::Args;
use clap_complete::Shell;
use policy_api::model::AppName;

use super::value::AddressPort;

/// Whether to go on after the first answer.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WatchArgs {
    /// Print again on every change, until Ctrl-C
    #[arg(short, long)]
    pub(crate) watch: bool,
}

/// Flags of `instances`.
#[derive(Args, Debug)]
pub(crate) struct InstancesArgs {
    /// Only this app's instances
    #[arg(value_name = "APP")]
    pub(crate) app: Option<AppName>,
    #[command(flatten)]
    pub(crate) watch: WatchArgs,
}

/// Flags of `lookup`.
#[derive(Args, Debug)]
pub(crate) struct LookupArgs {
    /// An overlay address; a port, as copied from a log, is ignored
    #[arg(value_name = "IP[:PORT]")]
    pub(crate) address: AddressPort,
}

/// Flags of `completion`.
#[derive(Args, Debug)]
pub(crate) struct CompletionArgs {
    /// The shell to write for
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

/// Flags of `help`.
#[derive(Args, Debug)]
pub(crate) struct HelpArgs {
    /// A command, or `connection` [default: all commands in short]
    #[arg(value_name = "TOPIC")]
    pub(crate) topic: Option<String>,
}
