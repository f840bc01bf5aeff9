//! `can-i`, `teams`, `team`, `token`, `requests`, `accept` and `reject`.

use std::fs;

use policy_api::client::{WriteOptions, new_secret};
use policy_api::model::{
    Action, ApiToken, May, MayAnswer, Outcome, RequestAnswer, RuleRequest, RuleSpec, Team, TeamSettings, TokenSpec,
};
use serde::Serialize;

use super::{connect, follow::once_or_always, login::write_secret, receipt};
use crate::args::{
    CanIArgs, RequestArgs, TeamDeleteArgs, TeamSetArgs, TokenCreateArgs, TokenRevokeArgs, Verb, WatchArgs,
};
use crate::failure::{Exit, Failure};
use crate::output::right::listed;
use crate::output::rule::Written;
use crate::output::{Answer, Detail, Format, Listing, Printer, phrase};
use crate::settings::Settings;
use crate::terminal::Look;

/// Asks, prints the answer, and says it in the exit code as well.
pub(crate) async fn can_i(args: &CanIArgs, settings: &Settings) -> Result<Exit, Failure> {
    let action = match args.verb {
        Verb::Allow | Verb::Revoke => Action::Allow,
        Verb::Deny => Action::Deny,
    };
    let (source, destination) = (args.source.clone(), args.destination.clone());
    let spec = RuleSpec::new(source, destination, args.traffic.protocol, args.traffic.ports()?, action);
    let answer = connect::client(settings)?.can_i(args.verb.as_str(), &spec).await?;
    settings.printer.answer(&Permission(&answer))?;
    Ok(if answer.may == May::Yes { Exit::Ok } else { Exit::No })
}

pub(crate) async fn teams(watch: WatchArgs, settings: &Settings) -> Result<Exit, Failure> {
    let (client, printer) = (connect::client(settings)?, settings.printer);
    once_or_always(&client, watch, printer, async || {
        let list = client.teams().await?;
        printer.list(&Listing { items: list.items, revision: list.revision.0 })
    })
    .await
}

pub(crate) async fn tokens(watch: WatchArgs, settings: &Settings) -> Result<Exit, Failure> {
    let (client, printer) = (connect::client(settings)?, settings.printer);
    once_or_always(&client, watch, printer, async || {
        let list = client.tokens().await?;
        printer.list(&Listing { items: list.items, revision: list.revision.0 })
    })
    .await
}

pub(crate) async fn requests(watch: WatchArgs, settings: &Settings) -> Result<Exit, Failure> {
    let (client, printer) = (connect::client(settings)?, settings.printer);
    once_or_always(&client, watch, printer, async || {
        let list = client.requests().await?;
        printer.list(&Listing { items: list.items, revision: list.revision.0 })
    })
    .await
}

pub(crate) async fn set_team(args: &TeamSetArgs, settings: &Settings) -> Result<Exit, Failure> {
    let wanted = TeamSettings {
        apps: args.apps.iter().cloned().collect(),
        groups: args.groups.iter().cloned().collect(),
        resources: args.resources.iter().cloned().collect(),
        most_rules: args.most_rules,
        most_apps: args.most_apps,
    };
    let answer = connect::client(settings)?.set_team(&args.team, &wanted, &options(args.dry_run)).await?;
    let deed = Deed { outcome: word(answer.outcome), dry_run: answer.dry_run };
    settings.printer.answer(&Done { item: &answer.team, what: said_of_team(&answer.team), deed })?;
    remark(args.dry_run, &settings.printer);
    Ok(Exit::Ok)
}

pub(crate) async fn delete_team(args: &TeamDeleteArgs, settings: &Settings) -> Result<Exit, Failure> {
    let deleted = connect::client(settings)?.delete_team(&args.team, &options(args.dry_run)).await?;
    let deed = Deed { outcome: "deleted", dry_run: deleted.dry_run };
    settings.printer.answer(&Done { item: &deleted.team, what: said_of_team(&deleted.team), deed })?;
    remark(args.dry_run, &settings.printer);
    Ok(Exit::Ok)
}

fn said_of_team(team: &Team) -> String {
    let groups = if team.groups.is_empty() { String::new() } else { format!(", groups {}", listed(&team.groups)) };
    let resources =
        if team.resources.is_empty() { String::new() } else { format!(", resources {}", listed(&team.resources)) };
    let most = |most: Option<u32>, of: &str| most.map(|most| format!(", at most {most} {of}")).unwrap_or_default();
    let (rules, apps) = (most(team.most_rules, "rules"), most(team.most_apps, "apps"));
    format!("team {}  apps {}{groups}{resources}{rules}{apps}", team.name, listed(&team.apps))
}

/// Makes the secret here, writes or prints it, and tells the API the hash.
pub(crate) async fn create_token(args: &TokenCreateArgs, settings: &Settings) -> Result<Exit, Failure> {
    let printer = settings.printer;
    if printer.format == Format::Name && args.out.is_none() {
        return Err(Failure::usage("-o name does not show the token itself; write it to a file with --out"));
    }
    let client = connect::client(settings)?;
    let (secret, hash) = new_secret()?;
    let expires_at = receipt::end(&client, args.ttl).await?;
    let grants = args.roles.iter().cloned().collect();
    let spec = TokenSpec { name: args.name.clone(), grants, hash, expires_at };
    if let Some(path) = &args.out {
        // First where it is to be: a token that stands and that nobody has would have to be revoked.
        write_secret(path, &secret)?;
    }
    let made = client.create_token(&spec, &WriteOptions::default()).await;
    if let (Err(_), Some(path)) = (&made, &args.out) {
        // It is good for nothing; that it is left behind is no second failure.
        let _left = fs::remove_file(path);
    }
    let token = made?.token;
    let shown = args.out.is_none().then_some(secret.as_str());
    printer.answer(&Created { token: &token, secret: shown })?;
    if !printer.format.is_document() {
        let place = args.out.as_ref().map(|path| format!("in {}", path.display()));
        let place = place.unwrap_or_else(|| "shown this once".to_owned());
        printer.say(&format!("created token {} ({}), {place}", token.name, listed(&token.grants)));
        printer.say(&format!("undo: netpol token revoke {}", token.name));
    }
    Ok(Exit::Ok)
}

pub(crate) async fn revoke_token(args: &TokenRevokeArgs, settings: &Settings) -> Result<Exit, Failure> {
    let revoked = connect::client(settings)?.revoke_token(&args.name, &options(args.dry_run)).await?;
    let what = format!("token {}  {}", revoked.token.name, listed(&revoked.token.grants));
    let deed = Deed { outcome: "revoked", dry_run: revoked.dry_run };
    settings.printer.answer(&Done { item: &revoked.token, what, deed })?;
    remark(args.dry_run, &settings.printer);
    Ok(Exit::Ok)
}

pub(crate) async fn accept(args: &RequestArgs, settings: &Settings) -> Result<Exit, Failure> {
    let answer = connect::client(settings)?.accept(args.id, &options(args.dry_run)).await?;
    let printer = settings.printer;
    let undo = format!("netpol revoke {}", answer.rule.id);
    let undo = (answer.outcome == Outcome::Created && !answer.dry_run).then_some(undo.as_str());
    printer.answer(&Written { answer: &answer, undo, receipt: None, wait: None })?;
    undo.into_iter().filter(|_| !printer.format.is_document()).for_each(|undo| printer.say(&format!("undo: {undo}")));
    remark(args.dry_run, &printer);
    Ok(Exit::Ok)
}

pub(crate) async fn reject(args: &RequestArgs, settings: &Settings) -> Result<Exit, Failure> {
    let rejected = connect::client(settings)?.reject(args.id, &options(args.dry_run)).await?;
    let deed = Deed { outcome: "rejected", dry_run: rejected.dry_run };
    settings.printer.answer(&Done { item: &rejected.request, what: said_of_request(&rejected.request), deed })?;
    remark(args.dry_run, &settings.printer);
    Ok(Exit::Ok)
}

/// Says that a rule was asked for. Until somebody accepts it none stands, so the exit code is that of "no".
pub(super) fn tell_asked(answer: &RequestAnswer, printer: &Printer) -> Result<Exit, Failure> {
    let request = &answer.request;
    printer.answer(&Done {
        item: request,
        what: said_of_request(request),
        deed: Deed { outcome: "asked", dry_run: answer.dry_run },
    })?;
    if !printer.format.is_document() {
        let of =
            request.of.as_ref().map_or_else(|| "an operator".to_owned(), |team| format!("a writer of team {team}"));
        if answer.dry_run {
            printer.say("dry run: nothing was changed");
        } else {
            let within = phrase::ttl(request.expires_at, request.created_at);
            printer
                .say(&format!("nothing stands yet: {of} may accept it within {within}: netpol accept {}", request.id));
            printer.say(&format!("undo: netpol reject {}", request.id));
        }
    }
    Ok(Exit::No)
}

fn said_of_request(request: &RuleRequest) -> String {
    let of = request.of.as_ref().map_or_else(|| "operators".to_owned(), |team| format!("team {team}"));
    format!("{}  {}  of {of}", request.id, phrase::tuple(&request.rule.tuple()))
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Created => "created",
        Outcome::Updated => "updated",
        Outcome::Unchanged => "unchanged",
    }
}

fn options(dry_run: bool) -> WriteOptions {
    WriteOptions { dry_run, ..WriteOptions::default() }
}

fn remark(dry_run: bool, printer: &Printer) {
    if dry_run && !printer.format.is_document() {
        printer.say("dry run: nothing was changed");
    }
}

#[derive(Serialize)]
struct Permission<'a>(&'a MayAnswer);

impl Answer for Permission<'_> {
    fn text(&self, _: &Look, _: Detail) -> String {
        match self.0.may {
            May::Yes => "yes".to_owned(),
            May::Ask | May::No => format!("no  {}", self.0.text),
        }
    }

    fn name(&self) -> String {
        let word = match self.0.may {
            May::Yes => "yes",
            May::Ask => "ask",
            May::No => "no",
        };
        word.to_owned()
    }
}

/// A token that was just made; the only time that it shows itself.
#[derive(Serialize)]
struct Created<'a> {
    #[serde(flatten)]
    token: &'a ApiToken,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<&'a str>,
}

impl Answer for Created<'_> {
    fn text(&self, _: &Look, _: Detail) -> String {
        self.secret.unwrap_or(self.token.name.as_str()).to_owned()
    }

    fn name(&self) -> String {
        self.token.name.to_string()
    }
}

/// What was done to an item.
#[derive(Serialize)]
struct Done<'a, T> {
    #[serde(flatten)]
    item: &'a T,
    #[serde(skip)]
    what: String,
    #[serde(flatten)]
    deed: Deed,
}

#[derive(Serialize)]
struct Deed {
    outcome: &'static str,
    dry_run: bool,
}

impl<T: Serialize + crate::output::Row> Answer for Done<'_, T> {
    fn text(&self, _: &Look, _: Detail) -> String {
        let would = if self.deed.dry_run { "would be " } else { "" };
        format!("{would}{} {}", self.deed.outcome, self.what)
    }

    fn name(&self) -> String {
        self.item.name()
    }
}
