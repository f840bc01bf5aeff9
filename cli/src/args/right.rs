//! Flags of the commands about who may: login, can-i, team, token, requests, accept, reject.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use policy_api::model::{AppPattern, Grant, Lifetime, RequestId, ResourceId, Selector, TeamName, TokenName};

use super::rule::TrafficArgs;

/// Flags of `login`.
#[derive(Args, Debug)]
pub(crate) struct LoginArgs {
    /// File that holds the token [default: standard input]
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// What one may wonder about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Verb {
    Allow,
    Deny,
    Revoke,
}

impl Verb {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Revoke => "revoke",
        }
    }
}

/// Flags of `can-i`.
#[derive(Args, Debug)]
pub(crate) struct CanIArgs {
    /// What you would do; revoke: the allow rule with just these ports
    #[arg(value_name = "VERB", value_enum)]
    pub(crate) verb: Verb,
    /// Who opens the connection: an app, group:NAME, any (every app), or host
    #[arg(value_name = "SRC")]
    pub(crate) source: Selector,
    /// Who is reached: an app, group:NAME, any (every app), or host
    #[arg(value_name = "DST")]
    pub(crate) destination: Selector,
    #[command(flatten)]
    pub(crate) traffic: TrafficArgs,
}

/// What `team` does.
#[derive(Debug, Subcommand)]
pub(crate) enum TeamCommand {
    /// Say what a team owns; made if it is new
    #[command(after_help = super::help::TEAM_SET)]
    Set(TeamSetArgs),
    /// Delete a team that has neither rules nor tokens
    #[command(after_help = super::help::TEAM_DELETE)]
    Delete(TeamDeleteArgs),
}

/// Flags of `team set`.
#[derive(Args, Debug)]
pub(crate) struct TeamSetArgs {
    /// The team
    #[arg(value_name = "TEAM")]
    pub(crate) team: TeamName,
    /// Its apps: a name, or a pattern like shop-*; may be repeated. These and no others
    #[arg(long = "app", value_name = "PATTERN", required = true)]
    pub(crate) apps: Vec<AppPattern>,
    /// Its groups, likewise: its writers say who joins them
    #[arg(long = "group", value_name = "PATTERN")]
    pub(crate) groups: Vec<AppPattern>,
    /// Its resources, roles and layers: what is called this, and what is below it; may be repeated
    #[arg(long = "resource", value_name = "ID")]
    pub(crate) resources: Vec<ResourceId>,
    /// How many rules it may have [default: as many as fit]
    #[arg(long, value_name = "N")]
    pub(crate) most_rules: Option<u32>,
    /// How many apps its writers may have it grow to [default: as many as they like]
    #[arg(long, value_name = "N")]
    pub(crate) most_apps: Option<u32>,
    /// Say what would happen, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Flags of `team delete`.
#[derive(Args, Debug)]
pub(crate) struct TeamDeleteArgs {
    /// The team
    #[arg(value_name = "TEAM")]
    pub(crate) team: TeamName,
    /// Say what would happen, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// What `token` does.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token; it is printed once, or written to a file that only you can read
    #[command(after_help = super::help::TOKEN_CREATE)]
    Create(TokenCreateArgs),
    /// Show whom tokens let in, and in which roles; never what they are
    #[command(after_help = super::help::TOKEN_LIST)]
    List(super::WatchArgs),
    /// Let nobody in by this token any more, at once
    #[command(after_help = super::help::TOKEN_REVOKE)]
    Revoke(TokenRevokeArgs),
}

/// Flags of `token create`.
#[derive(Args, Debug)]
pub(crate) struct TokenCreateArgs {
    /// Whom it lets in: a user or a machine
    #[arg(value_name = "NAME")]
    pub(crate) name: TokenName,
    /// admin, operator, auditor, writer:TEAM or wide:TEAM, may be repeated; or machine, or gate
    #[arg(long = "role", value_name = "ROLE", required = true)]
    pub(crate) roles: Vec<Grant>,
    /// End by itself after this long: 30m, 2h, 90d [default: never]
    #[arg(long, value_name = "TIME")]
    pub(crate) ttl: Option<Lifetime>,
    /// Write it to this new file, which only you can read, instead of printing it
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// Flags of `token revoke`.
#[derive(Args, Debug)]
pub(crate) struct TokenRevokeArgs {
    /// The token's name
    #[arg(value_name = "NAME")]
    pub(crate) name: TokenName,
    /// Say what would happen, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Which request.
#[derive(Args, Debug)]
pub(crate) struct RequestArgs {
    /// The request, as `netpol requests` shows it
    #[arg(value_name = "ID")]
    pub(crate) id: RequestId,
    /// Say what would happen, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}
