//! What the commands do, one file per family.

use crate::args::{AppCommand, Command, NodeCommand, TeamCommand, TokenCommand};
use crate::failure::{Exit, Failure};
use crate::settings::Settings;

mod access;
mod app;
mod check;
mod connect;
mod follow;
mod history;
mod identity;
mod isolation;
mod list;
mod login;
mod lookup;
mod machine;
mod meta;
mod node;
mod observe;
mod policy;
mod receipt;
mod revoke;
mod right;
mod run;
mod status;
mod wait;
mod write;

/// Runs one command to its end.
pub(crate) async fn dispatch(command: &Command, settings: &Settings) -> Result<Exit, Failure> {
    match command {
        Command::Allow(args) => write::allow(args, settings).await,
        Command::Deny(args) => write::deny(args, settings).await,
        Command::Revoke(args) => revoke::revoke(args, settings).await,
        Command::Isolate(args) => isolation::isolate(args, settings).await,
        Command::Release(args) => isolation::release(args, settings).await,
        Command::Isolations(args) => list::isolations(*args, settings).await,
        Command::App(AppCommand::Set(args)) => app::set(args, settings).await,
        Command::App(AppCommand::Delete(args)) => app::delete(args, settings).await,
        Command::Apply(args) => policy::apply(args, settings).await,
        Command::Diff(args) => policy::diff(args, settings).await,
        Command::Export(args) => policy::export(args, settings).await,
        Command::Rollback(args) => policy::rollback(args, settings).await,
        Command::List(args) => list::rules(args, settings).await,
        Command::Check(args) => check::check(args, settings).await,
        Command::Can(args) => access::can(args, settings).await,
        Command::WhoCan(args) => access::who_can(args, settings).await,
        Command::Permissions(args) => access::permissions(args, settings).await,
        Command::Lookup(args) => lookup::lookup(args, settings).await,
        Command::History(args) => history::history(args, settings).await,
        Command::Apps(args) => list::apps(*args, settings).await,
        Command::Instances(args) => list::instances(args, settings).await,
        Command::Nodes(args) => list::nodes(*args, settings).await,
        Command::Node(NodeCommand::Drain(args)) => machine::drain(args, true, settings).await,
        Command::Node(NodeCommand::Undrain(args)) => machine::drain(args, false, settings).await,
        Command::Node(NodeCommand::Remove(args)) => machine::remove(args, settings).await,
        Command::Status(args) => status::status(*args, settings).await,
        Command::Observe(args) => observe::observe(args, settings).await,
        Command::Attach(args) => node::attach(args, settings).await,
        Command::Detach(args) => node::detach(args, settings).await,
        Command::Run(args) => run::run(args, settings).await,
        Command::CanI(args) => right::can_i(args, settings).await,
        Command::Login(args) => login::login(args, settings).await,
        Command::WhoAmI => login::who_am_i(settings).await,
        Command::Requests(args) => right::requests(*args, settings).await,
        Command::Accept(args) => right::accept(args, settings).await,
        Command::Reject(args) => right::reject(args, settings).await,
        Command::Teams(args) => right::teams(*args, settings).await,
        Command::Team(TeamCommand::Set(args)) => right::set_team(args, settings).await,
        Command::Team(TeamCommand::Delete(args)) => right::delete_team(args, settings).await,
        Command::Token(TokenCommand::Create(args)) => right::create_token(args, settings).await,
        Command::Token(TokenCommand::List(args)) => right::tokens(*args, settings).await,
        Command::Token(TokenCommand::Revoke(args)) => right::revoke_token(args, settings).await,
        Command::IdentityToken(args) => identity::identity_token(args, settings).await,
        Command::AddNetworkPolicy(args) => write::cf_add(args, settings).await,
        Command::RemoveNetworkPolicy(args) => revoke::cf_remove(args, settings).await,
        Command::NetworkPolicies(args) => list::cf_rules(args, settings).await,
        Command::Completion(args) => meta::completion(args, settings),
        Command::Version => meta::version(settings),
        Command::Help(args) => meta::help(args, settings),
    }
}

/// Returns what a failure of netpol's own is worth: `run` must not be mistaken for its command.
pub(crate) fn exit_of_failures(command: &Command) -> fn(Exit) -> Exit {
    match command {
        Command::Run(_) => |exit| match exit {
            Exit::Passed(code) => Exit::Passed(code),
            _ => run::NETPOL_FAILED,
        },
        _ => |exit| exit,
    }
}
