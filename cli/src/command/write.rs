//! `allow` and `deny`: one rule to the API, what became of it, and how to undo it.

use std::time::Instant;

use policy_api::client::{Client, WriteOptions};
use policy_api::model::{
    self, Action, App, Mode, OnDeny, Outcome, Reason, Receipt, Rule, RuleAnswer, RuleFilter, RuleSpec,
};

use super::{connect, receipt, right, wait};
use crate::args::{CfPolicyArgs, DenyArgs, ReceiptArgs, WriteArgs};
use crate::failure::{Exit, Failure};
use crate::output::rule::{Waited, Written};
use crate::output::{Format, Printer, phrase};
use crate::settings::Settings;
use crate::terminal::Talk;

pub(crate) async fn allow(args: &WriteArgs, settings: &Settings) -> Result<Exit, Failure> {
    // What is allowed cuts nothing.
    let no_receipt = ReceiptArgs { no_wait: true };
    write(args, Verb { action: Action::Allow, on_deny: None, receipt: no_receipt }, settings).await
}

pub(crate) async fn deny(args: &DenyArgs, settings: &Settings) -> Result<Exit, Failure> {
    let verb = Verb { action: Action::Deny, on_deny: args.on_deny, receipt: args.receipt };
    write(&args.write, verb, settings).await
}

/// What `allow` and `deny` differ in.
#[derive(Clone, Copy)]
struct Verb {
    action: Action,
    on_deny: Option<OnDeny>,
    receipt: ReceiptArgs,
}

/// `add-network-policy`.
pub(crate) async fn cf_add(args: &CfPolicyArgs, settings: &Settings) -> Result<Exit, Failure> {
    let (source, destination) = args.pair()?;
    allow(&WriteArgs::plain(source, destination, args.traffic()), settings).await
}

async fn write(args: &WriteArgs, verb: Verb, settings: &Settings) -> Result<Exit, Failure> {
    let mut spec = spec(args, verb)?;
    let client = connect::client(settings)?;
    let before = standing(&client, &spec).await?;
    spec.reason = reason(args.reason.as_ref(), before.as_ref());
    spec.expires_at = receipt::end(&client, args.ttl).await?;
    let sent = Instant::now();
    let options = WriteOptions { dry_run: args.dry_run, ..WriteOptions::default() };
    let answer = match client.put_or_ask(&spec, &options).await? {
        model::Written::Stands(answer) => *answer,
        model::Written::Asked(asked) => return right::tell_asked(&asked, &settings.printer),
    };
    let undo = undo(&answer, before.as_ref());
    let report = Report { answer: &answer, undo: undo.as_deref(), printer: settings.printer };
    report.first()?;
    let stands = format!("the rule stands as {}", answer.rule.id);
    let done = async {
        // First where it is in force: the time that takes is printed, and waiting for a count must not add to it.
        let waited = match args.wait.wait {
            Some(patience) => Some(wait::until_in_force(&client, answer.rule.revision, patience, sent).await?),
            None => None,
        };
        Ok((waited, cut(&client, &answer, verb.receipt).await?))
    };
    let (waited, cut): (Option<Waited>, Option<Receipt>) = match done.await {
        Ok(done) => done,
        Err(failure) => {
            report.last(None, None)?;
            return Err(Failure::during(failure, &stands));
        }
    };
    report.last(cut.as_ref(), waited.as_ref())?;
    if let Some(waited) = &waited {
        report.in_force(&wait::verdict(waited, &stands)?)?;
    }
    mention_new_apps(&client, &answer, settings.printer).await;
    Ok(Exit::Ok)
}

/// What the rule cut, if it can have cut anything.
async fn cut(client: &Client, answer: &RuleAnswer, args: ReceiptArgs) -> Result<Option<Receipt>, Failure> {
    let changed = answer.outcome != Outcome::Unchanged && !answer.dry_run;
    if changed && answer.rule.mode == Mode::Enforce {
        return receipt::of(client, answer.rule.revision, args).await;
    }
    Ok(None)
}

/// Builds the rule, and lets the model refuse it before anything is sent.
fn spec(args: &WriteArgs, verb: Verb) -> Result<RuleSpec, Failure> {
    let mut spec = RuleSpec::new(
        args.source.clone(),
        args.destination.clone(),
        args.traffic.protocol,
        args.traffic.ports()?,
        verb.action,
    );
    spec.mode = args.mode;
    spec.on_deny = verb.on_deny;
    spec.reason.clone_from(&args.reason);
    let json = serde_json::to_value(&spec).map_err(|error| Failure::usage(error.to_string()))?;
    Ok(RuleSpec::from_json(json)?)
}

/// The rule with this tuple as it stands before the write: what an update would have to go back to.
async fn standing(client: &Client, spec: &RuleSpec) -> Result<Option<Rule>, Failure> {
    let filter =
        RuleFilter { source: Some(spec.source.clone()), destination: Some(spec.destination.clone()), app: None };
    let tuple = spec.tuple();
    Ok(connect::rules(client, &filter).await?.into_iter().find(|rule| rule.tuple() == tuple))
}

/// What is not said stays as it is: to allow again must not lose why it was allowed. An empty reason removes it.
fn reason(said: Option<&Reason>, before: Option<&Rule>) -> Option<Reason> {
    match said {
        Some(reason) => Some(reason.clone()).filter(|reason| !reason.as_str().is_empty()),
        None => before.and_then(|rule| rule.reason.clone()),
    }
}

/// The line that undoes the write; none if there is nothing to undo.
fn undo(answer: &RuleAnswer, before: Option<&Rule>) -> Option<String> {
    match (answer.dry_run, answer.outcome) {
        (true, _) | (false, Outcome::Unchanged) => None,
        (false, Outcome::Created) => Some(format!("netpol revoke {}", answer.rule.id)),
        (false, Outcome::Updated) => before.map(phrase::restoring_command_for),
    }
}

/// Prints the pieces of the answer when each is known: lines for people at once, documents whole.
struct Report<'a> {
    answer: &'a RuleAnswer,
    undo: Option<&'a str>,
    printer: Printer,
}

impl Report<'_> {
    fn first(&self) -> Result<(), Failure> {
        if self.printer.format.is_document() { Ok(()) } else { self.print(None, None) }
    }

    fn last(&self, cut: Option<&Receipt>, waited: Option<&Waited>) -> Result<(), Failure> {
        if self.printer.format.is_document() {
            // Everything there is to say stands in the document.
            return self.print(cut, waited);
        }
        cut.map_or(Ok(()), |cut| self.printer.result_line(&receipt::line(cut)))?;
        match (self.undo, self.answer.dry_run) {
            (Some(undo), _) => self.printer.say(&format!("undo: {undo}")),
            (None, true) => self.printer.say("dry run: nothing was changed"),
            (None, false) => self.printer.say(&format!("to remove it: netpol revoke {}", self.answer.rule.id)),
        }
        Ok(())
    }

    fn in_force(&self, line: &str) -> Result<(), Failure> {
        self.printer.result_line(line)
    }

    fn print(&self, receipt: Option<&Receipt>, wait: Option<&Waited>) -> Result<(), Failure> {
        self.printer.answer(&Written { answer: self.answer, undo: self.undo, receipt, wait })
    }
}

/// A misspelt name makes a new app, so new apps are mentioned, with the name they resemble.
async fn mention_new_apps(client: &Client, answer: &RuleAnswer, printer: Printer) {
    let people = matches!(printer.format, Format::Table | Format::Wide) && printer.terminal.talk == Talk::Normal;
    if answer.outcome != Outcome::Created || answer.dry_run || !people {
        return;
    }
    // The rule is made; that its remarks cannot be fetched is no reason to fail.
    if let Ok(apps) = client.apps().await {
        new_apps(&answer.rule, &apps.items).iter().for_each(|line| printer.say(line));
    }
}

fn new_apps(rule: &Rule, apps: &[App]) -> Vec<String> {
    let (new, known): (Vec<&App>, Vec<&App>) = apps.iter().partition(|app| app.revision == rule.revision);
    let named = |app: &&&App| [&rule.source, &rule.destination].iter().any(|side| side.app() == Some(&app.name));
    let mention = |app: &&App| {
        let near = policy_api::model::nearest_name(app.name.as_str(), known.iter().map(|app| app.name.as_str()));
        let doubt = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        format!("note: `{}` is a new app{doubt}", app.name)
    };
    new.iter().filter(named).map(mention).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::rule::tests::rule;

    fn answer(outcome: Outcome, dry_run: bool) -> RuleAnswer {
        RuleAnswer { rule: rule(12, "allow appA appB tcp 8080 new"), outcome, dry_run }
    }

    #[test]
    fn the_undo_line_goes_back_to_what_stood_before() {
        let before = rule(12, "allow appA appB tcp 8080 old reason");
        assert_eq!(undo(&answer(Outcome::Created, false), None).as_deref(), Some("netpol revoke r12"));
        assert_eq!(
            undo(&answer(Outcome::Updated, false), Some(&before)).as_deref(),
            Some("netpol allow appA appB --port 8080 --reason 'old reason'")
        );
        let without = rule(12, "allow appA appB tcp 8080");
        assert_eq!(
            undo(&answer(Outcome::Updated, false), Some(&without)).as_deref(),
            Some("netpol allow appA appB --port 8080 --reason ''")
        );
        assert_eq!(undo(&answer(Outcome::Unchanged, false), Some(&before)), None);
        assert_eq!(undo(&answer(Outcome::Created, true), None), None);
    }

    #[test]
    fn allowing_again_keeps_the_reason_and_an_empty_one_removes_it() {
        let before = rule(12, "allow appA appB tcp 8080 old");
        let said = |text: &str| text.parse::<Reason>().expect("a reason");
        assert_eq!(reason(None, Some(&before)), before.reason);
        assert_eq!(reason(Some(&said("new")), Some(&before)), Some(said("new")));
        assert_eq!(reason(Some(&said("")), Some(&before)), None);
        assert_eq!(reason(None, None), None);
    }

    #[test]
    fn a_new_app_that_resembles_another_is_doubted() {
        let app = |name: &str, revision: u64| -> App {
            serde_json::from_value(serde_json::json!({"name": name, "identity": 300, "revision": revision}))
                .expect("app")
        };
        let rule = rule(12, "allow fronted backend tcp 8080");
        let apps =
            [app("frontend", 1), app("backend", 1), app("fronted", rule.revision.0), app("other", rule.revision.0)];
        assert_eq!(new_apps(&rule, &apps), ["note: `fronted` is a new app; did you mean `frontend`?"]);
    }
}
