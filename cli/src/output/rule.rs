//! Rules as rows, and what became of one as an answer.

use policy_api::model::{Action, Deleted, Mode, Outcome, Receipt, Rule, RuleAnswer, RuleId, RuleView, Timestamp};
use serde::Serialize;

use super::table::{Column, Field, Tone, paint};
use super::{Answer, Detail, Row, phrase};
use crate::terminal::Look;

/// Green for allow, red for deny.
pub(crate) fn tone(action: Action) -> Tone {
    match action {
        Action::Allow => Tone::Good,
        Action::Deny => Tone::Bad,
    }
}

impl Row for RuleView {
    const COLUMNS: &'static [Column] = &[
        Column::always("ID"),
        Column::always("ACTION"),
        Column::always("SOURCE"),
        Column::always("DESTINATION"),
        Column::always("PROTOCOL"),
        Column::always("PORTS"),
        Column::noted("MODE"),
        Column::noted("EXPIRES"),
        Column::noted("ON-DENY"),
        Column::fitting("FLOWS", 3),
        Column::fitting("PACKETS", 5),
        Column::fitting("BYTES", 4),
        Column::fitting("LAST-HIT", 1),
        Column::wide("REVISION"),
        Column::wide("BY"),
        Column::fitting("AGE", 2),
        Column::noted("REASON"),
    ];
    const PLURAL: &'static str = "rules";

    fn fields(&self) -> Vec<Field> {
        let Self { rule, usage } = self;
        let ports = if rule.protocol.has_ports() { rule.ports.to_string() } else { String::new() };
        let now = Timestamp::now();
        vec![
            Field::new(rule.id),
            Field::toned(rule.action, tone(rule.action)),
            Field::new(&rule.source),
            Field::new(&rule.destination),
            Field::new(rule.protocol),
            Field::new(ports),
            Field::maybe(Some(rule.mode).filter(|mode| *mode != Mode::Enforce)),
            Field::maybe(rule.expires_at.map(|end| phrase::in_time(end, now))),
            Field::maybe(rule.on_deny),
            Field::new(usage.flows),
            Field::new(usage.packets),
            Field::new(phrase::bytes(usage.bytes)),
            Field::new(usage.last_hit.map_or_else(|| "never".to_owned(), |then| phrase::age(then, now))),
            Field::new(rule.revision),
            Field::new(&rule.created_by),
            Field::new(phrase::age(rule.created_at, now)),
            Field::maybe(rule.reason.as_ref()),
        ]
    }

    fn name(&self) -> String {
        self.rule.id.to_string()
    }
}

/// What `--wait` found out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Waited {
    pub(crate) complete: bool,
    pub(crate) in_force: Vec<String>,
    pub(crate) missing: Vec<String>,
    pub(crate) disconnected: Vec<String>,
    /// From sending the request to the last report.
    pub(crate) ms: u64,
}

/// What `allow` and `deny` did.
#[derive(Debug, Serialize)]
pub(crate) struct Written<'a> {
    #[serde(flatten)]
    pub(crate) answer: &'a RuleAnswer,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) undo: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) receipt: Option<&'a Receipt>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) wait: Option<&'a Waited>,
}

impl Answer for Written<'_> {
    fn text(&self, look: &Look, _: Detail) -> String {
        let RuleAnswer { rule, outcome, dry_run } = self.answer;
        let what = painted(rule, look);
        let mode = if *dry_run { "would be " } else { "" };
        match (outcome, dry_run) {
            // An id and a revision are given out only when the rule is really made.
            (Outcome::Created, true) => format!("would be created  {what}"),
            (Outcome::Created, false) => format!("created {}  {what}  revision {}", rule.id, rule.revision),
            (Outcome::Updated, _) => format!("{mode}updated {}  {what}  revision {}", rule.id, rule.revision),
            (Outcome::Unchanged, _) => format!("{mode}unchanged {}  {what}  revision {}", rule.id, rule.revision),
        }
    }

    fn name(&self) -> String {
        self.answer.rule.id.to_string()
    }
}

/// What `revoke` did.
#[derive(Debug, Serialize)]
pub(crate) struct Revoked<'a> {
    pub(crate) revision: u64,
    pub(crate) revoked: &'a [Rule],
    pub(crate) still_allowed_by: &'a [Rule],
    pub(crate) undo: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) receipt: Option<&'a Receipt>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) wait: Option<&'a Waited>,
}

impl Answer for Revoked<'_> {
    fn text(&self, look: &Look, _: Detail) -> String {
        let lines = self
            .revoked
            .iter()
            .map(|rule| format!("revoked {}  {}  revision {}\n", rule.id, painted(rule, look), self.revision));
        lines.chain([self.rest()]).collect()
    }

    fn name(&self) -> String {
        let ids: Vec<RuleId> = self.revoked.iter().map(|rule| rule.id).collect();
        ids.iter().map(|id| format!("{id}\n")).collect()
    }
}

impl Revoked<'_> {
    /// What the pair may still do, or that it may do nothing.
    fn rest(&self) -> String {
        let pair = self.revoked.first().map(|rule| format!("{} -> {}", rule.source, rule.destination));
        let pair = pair.unwrap_or_default();
        if self.still_allowed_by.is_empty() {
            return format!("nothing allows {pair} now\n");
        }
        let rules: Vec<String> = self.still_allowed_by.iter().map(phrase::rule).collect();
        format!("{pair} is still allowed by {}\n", rules.join(", "))
    }
}

/// A rule with its action in colour.
fn painted(rule: &Rule, look: &Look) -> String {
    let action = rule.action.as_str();
    phrase::whole(rule).replacen(action, &paint(action, tone(rule.action), look), 1)
}

/// Collects what several deletions left standing, each rule once and none of the deleted.
pub(crate) fn still_allowing(deleted: &[Deleted]) -> Vec<Rule> {
    let mut left: Vec<Rule> = deleted.iter().flat_map(|one| one.still_allowed_by.iter().cloned()).collect();
    left.retain(|rule| deleted.iter().all(|one| one.id != rule.id));
    left.sort_by_key(|rule| rule.id);
    left.dedup_by_key(|rule| rule.id);
    left
}

#[cfg(test)]
pub(crate) mod tests {
    use policy_api::model::{Ports, Revision, Usage};

    use super::*;
    use crate::output::{Format, Listing, render_answer, render_list};

    pub(crate) const PIPE: Look = Look { width: None, color: false, headers: true };

    /// `rule(12, "allow appA appB tcp 8080 because")`; ports may be left out, a reason then too.
    pub(crate) fn rule(id: u32, text: &str) -> Rule {
        let mut words = text.splitn(6, ' ');
        let mut word = || words.next();
        let needed = "action, source, destination and protocol";
        let action = word().expect(needed).parse().expect("an action");
        let source = word().expect(needed).parse().expect("a selector");
        let destination = word().expect(needed).parse().expect("a selector");
        let protocol = word().expect(needed).parse().expect("a protocol");
        Rule {
            id: RuleId(id),
            source,
            destination,
            protocol,
            ports: word().map_or(Ports::All, |ports| ports.parse().expect("ports")),
            action,
            mode: policy_api::model::Mode::Enforce,
            expires_at: None,
            on_deny: None,
            reason: word().map(|reason| reason.parse().expect("a reason")),
            revision: Revision(u64::from(id) + 100),
            created_at: Timestamp::now(),
            created_by: "operator".to_owned(),
            team: None,
        }
    }

    fn listing() -> Listing<RuleView> {
        let used = Usage { packets: 12, bytes: 1_234, flows: 2, live: 0, last_hit: Some(Timestamp::now()) };
        let items = vec![
            (rule(1, "allow appA appB tcp 8080"), used),
            (rule(12, "deny appA appB tcp 8000-8010,9000 CHG-118"), Usage::default()),
            (rule(13, "allow host any any"), Usage::default()),
        ];
        let items = items.into_iter().map(|(rule, usage)| RuleView { rule, usage }).collect();
        Listing { items, revision: 113 }
    }

    #[test]
    fn rules_stand_in_a_table() {
        let expected = "\
ID   ACTION  SOURCE  DESTINATION  PROTOCOL  PORTS           FLOWS  PACKETS  BYTES   LAST-HIT  AGE  REASON
r1   allow   appA    appB         tcp       8080            2      12       1.2 kB  now       now  -
r12  deny    appA    appB         tcp       8000-8010,9000  0      0        0 B     never     now  CHG-118
r13  allow   host    any          any       -               0      0        0 B     never     now  -
";
        assert_eq!(render_list(&listing(), Format::Table, &PIPE).expect("text"), expected);
    }

    #[test]
    fn a_narrow_terminal_keeps_what_a_rule_is_and_whether_it_is_used() {
        let expected = "ID   ACTION  SOURCE  DESTINATION  PROTOCOL  PORTS           LAST-HIT  REASON
r1   allow   appA    appB         tcp       8080            now       -
r12  deny    appA    appB         tcp       8000-8010,9000  never     CHG-118
r13  allow   host    any          any       -               never     -
";
        let look = Look { width: Some(80), ..PIPE };
        assert_eq!(render_list(&listing(), Format::Table, &look).expect("text"), expected);
    }

    #[test]
    fn a_wide_table_has_every_column() {
        let text = render_list(&listing(), Format::Wide, &PIPE).expect("text");
        let header = text.lines().next().expect("a header");
        for column in RuleView::COLUMNS {
            assert!(header.contains(column.title), "{header}");
        }
    }

    #[test]
    fn json_names_its_version_and_keeps_the_words_of_the_api() {
        let text = render_list(&listing(), Format::Json, &PIPE).expect("text");
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(json["apiVersion"], "netpol/v1");
        assert_eq!(json["revision"], 113);
        assert_eq!(json["items"][1]["id"], "r12");
        assert_eq!(json["items"][1]["ports"], serde_json::json!(["8000-8010", "9000"]));
        assert!(json["items"][2].get("ports").is_none());
        assert!(text.starts_with("{\n  \"apiVersion\""), "{text}");
    }

    #[test]
    fn every_line_of_jsonl_stands_alone() {
        let text = render_list(&listing(), Format::Jsonl, &PIPE).expect("text");
        let ids: Vec<String> = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
            .inspect(|item| assert_eq!(item["apiVersion"], "netpol/v1"))
            .map(|item| item["id"].as_str().expect("an id").to_owned())
            .collect();
        assert_eq!(ids, ["r1", "r12", "r13"]);
    }

    #[test]
    fn yaml_and_names_are_plain() {
        let yaml = render_list(&listing(), Format::Yaml, &PIPE).expect("text");
        assert!(yaml.starts_with("apiVersion: netpol/v1\nitems:\n"), "{yaml}");
        assert_eq!(render_list(&listing(), Format::Name, &PIPE).expect("text"), "r1\nr12\nr13\n");
    }

    #[test]
    fn a_write_says_id_tuple_and_revision() {
        let said = |outcome, dry_run| {
            let answer = RuleAnswer { rule: rule(12, "allow appA appB tcp 8080"), outcome, dry_run };
            let written = Written { answer: &answer, undo: None, receipt: None, wait: None };
            render_answer(&written, Format::Table, &PIPE).expect("text")
        };
        assert_eq!(said(Outcome::Created, false), "created r12  allow appA -> appB tcp/8080  revision 112");
        assert_eq!(said(Outcome::Unchanged, false), "unchanged r12  allow appA -> appB tcp/8080  revision 112");
        assert_eq!(said(Outcome::Created, true), "would be created  allow appA -> appB tcp/8080");
    }

    #[test]
    fn colour_marks_the_action_and_nothing_else() {
        let answer =
            RuleAnswer { rule: rule(12, "deny appA appB tcp 8080"), outcome: Outcome::Created, dry_run: false };
        let written = Written { answer: &answer, undo: None, receipt: None, wait: None };
        let text = render_answer(&written, Format::Table, &Look { color: true, ..PIPE }).expect("text");
        assert_eq!(text, "created r12  \x1b[31mdeny\x1b[0m appA -> appB tcp/8080  revision 112");
    }

    #[test]
    fn what_still_allows_a_pair_is_named_once() {
        let (first, second, left) =
            (rule(1, "allow a b tcp 80"), rule(2, "allow a b tcp 81"), rule(3, "allow a b tcp"));
        let deleted = |rule: &Rule, others: &[&Rule]| Deleted {
            id: rule.id,
            revision: Revision(9),
            rule: rule.clone(),
            still_allowed_by: others.iter().map(|rule| (*rule).clone()).collect(),
            dry_run: false,
        };
        let both = [deleted(&first, &[&second, &left]), deleted(&second, &[&left])];
        assert_eq!(still_allowing(&both), [left]);
    }
}
