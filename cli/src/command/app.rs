//! `app set` and `app delete`.

use std::time::Instant;

use policy_api::client::{Client, WriteOptions};
use policy_api::model::{App, AppName, GroupName, Mode, Outcome, nearest_name};
use serde::Serialize;

use super::{connect, wait};
use crate::args::{AppDeleteArgs, AppSetArgs};
use crate::failure::{Exit, Failure};
use crate::output::rule::Waited;
use crate::output::{Answer, Detail};
use crate::settings::Settings;
use crate::terminal::Look;

pub(crate) async fn set(args: &AppSetArgs, settings: &Settings) -> Result<Exit, Failure> {
    let wanted = args.settings()?;
    let (client, printer) = (connect::client(settings)?, settings.printer);
    let apps = client.apps().await?.items;
    let before = apps.iter().find(|app| app.name == args.app);
    let sent = Instant::now();
    let options = WriteOptions { dry_run: args.dry_run, reason: args.why.reason.clone(), ..WriteOptions::default() };
    let answer = client.set_app(&args.app, &wanted, &options).await?;
    let undo = undo(&answer.app, before, answer.outcome, answer.dry_run);
    let waited = match args.wait.wait {
        Some(patience) => Some(wait::until_in_force(&client, answer.app.revision, patience, sent).await?),
        None => None,
    };
    let (outcome, dry_run) = (answer.outcome, answer.dry_run);
    printer.answer(&Set { app: &answer.app, outcome, dry_run, undo: undo.as_deref(), wait: waited.as_ref() })?;
    if !printer.format.is_document() {
        undo.iter().for_each(|line| printer.say(&format!("undo: {line}")));
        remark(&answer.app.name, outcome, &apps).iter().for_each(|line| printer.say(line));
        if dry_run {
            printer.say("dry run: nothing was changed");
        }
    }
    if let Some(waited) = &waited {
        printer.result_line(&wait::verdict(waited, "the settings stand")?)?;
    }
    Ok(Exit::Ok)
}

/// The line that goes back to what was.
fn undo(app: &App, before: Option<&App>, outcome: Outcome, dry_run: bool) -> Option<String> {
    match (outcome, before) {
        (Outcome::Unchanged, _) => None,
        _ if dry_run => None,
        (_, None) => Some(format!("netpol app delete {}", app.name)),
        (_, Some(before)) => {
            let mode = (before.mode != app.mode).then(|| format!(" --mode {}", before.mode));
            let groups = (before.groups != app.groups).then(|| match before.groups.len() {
                0 => " --group ''".to_owned(),
                _ => before.groups.iter().map(|group| format!(" --group {group}")).collect(),
            });
            let flags: String = [mode, groups].into_iter().flatten().collect();
            Some(format!("netpol app set {}{flags}", app.name))
        }
    }
}

/// A misspelt name makes a new app, so that is said.
fn remark(name: &AppName, outcome: Outcome, apps: &[App]) -> Option<String> {
    let is_new = outcome == Outcome::Created;
    let near = nearest_name(name.as_str(), apps.iter().map(|app| app.name.as_str()));
    let doubt = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    is_new.then(|| format!("note: `{name}` is a new app{doubt}"))
}

pub(crate) async fn delete(args: &AppDeleteArgs, settings: &Settings) -> Result<Exit, Failure> {
    let (client, printer): (Client, _) = (connect::client(settings)?, settings.printer);
    let options = WriteOptions { dry_run: args.dry_run, reason: args.why.reason.clone(), ..WriteOptions::default() };
    let deleted = client.delete_app(&args.app, &options).await?;
    printer.answer(&Gone { app: &deleted.app, revision: deleted.revision.0, dry_run: deleted.dry_run })?;
    if args.dry_run && !printer.format.is_document() {
        printer.say("dry run: nothing was changed");
    }
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Set<'a> {
    #[serde(flatten)]
    app: &'a App,
    outcome: Outcome,
    dry_run: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    undo: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wait: Option<&'a Waited>,
}

impl Answer for Set<'_> {
    fn text(&self, _: &Look, _: Detail) -> String {
        let App { name, mode, groups, revision, .. } = self.app;
        let would = if self.dry_run { "would be " } else { "" };
        let outcome = match self.outcome {
            Outcome::Created => "created",
            Outcome::Updated => "updated",
            Outcome::Unchanged => "unchanged",
        };
        let names: Vec<&str> = groups.iter().map(GroupName::as_str).collect();
        let groups = if names.is_empty() { "no groups".to_owned() } else { format!("groups {}", names.join(",")) };
        let revision = if self.dry_run { String::new() } else { format!("  revision {revision}") };
        format!("{would}{outcome} {name}  {}, {groups}{revision}", said(*mode))
    }

    fn name(&self) -> String {
        self.app.name.to_string()
    }
}

fn said(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforced",
        Mode::Audit => "in audit",
    }
}

#[derive(Serialize)]
struct Gone<'a> {
    #[serde(flatten)]
    app: &'a App,
    #[serde(rename = "deleted_at_revision")]
    revision: u64,
    dry_run: bool,
}

impl Answer for Gone<'_> {
    fn text(&self, _: &Look, _: Detail) -> String {
        if self.dry_run {
            return format!("would be deleted {}", self.app.name);
        }
        format!("deleted {}  revision {}", self.app.name, self.revision)
    }

    fn name(&self) -> String {
        self.app.name.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(mode: &str, groups: &[&str]) -> App {
        let json = serde_json::json!({"name": "web", "identity": 256, "mode": mode, "groups": groups, "revision": 7});
        serde_json::from_value(json).expect("an app")
    }

    #[test]
    fn the_undo_line_goes_back_to_what_was() {
        let now = app("audit", &["b"]);
        let line = |before: Option<&App>| undo(&now, before, Outcome::Updated, false);
        assert_eq!(line(None).as_deref(), Some("netpol app delete web"));
        assert_eq!(line(Some(&app("enforce", &["b"]))).as_deref(), Some("netpol app set web --mode enforce"));
        assert_eq!(line(Some(&app("audit", &[]))).as_deref(), Some("netpol app set web --group ''"));
        let both = line(Some(&app("enforce", &["a", "c"])));
        assert_eq!(both.as_deref(), Some("netpol app set web --mode enforce --group a --group c"));
        assert_eq!(undo(&now, Some(&now), Outcome::Unchanged, false), None);
    }

    #[test]
    fn a_new_app_that_resembles_another_is_doubted() {
        let known = [app("enforce", &[])];
        let said = |name: &str, outcome| remark(&name.parse().expect("a name"), outcome, &known);
        assert_eq!(said("wbe", Outcome::Created).as_deref(), Some("note: `wbe` is a new app; did you mean `web`?"));
        assert_eq!(said("backend", Outcome::Created).as_deref(), Some("note: `backend` is a new app"));
        assert_eq!(said("web", Outcome::Updated), None);
    }
}
