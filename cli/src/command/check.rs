//! `check`: would this flow be allowed, and why?

use policy_api::model::{Action, Cause, CheckAnswer, CheckQuery, Fields, Ports, Tuple, VerdictWord};
use serde::Serialize;

use super::connect;
use crate::args::CheckArgs;
use crate::failure::{Exit, Failure};
use crate::output::table::{Tone, paint};
use crate::output::{Answer, Detail, phrase};
use crate::settings::Settings;
use crate::terminal::Look;

/// Asks, prints the verdict, and says it in the exit code as well.
pub(crate) async fn check(args: &CheckArgs, settings: &Settings) -> Result<Exit, Failure> {
    args.validate()?;
    let query = validated(CheckQuery {
        source: args.source.clone(),
        destination: args.destination.clone(),
        protocol: args.protocol,
        port: args.port,
    })?;
    let client = connect::client(settings)?;
    let at = args.past.moment();
    let answer = match at {
        Some(at) => client.at(at).check(&query).await?,
        None => client.check(&query).await?,
    };
    let flow = flow(&query)?;
    settings.printer.answer(&Checked { answer: &answer, flow: &flow })?;
    if at.is_some() {
        settings.printer.say(&format!("note: as of revision {}", answer.revision));
    } else if let Some(hint) = hint(&answer, &flow) {
        settings.printer.say(&hint);
    }
    Ok(match answer.verdict {
        VerdictWord::Allow => Exit::Ok,
        VerdictWord::Deny => Exit::No,
    })
}

/// Lets the model refuse the question before anything is sent.
fn validated(query: CheckQuery) -> Result<CheckQuery, Failure> {
    let parameters = query.parameters().into_iter().map(|(name, value)| (name.to_owned(), value));
    Ok(CheckQuery::from_fields(Fields::of_query(parameters)?)?)
}

/// The flow in question, as the rule that would allow exactly it.
fn flow(query: &CheckQuery) -> Result<Tuple, Failure> {
    let ports = match query.port {
        Some(port) => port.to_string().parse().map_err(|invalid| Failure::usage(format!("--port: {invalid}")))?,
        None => Ports::All,
    };
    let CheckQuery { source, destination, protocol, port: _ } = query.clone();
    Ok(Tuple { source, destination, protocol, ports, action: Action::Allow })
}

/// The line that would turn a denial around.
fn hint(answer: &CheckAnswer, flow: &Tuple) -> Option<String> {
    match (answer.cause, &answer.rule) {
        (Cause::NoRule, _) => Some(format!("to allow it: {}", phrase::allow_command_for(flow))),
        (Cause::DenyRule, Some(rule)) => Some(format!("to remove the deny: netpol revoke {}", rule.id)),
        (Cause::Isolated, _) => {
            let releases = answer.isolated_by.iter().map(|isolation| format!("netpol release {}", isolation.target()));
            Some(format!("to end it: {}", releases.collect::<Vec<_>>().join("; ")))
        }
        (Cause::DenyRule, None) | (Cause::AllowRule | Cause::Audit, _) => None,
    }
}

#[derive(Serialize)]
struct Checked<'a> {
    #[serde(flatten)]
    answer: &'a CheckAnswer,
    #[serde(skip)]
    flow: &'a Tuple,
}

impl Checked<'_> {
    fn isolated(&self) -> String {
        let targets: Vec<String> =
            self.answer.isolated_by.iter().map(|isolation| isolation.target().to_string()).collect();
        targets.join(", ")
    }

    /// What would be otherwise if what is in audit were enforced.
    fn would(&self) -> Option<String> {
        let would = self.answer.would.as_ref()?;
        let verdict = match would.verdict {
            VerdictWord::Allow => "would be allowed",
            VerdictWord::Deny => "would be denied",
        };
        let by = would.rule.as_ref().map_or_else(|| "no rule".to_owned(), |rule| format!("by {}", phrase::rule(rule)));
        Some(format!("{verdict}, were what is in audit enforced: {by}"))
    }
}

impl Answer for Checked<'_> {
    fn text(&self, look: &Look, _: Detail) -> String {
        let Tuple { source, destination, protocol, ports, action: _ } = self.flow;
        let verdict = match self.answer.verdict {
            VerdictWord::Allow => paint("allowed", Tone::Good, look),
            VerdictWord::Deny => paint("denied", Tone::Bad, look),
        };
        let why = match (self.answer.cause, &self.answer.rule, &self.answer.nearest) {
            (Cause::AllowRule | Cause::DenyRule, Some(rule), _) => format!("by {}", phrase::rule(rule)),
            (Cause::NoRule, _, Some(rule)) => format!("no rule; the nearest is {}", phrase::rule(rule)),
            (Cause::NoRule, _, None) => "no rule".to_owned(),
            (Cause::AllowRule | Cause::DenyRule, None, _) => self.answer.text.clone(),
            (Cause::Audit, _, _) => "by nothing, but the apps are in audit".to_owned(),
            (Cause::Isolated, _, _) => format!("isolated: {}", self.isolated()),
        };
        let first = format!("{verdict}  {source} -> {destination} {}  {why}", phrase::traffic(*protocol, ports));
        let partly = !self.answer.isolated_by.is_empty() && self.answer.cause != Cause::Isolated;
        let partly = partly.then(|| format!("but some instances are isolated: {}", self.isolated()));
        [Some(first), self.would(), partly].into_iter().flatten().collect::<Vec<_>>().join("\n")
    }

    fn name(&self) -> String {
        match self.answer.verdict {
            VerdictWord::Allow => "allow".to_owned(),
            VerdictWord::Deny => "deny".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use policy_api::model::{Protocol, Revision, Would};

    use super::*;
    use crate::output::rule::tests::{PIPE, rule};
    use crate::output::{Format, render_answer};

    fn flow() -> Tuple {
        rule(0, "allow appA appB tcp 9090").tuple()
    }

    fn answer(verdict: VerdictWord, cause: Cause) -> CheckAnswer {
        CheckAnswer {
            verdict,
            cause,
            rule: None,
            nearest: None,
            would: None,
            isolated_by: Vec::new(),
            text: String::new(),
            revision: Revision(7),
        }
    }

    fn said(answer: &CheckAnswer) -> String {
        render_answer(&Checked { answer, flow: &flow() }, Format::Table, &PIPE).expect("text")
    }

    #[test]
    fn the_verdict_names_its_rule_or_the_nearest() {
        let mut allowed = answer(VerdictWord::Allow, Cause::AllowRule);
        allowed.rule = Some(rule(12, "allow appA appB tcp 9000-9100"));
        assert_eq!(said(&allowed), "allowed  appA -> appB tcp/9090  by r12 (allow appA -> appB tcp/9000-9100)");
        let mut denied = answer(VerdictWord::Deny, Cause::NoRule);
        assert_eq!(said(&denied), "denied  appA -> appB tcp/9090  no rule");
        denied.nearest = Some(rule(3, "allow appA appB tcp 8080"));
        let expected = "denied  appA -> appB tcp/9090  no rule; the nearest is r3 (allow appA -> appB tcp/8080)";
        assert_eq!(said(&denied), expected);
    }

    #[test]
    fn a_denial_says_what_would_change_it() {
        let mut denied = answer(VerdictWord::Deny, Cause::NoRule);
        assert_eq!(hint(&denied, &flow()).as_deref(), Some("to allow it: netpol allow appA appB --port 9090"));
        denied.cause = Cause::DenyRule;
        denied.rule = Some(rule(4, "deny appA appB tcp"));
        assert_eq!(hint(&denied, &flow()).as_deref(), Some("to remove the deny: netpol revoke r4"));
        assert_eq!(hint(&answer(VerdictWord::Allow, Cause::AllowRule), &flow()), None);
    }

    #[test]
    fn what_is_in_audit_and_who_is_isolated_is_said_below() {
        let mut audited = answer(VerdictWord::Allow, Cause::Audit);
        audited.would = Some(Would { verdict: VerdictWord::Deny, cause: Cause::NoRule, rule: None });
        let expected = "allowed  appA -> appB tcp/9090  by nothing, but the apps are in audit\n\
                        would be denied, were what is in audit enforced: no rule";
        assert_eq!(said(&audited), expected);
        let isolation = serde_json::json!({
            "app": "appB", "instance": 0, "created_at": "2026-01-31T12:00:00Z", "created_by": "operator", "revision": 9,
        });
        let mut cut_off = answer(VerdictWord::Deny, Cause::Isolated);
        cut_off.isolated_by = vec![serde_json::from_value(isolation).expect("an isolation")];
        assert_eq!(said(&cut_off), "denied  appA -> appB tcp/9090  isolated: appB/0");
        assert_eq!(hint(&cut_off, &flow()).as_deref(), Some("to end it: netpol release appB/0"));
        cut_off.cause = Cause::NoRule;
        assert!(said(&cut_off).ends_with("no rule\nbut some instances are isolated: appB/0"));
    }

    #[test]
    fn two_hosts_are_refused_before_anything_is_sent() {
        let host = || "host".parse().expect("a selector");
        let query = CheckQuery { source: host(), destination: host(), protocol: Protocol::Tcp, port: None };
        let failure = validated(query).expect_err("no app at either end");
        assert_eq!(failure.exit(), Exit::Usage);
        assert!(failure.to_string().contains("destination"), "{failure}");
    }
}
