//! `apply`, `diff`, `export` and `rollback`: files, or what stood once, against what stands, and one change that makes them agree.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use policy_api::client::{Client, ClientError, WriteOptions};
use policy_api::model::{AppName, ETag, Receipt, Revision, Rule, RuleFilter};
use policy_api::policy::{self, Difference, File, Policy, Prune, Standing, StandingAccess};

use super::{connect, receipt, wait};
use crate::args::{ApplyArgs, ChangeArgs, DiffArgs, ExportArgs, FilesArgs, RollbackArgs};
use crate::failure::{Exit, Failure, plain};
use crate::output::phrase;
use crate::output::policy::{Applied, Exported};
use crate::output::rule::Waited;
use crate::settings::Settings;

pub(crate) async fn apply(args: &ApplyArgs, settings: &Settings) -> Result<Exit, Failure> {
    let wanted = read(&args.files)?;
    make_stand(&wanted, &args.files.prune(), &args.change, settings).await
}

pub(crate) async fn diff(args: &DiffArgs, settings: &Settings) -> Result<Exit, Failure> {
    let wanted = read(&args.files)?;
    let found = look(&connect::client(settings)?).await?;
    let difference = Difference::of(&wanted, &found.standing, &args.files.prune());
    settings.printer.answer(&Applied::dry(&difference, found.revision))?;
    Ok(if difference.is_empty() { Exit::Ok } else { Exit::No })
}

pub(crate) async fn export(args: &ExportArgs, settings: &Settings) -> Result<Exit, Failure> {
    let mut standing = look(&connect::client(settings)?).await?.standing;
    if let Some(app) = &args.app {
        let is_its = |rule: &Rule| [&rule.source, &rule.destination].iter().any(|side| side.app() == Some(app));
        standing.rules.retain(|view| is_its(&view.rule));
        standing.access = StandingAccess::default();
    }
    let mut whole = standing.policy();
    if args.app.is_some() {
        let names: Vec<_> =
            standing.rules.iter().flat_map(|view| [&view.rule.source, &view.rule.destination]).collect();
        whole.apps.retain(|name, _| names.iter().any(|side| side.app() == Some(name)));
        whole.groups.clear();
    }
    settings.printer.answer(&Exported::of(&whole))?;
    Ok(Exit::Ok)
}

/// Makes rules, and the settings of apps that are there, as they were: what came since goes, what went comes again.
pub(crate) async fn rollback(args: &RollbackArgs, settings: &Settings) -> Result<Exit, Failure> {
    let client = connect::client(settings)?;
    let past = client.at(args.to);
    let (rules, mut apps) = (past.rules(&RuleFilter::default()).await?.items, past.apps().await?.items);
    let there: BTreeSet<AppName> = client.apps().await?.items.into_iter().map(|app| app.name).collect();
    apps.retain(|app| there.contains(&app.name));
    let wanted = Policy::of_past(rules.iter().map(|view| &view.rule), &apps);
    make_stand(&wanted, &Prune::Everything, &args.change, settings).await
}

/// How often a change is planned again, because somebody else changed rules in between.
const ATTEMPTS: usize = 5;

/// Plans and makes one change, in the state that it was planned for and in no other.
async fn make_stand(wanted: &Policy, prune: &Prune, args: &ChangeArgs, settings: &Settings) -> Result<Exit, Failure> {
    let client = connect::client(settings)?;
    let mut attempt = 1;
    loop {
        let found = look(&client).await?;
        let difference = Difference::of(wanted, &found.standing, prune);
        let options = WriteOptions { if_match: found.etag.clone(), dry_run: args.dry_run, ..WriteOptions::default() };
        let sent = Instant::now();
        // Also where nothing would change the API is asked: it may refuse what the files say.
        match client.change(&difference.change_set(), &options).await {
            Ok(done) => return report(&client, &difference, done.revision, sent, args, settings).await,
            Err(error) if error.status() == Some(412) && attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(refused(error, &difference)),
        }
    }
}

/// Says what of the files the API means by its place in the change set.
fn refused(error: ClientError, difference: &Difference) -> Failure {
    let meant = || {
        let ClientError::Problem(problem) = &error else { return None };
        let (list, number) = problem.field.as_ref()?.split_once(']')?.0.split_once('[')?;
        let (set, place) = (difference.change_set(), number.parse::<usize>().ok()?);
        let meant = match list {
            "create" => phrase::tuple(&set.create.get(place)?.tuple()),
            "layers" => format!("layer {}", set.access.layers.get(place)?.name),
            "roles" => format!("role {}", set.access.roles.get(place)?.name),
            "resources" => format!("resource {}", set.access.resources.get(place)?.id),
            _ => return None,
        };
        Some(format!("{list}[{number}] is {meant}"))
    };
    let meant = meant();
    Failure::from(error).during("nothing was changed").maybe_tip(meant)
}

async fn report(
    client: &Client,
    difference: &Difference,
    revision: Revision,
    sent: Instant,
    args: &ChangeArgs,
    settings: &Settings,
) -> Result<Exit, Failure> {
    let printer = settings.printer;
    for spec in &difference.over {
        printer.say(&format!("note: {} is passed over: its end is past", phrase::tuple(&spec.tuple())));
    }
    let applied = if args.dry_run { Applied::dry(difference, revision) } else { Applied::done(difference, revision) };
    if args.dry_run || difference.is_empty() {
        printer.answer(&applied)?;
        if args.dry_run && !printer.format.is_document() {
            printer.say("dry run: nothing was changed");
        }
        return Ok(Exit::Ok);
    }
    if !printer.format.is_document() {
        printer.answer(&applied)?;
    }
    let stands = format!("the change stands as revision {revision}");
    let during = |failure: Failure| failure.during(&stands);
    let cut: Option<Receipt> = receipt::of(client, revision, args.receipt).await.map_err(during)?;
    let waited: Option<Waited> = match args.wait.wait {
        Some(patience) => Some(wait::until_in_force(client, revision, patience, sent).await.map_err(during)?),
        None => None,
    };
    if printer.format.is_document() {
        printer.answer(&applied.with(cut.as_ref(), waited.as_ref()))?;
    } else {
        cut.iter().try_for_each(|cut| printer.result_line(&receipt::line(cut)))?;
        printer.say(&undo(difference, revision));
    }
    if let Some(waited) = &waited {
        printer.result_line(&wait::verdict(waited, &stands)?)?;
    }
    Ok(Exit::Ok)
}

/// The line that undoes the change. A rollback is of rules: it must not bring somebody back into a role unseen.
fn undo(difference: &Difference, revision: Revision) -> String {
    let rollback = format!("netpol rollback {}", revision.0.saturating_sub(1));
    if difference.access.is_empty() {
        return format!("undo: {rollback}");
    }
    format!("undo: netpol apply -f the files as they were; {rollback} brings back rules alone")
}

/// What stands, and the state of the rules to which a change of them is bound.
struct Found {
    standing: Standing,
    etag: Option<ETag>,
    revision: Revision,
}

async fn look(client: &Client) -> Result<Found, Failure> {
    let rules = client.list_rules(&RuleFilter::default()).await?;
    let (apps, groups) = (client.apps().await?.items, client.groups().await?.items);
    let access = StandingAccess {
        layers: client.layers().await?.items,
        roles: client.roles().await?.items,
        resources: client.resources().await?.items,
    };
    let now = client.status().await?.now;
    Ok(Found {
        standing: Standing { rules: rules.items, apps, groups, access, now },
        etag: rules.etag,
        revision: rules.revision,
    })
}

fn read(args: &FilesArgs) -> Result<Policy, Failure> {
    let mut files = Vec::new();
    for path in &args.files {
        match path {
            path if path.as_os_str() == "-" => files.push(stdin()?),
            path if path.is_dir() => files.extend(directory(path)?),
            path => files.push(file(path)?),
        }
    }
    policy::read(&files).map_err(|bad| Failure::usage(bad.to_string()))
}

fn stdin() -> Result<File, Failure> {
    let mut text = String::new();
    let unreadable = |error| Failure::usage(format!("stdin: {}", plain(&error)));
    std::io::stdin().read_to_string(&mut text).map_err(unreadable)?;
    Ok(File { name: "stdin".to_owned(), text })
}

fn file(path: &Path) -> Result<File, Failure> {
    let unreadable = |error| Failure::usage(format!("{}: {}", path.display(), plain(&error)));
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    Ok(File { name: path.display().to_string(), text })
}

/// The files of a directory by name; one without any is a mistake, and with `--prune` a dangerous one.
fn directory(path: &Path) -> Result<Vec<File>, Failure> {
    let unreadable = |error| Failure::usage(format!("{}: {}", path.display(), plain(&error)));
    let entries = std::fs::read_dir(path).map_err(unreadable)?;
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>().map_err(unreadable)?;
    paths.retain(|path| path.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known)));
    paths.sort();
    if paths.is_empty() {
        let problem = format!("{}: there is no *.yaml, *.yml or *.json in it", path.display());
        return Err(Failure::usage(problem).tip("name the directory that the files are in, or a file"));
    }
    paths.iter().map(|path| file(path)).collect()
}
