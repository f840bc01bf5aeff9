//! Flags of the commands that speak about policy as a whole: apply, diff, export, rollback.

use std::path::PathBuf;

use clap::Args;
use policy_api::{
    model::{AppName, At},
    policy::Prune,
};

use super::rule::{ReceiptArgs, WaitArgs};

/// Which files, and how much of what stands they speak for.
#[derive(Args, Debug)]
pub(crate) struct FilesArgs {
    /// A file, a directory (its *.yaml, *.yml and *.json), or - for stdin; may be repeated
    #[arg(short, long = "file", value_name = "FILE|DIR", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// What is in none of the files goes: rules but the built-in one; layers, roles, resources, if files speak of them
    #[arg(long)]
    prune: bool,
    /// Prune only rules with this app on either side
    #[arg(long, value_name = "APP", requires = "prune")]
    app: Option<AppName>,
}

impl FilesArgs {
    pub(crate) fn prune(&self) -> Prune {
        match (self.prune, &self.app) {
            (false, _) => Prune::Nothing,
            (true, None) => Prune::Rules,
            (true, Some(app)) => Prune::RulesOf(app.clone()),
        }
    }
}

/// Flags of `apply`.
#[derive(Args, Debug)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    pub(crate) files: FilesArgs,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

/// How a change of many rules is made.
#[derive(Args, Debug)]
pub(crate) struct ChangeArgs {
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
    #[command(flatten)]
    pub(crate) receipt: ReceiptArgs,
    /// Say what would change and how many live flows that touches, and change nothing
    #[arg(long, conflicts_with = "wait")]
    pub(crate) dry_run: bool,
}

/// Flags of `diff`.
#[derive(Args, Debug)]
pub(crate) struct DiffArgs {
    #[command(flatten)]
    pub(crate) files: FilesArgs,
}

/// Flags of `rollback`.
#[derive(Args, Debug)]
pub(crate) struct RollbackArgs {
    /// The revision, or the time, to go back to
    #[arg(value_name = "REVISION|TIME")]
    pub(crate) to: At,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

/// Flags of `export`.
#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    /// Only rules with this app on either side, and the apps that they name
    #[arg(long, value_name = "APP")]
    pub(crate) app: Option<AppName>,
}
