//! The command line as clap sees it: commands, flags and their help.
//!
//! Values are parsed into the model's own types here, so that bad input is refused, by name, before any request is
//! sent. Nothing here acts.

use clap::{Parser, Subcommand};

mod access;
mod app;
mod cf;
mod global;
pub(crate) mod help;
mod history;
mod identity;
mod machine;
mod node;
mod observe;
mod policy;
mod right;
mod rule;
#[cfg(test)]
mod tests;
mod value;
mod view;

pub(crate) use access::{CanArgs, PermissionsArgs, WhoCanArgs};
pub(crate) use app::{AppCommand, AppDeleteArgs, AppSetArgs, IsolateArgs, ReleaseArgs};
pub(crate) use cf::{CfListArgs, CfPolicyArgs};
pub(crate) use global::{GlobalArgs, Secret};
pub(crate) use history::{HistoryArgs, HistoryCommand, HistoryListArgs, VerifyArgs};
pub(crate) use identity::{IdentityTokenArgs, IdentityTokenCommand, RevokeIdentityArgs};
pub(crate) use machine::{NodeArgs, NodeCommand};
pub(crate) use node::{AttachArgs, DetachArgs, EndpointArgs, RunArgs};
pub(crate) use observe::ObserveArgs;
pub(crate) use policy::{ApplyArgs, ChangeArgs, DiffArgs, ExportArgs, FilesArgs, RollbackArgs};
pub(crate) use right::{
    CanIArgs, LoginArgs, RequestArgs, TeamCommand, TeamDeleteArgs, TeamSetArgs, TokenCommand, TokenCreateArgs,
    TokenRevokeArgs, Verb,
};
pub(crate) use rule::{CheckArgs, DenyArgs, ListArgs, ReceiptArgs, RevokeArgs, RevokeTarget, WaitArgs, WriteArgs};
pub(crate) use value::Patience;
pub(crate) use view::{AppsArgs, CompletionArgs, HelpArgs, InstancesArgs, LookupArgs, WatchArgs};

/// netpol: who may talk to whom, by app name.
#[derive(Debug, Parser)]
#[command(
    name = "netpol",
    version,
    propagate_version = false,
    arg_required_else_help = true,
    disable_help_flag = true,
    disable_help_subcommand = true,
    help_template = help::TOP,
    after_help = help::TOP_EXAMPLES,
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Let one app reach another
    #[command(after_help = help::ALLOW)]
    Allow(WriteArgs),
    /// Forbid one app to reach another, whatever else allows it
    #[command(after_help = help::DENY)]
    Deny(DenyArgs),
    /// Remove a rule; live flows that nothing else allows stop
    #[command(after_help = help::REVOKE, override_usage = help::REVOKE_USAGE)]
    Revoke(RevokeArgs),
    /// Show the rules
    #[command(after_help = help::LIST)]
    List(ListArgs),

    /// Cut an app, or one instance, off from everybody, whatever the rules say
    #[command(after_help = help::ISOLATE)]
    Isolate(IsolateArgs),
    /// End an isolation
    #[command(after_help = help::RELEASE)]
    Release(ReleaseArgs),
    /// Show who is isolated
    #[command(after_help = help::ISOLATIONS)]
    Isolations(WatchArgs),
    /// Set an app's mode and groups, or delete it
    #[command(subcommand, after_help = help::APP)]
    App(AppCommand),

    /// Make what files say stand, all or nothing
    #[command(after_help = help::APPLY)]
    Apply(ApplyArgs),
    /// Say what stands otherwise than files say. Exit code 0: nothing, 1: something
    #[command(after_help = help::DIFF)]
    Diff(DiffArgs),
    /// Write what stands as a file that `apply` reads
    #[command(after_help = help::EXPORT)]
    Export(ExportArgs),
    /// Make the rules as they were at a revision, as a new revision
    #[command(after_help = help::ROLLBACK)]
    Rollback(RollbackArgs),

    /// Would this connection be allowed, and by which rule? Exit code 0: allowed, 1: denied
    #[command(after_help = help::CHECK)]
    Check(CheckArgs),
    /// May I? Exit code 0: yes, 1: no, or only if somebody else accepts it
    #[command(name = "can-i", after_help = help::CAN_I)]
    CanI(CanIArgs),
    /// May they do this on a resource? Exit code 0: yes, 1: no
    #[command(after_help = help::CAN)]
    Can(CanArgs),
    /// Who may do this on a resource? Exit code 1: nobody
    #[command(after_help = help::WHO_CAN)]
    WhoCan(WhoCanArgs),
    /// Show who may do what on which resource, now or at some time
    #[command(after_help = help::PERMISSIONS)]
    Permissions(PermissionsArgs),
    /// Which instance has this address?
    #[command(visible_alias = "who", after_help = help::LOOKUP)]
    Lookup(LookupArgs),

    /// Who changed what, when, from where and why
    #[command(after_help = help::HISTORY)]
    History(HistoryArgs),

    /// Show the apps: identity, mode, groups
    #[command(after_help = help::APPS)]
    Apps(AppsArgs),
    /// Show the running instances, of one app or of all
    #[command(after_help = help::INSTANCES)]
    Instances(InstancesArgs),
    /// Show the nodes and how far each has come
    #[command(after_help = help::NODES)]
    Nodes(WatchArgs),
    /// Drain a node, or remove one that is off
    #[command(subcommand, after_help = help::NODE)]
    Node(NodeCommand),
    /// Show the state of the API, and of this node's agent if there is one
    #[command(after_help = help::STATUS)]
    Status(WatchArgs),
    /// On a node: show flows that began, ended, were denied or cut, and why
    #[command(after_help = help::OBSERVE)]
    Observe(ObserveArgs),

    /// On a node: give a network namespace an endpoint
    #[command(after_help = help::ATTACH)]
    Attach(AttachArgs),
    /// On a node: take a network namespace's endpoint away
    #[command(after_help = help::DETACH)]
    Detach(DetachArgs),
    /// On a node: run a command as an instance of an app, in a network namespace of its own
    #[command(after_help = help::RUN)]
    Run(RunArgs),

    /// Prove a token, and keep it for later commands
    #[command(after_help = help::LOGIN)]
    Login(LoginArgs),
    /// Who am I, and in which roles?
    #[command(name = "whoami", after_help = help::WHOAMI)]
    WhoAmI,
    /// Show rules that one team asks another for
    #[command(after_help = help::REQUESTS)]
    Requests(WatchArgs),
    /// Make the rule stand that was asked for
    #[command(after_help = help::ACCEPT)]
    Accept(RequestArgs),
    /// Reject a request, or withdraw your own
    #[command(after_help = help::REJECT)]
    Reject(RequestArgs),
    /// Show the teams and what they own
    #[command(after_help = help::TEAMS)]
    Teams(WatchArgs),
    /// Say what a team owns, or delete it
    #[command(subcommand, after_help = help::TEAM)]
    Team(TeamCommand),
    /// Make, show and revoke tokens of users and machines
    #[command(subcommand, after_help = help::TOKEN)]
    Token(TokenCommand),
    /// Prove who you are to an app or a resource: prints a short-lived token
    #[command(after_help = help::IDENTITY_TOKEN)]
    IdentityToken(IdentityTokenArgs),

    /// `allow`, as the cf CLI spells it (default: tcp, port 8080)
    #[command(after_help = help::CF_ADD)]
    AddNetworkPolicy(CfPolicyArgs),
    /// `revoke`, as the cf CLI spells it (default: tcp, port 8080)
    #[command(after_help = help::CF_REMOVE)]
    RemoveNetworkPolicy(CfPolicyArgs),
    /// `list`, as the cf CLI spells it
    #[command(after_help = help::CF_LIST)]
    NetworkPolicies(CfListArgs),

    /// Print a completion script for a shell
    #[command(after_help = help::COMPLETION)]
    Completion(CompletionArgs),
    /// Print the version
    #[command(after_help = help::VERSION)]
    Version,
    /// Explain a command, or the topic `connection`
    #[command(after_help = help::HELP)]
    Help(HelpArgs),
}
