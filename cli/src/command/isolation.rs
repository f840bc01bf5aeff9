//! `isolate` and `release`.

use std::time::Instant;

use policy_api::client::WriteOptions;
use policy_api::model::{Isolation, IsolationSpec, Outcome, Receipt, Timestamp};
use serde::Serialize;

use super::{connect, receipt, wait};
use crate::args::{IsolateArgs, ReleaseArgs};
use crate::failure::{Exit, Failure};
use crate::output::rule::Waited;
use crate::output::table::{Tone, paint};
use crate::output::{Answer, Detail, phrase};
use crate::settings::Settings;
use crate::terminal::Look;

pub(crate) async fn isolate(args: &IsolateArgs, settings: &Settings) -> Result<Exit, Failure> {
    let (client, printer) = (connect::client(settings)?, settings.printer);
    let spec = IsolationSpec {
        app: args.target.app.clone(),
        instance: args.target.instance,
        expires_at: receipt::end(&client, args.ttl).await?,
        reason: args.reason.clone().filter(|reason| !reason.as_str().is_empty()),
    };
    let sent = Instant::now();
    let options = WriteOptions { dry_run: args.dry_run, ..WriteOptions::default() };
    let answer = client.isolate(&spec, &options).await?;
    let (isolation, outcome, dry_run) = (&answer.isolation, answer.outcome, answer.dry_run);
    let undo = (outcome == Outcome::Created && !dry_run).then(|| format!("netpol release {}", args.target));
    let print = |receipt: Option<&Receipt>, wait: Option<&Waited>| {
        printer.answer(&Isolated { isolation, outcome, dry_run, undo: undo.as_deref(), receipt, wait })
    };
    let people = !printer.format.is_document();
    if people {
        print(None, None)?;
        undo.iter().for_each(|line| printer.say(&format!("undo: {line}")));
    }
    let stands = "the isolation stands";
    let cut = match (outcome, dry_run) {
        (Outcome::Created, false) => receipt::of(&client, isolation.revision, args.receipt).await,
        (Outcome::Created | Outcome::Updated | Outcome::Unchanged, _) => Ok(None),
    };
    let cut = cut.map_err(|failure| failure.during(stands))?;
    let waited = match args.wait.wait {
        Some(patience) => {
            let waited = wait::until_in_force(&client, isolation.revision, patience, sent).await;
            Some(waited.map_err(|failure| failure.during(stands))?)
        }
        None => None,
    };
    if people {
        cut.iter().try_for_each(|cut| printer.result_line(&receipt::line(cut)))?;
        if dry_run {
            printer.say("dry run: nothing was changed");
        }
    } else {
        print(cut.as_ref(), waited.as_ref())?;
    }
    if let Some(waited) = &waited {
        printer.result_line(&wait::verdict(waited, stands)?)?;
    }
    Ok(Exit::Ok)
}

pub(crate) async fn release(args: &ReleaseArgs, settings: &Settings) -> Result<Exit, Failure> {
    let (client, printer) = (connect::client(settings)?, settings.printer);
    let sent = Instant::now();
    let options = WriteOptions { reason: args.why.reason.clone(), ..WriteOptions::default() };
    let ended = client.end_isolation(&args.target, &options).await?;
    let undo = command_for(&ended.isolation, Timestamp::now());
    let waited = match args.wait.wait {
        Some(patience) => {
            let waited = wait::until_in_force(&client, ended.revision, patience, sent).await;
            Some(waited.map_err(|failure| failure.during("the release stands"))?)
        }
        None => None,
    };
    printer.answer(&Released {
        isolation: &ended.isolation,
        revision: ended.revision.0,
        still_isolated_by: &ended.still_isolated_by,
        undo: &undo,
        wait: waited.as_ref(),
    })?;
    if !printer.format.is_document() {
        printer.say(&format!("undo: {undo}"));
    }
    if let Some(waited) = &waited {
        printer.result_line(&wait::verdict(waited, "the release stands")?)?;
    }
    Ok(Exit::Ok)
}

/// The line that makes this isolation again, for as long as it would have lasted.
fn command_for(isolation: &Isolation, now: Timestamp) -> String {
    let ttl = isolation.expires_at.map(|end| format!(" --ttl {}", phrase::ttl(end, now)));
    let reason = isolation.reason.as_ref().map(|reason| format!(" --reason {}", phrase::shell_word(reason.as_str())));
    let flags: String = [ttl, reason].into_iter().flatten().collect();
    format!("netpol isolate {}{flags}", isolation.target())
}

#[derive(Serialize)]
struct Isolated<'a> {
    #[serde(flatten)]
    isolation: &'a Isolation,
    outcome: Outcome,
    dry_run: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    undo: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<&'a Receipt>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wait: Option<&'a Waited>,
}

impl Answer for Isolated<'_> {
    fn text(&self, look: &Look, _: Detail) -> String {
        let isolation = self.isolation;
        let word = match (self.outcome, self.dry_run) {
            (Outcome::Created, true) => "would be isolated".to_owned(),
            (Outcome::Created, false) => paint("isolated", Tone::Bad, look),
            (Outcome::Updated, true) => "would be updated, isolated".to_owned(),
            (Outcome::Updated, false) => "updated, isolated".to_owned(),
            (Outcome::Unchanged, _) => "unchanged, isolated".to_owned(),
        };
        let end = isolation.expires_at.map(|end| format!(", expires {}", phrase::in_time(end, Timestamp::now())));
        let revision = if self.dry_run { String::new() } else { format!("  revision {}", isolation.revision) };
        format!("{word} {}{}{revision}", isolation.target(), end.unwrap_or_default())
    }

    fn name(&self) -> String {
        self.isolation.target().to_string()
    }
}

#[derive(Serialize)]
struct Released<'a> {
    isolation: &'a Isolation,
    revision: u64,
    still_isolated_by: &'a [Isolation],
    undo: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    wait: Option<&'a Waited>,
}

impl Answer for Released<'_> {
    fn text(&self, _: &Look, _: Detail) -> String {
        let target = self.isolation.target();
        let released = format!("released {target}  revision {}\n", self.revision);
        let still: Vec<String> = self.still_isolated_by.iter().map(|other| other.target().to_string()).collect();
        match (still.as_slice(), target.instance) {
            ([], _) => released,
            (still, Some(_)) => format!("{released}{target} is still isolated, as all of {}\n", still.join(", ")),
            (still, None) => format!("{released}still isolated by themselves: {}\n", still.join(", ")),
        }
    }

    fn name(&self) -> String {
        self.isolation.target().to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::output::rule::tests::PIPE;
    use crate::output::{Format, render_answer};

    fn isolation(target: &str) -> Isolation {
        let target: policy_api::model::Target = target.parse().expect("a target");
        let json = serde_json::json!({
            "app": target.app, "instance": target.instance, "created_at": "2026-01-31T12:00:00Z",
            "created_by": "operator", "revision": 9,
        });
        serde_json::from_value(json).expect("an isolation")
    }

    #[test]
    fn an_isolation_says_whom_and_for_how_long() {
        let mut web = isolation("web/0");
        let said = |isolation: &Isolation, outcome, dry_run| {
            let answer = Isolated { isolation, outcome, dry_run, undo: None, receipt: None, wait: None };
            render_answer(&answer, Format::Table, &PIPE).expect("text")
        };
        assert_eq!(said(&web, Outcome::Created, false), "isolated web/0  revision 9");
        assert_eq!(said(&web, Outcome::Created, true), "would be isolated web/0");
        assert_eq!(said(&web, Outcome::Unchanged, false), "unchanged, isolated web/0  revision 9");
        web.expires_at = Timestamp::now().after(Duration::from_secs(7_230));
        assert_eq!(said(&web, Outcome::Created, false), "isolated web/0, expires in 2h  revision 9");
    }

    #[test]
    fn a_release_says_what_still_isolates() {
        let said = |target: &str, others: &[Isolation]| {
            let isolation = isolation(target);
            let answer =
                Released { isolation: &isolation, revision: 10, still_isolated_by: others, undo: "", wait: None };
            render_answer(&answer, Format::Table, &PIPE).expect("text")
        };
        assert_eq!(said("web", &[]), "released web  revision 10\n");
        let both = [isolation("web/0"), isolation("web/3")];
        assert_eq!(said("web", &both), "released web  revision 10\nstill isolated by themselves: web/0, web/3\n");
        let whole = [isolation("web")];
        assert_eq!(said("web/0", &whole), "released web/0  revision 10\nweb/0 is still isolated, as all of web\n");
    }

    #[test]
    fn the_line_that_isolates_again_says_all_of_it() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().expect("a time");
        let mut web = isolation("web/0");
        assert_eq!(command_for(&web, now), "netpol isolate web/0");
        web.expires_at = now.after(Duration::from_secs(5_400));
        web.reason = "INC 77".parse().ok();
        assert_eq!(command_for(&web, now), "netpol isolate web/0 --ttl 90m --reason 'INC 77'");
    }
}
