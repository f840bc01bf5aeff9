//! Entries of the history as rows.

use policy_api::model::{EntryKind, HistoryItem, InForceOn};
use serde::Serialize;

use super::table::{Column, Field, Tone};
use super::{Answer, Detail, Row};
use crate::terminal::Look;

impl Row for HistoryItem {
    const COLUMNS: &'static [Column] = &[
        Column::always("ENTRY"),
        Column::always("REVISION"),
        Column::always("TIME"),
        Column::always("WHO"),
        Column::fitting("FROM", 2),
        Column::always("WHAT"),
        Column::noted("WHY"),
        Column::fitting("IN-FORCE", 1),
        Column::wide("ON-NODES"),
        Column::wide("KIND"),
        Column::wide("REQUEST"),
        Column::wide("SEAL"),
    ];
    const PLURAL: &'static str = "entries";

    fn fields(&self) -> Vec<Field> {
        let entry = &self.entry;
        let revision = if entry.is_revision() { entry.revision.to_string() } else { String::new() };
        let tone = if entry.kind == EntryKind::Refused { Tone::Bad } else { Tone::Plain };
        vec![
            Field::new(entry.number),
            Field::new(revision),
            Field::new(entry.time),
            Field::new(&entry.who),
            Field::maybe(entry.from),
            Field::toned(what(&self.what), tone),
            Field::maybe(entry.reason.as_ref()),
            Field::maybe(self.in_force_at),
            Field::maybe(on_nodes(self)),
            Field::new(entry.kind),
            Field::maybe(entry.request.as_ref()),
            Field::new(self.seal),
        ]
    }

    fn name(&self) -> String {
        self.entry.number.to_string()
    }
}

/// `n1 +0.012s, n2 +0.350s`: of each node that it changed something for, how long after it was made it was in force there.
fn on_nodes(item: &HistoryItem) -> Option<String> {
    let made = item.entry.time;
    let on_node = |on: &InForceOn| format!("{} +{:.3}s", on.node, made.until(on.at).as_secs_f64());
    let nodes: Vec<String> = item.in_force_on.iter().map(on_node).collect();
    (!nodes.is_empty()).then(|| nodes.join(", "))
}

/// A revision by itself, with everything that is known of it.
#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct Told(pub(crate) HistoryItem);

impl Answer for Told {
    fn text(&self, _: &Look, _: Detail) -> String {
        let Self(item) = self;
        let entry = &item.entry;
        let or = |value: Option<String>, other: &str| value.unwrap_or_else(|| other.to_owned());
        let from = or(entry.from.map(|from| format!(" from {from}")), "");
        let request = or(entry.request.as_ref().map(|request| format!(", request {request}")), "");
        let mut lines = vec![
            format!("revision {}, entry {} of the history", entry.revision, entry.number),
            format!("  made      {} by {}{from}{request}", entry.time, entry.who),
        ];
        lines.extend(entry.reason.iter().map(|reason| format!("  why       {reason}")));
        lines.extend(item.what.iter().map(|what| format!("  what      {what}")));
        let everywhere = item.in_force_at.map(|at| format!("{at} on every node"));
        lines.push(format!("  in force  {}", or(everywhere, "on every node: not known")));
        let on_nodes = item.in_force_on.iter().map(|on| {
            format!(
                "            {} on {}, {:.3} s after it was made",
                on.at,
                on.node,
                entry.time.until(on.at).as_secs_f64()
            )
        });
        lines.extend(on_nodes);
        lines.join("\n")
    }

    fn name(&self) -> String {
        self.0.entry.number.to_string()
    }
}

/// The first things; a large change has thousands.
fn what(told: &[String]) -> String {
    const MOST: usize = 4;
    let first = told.iter().take(MOST).cloned().collect::<Vec<_>>().join("; ");
    match told.len().checked_sub(MOST) {
        None | Some(0) => first,
        Some(more) => format!("{first}; and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::output::rule::tests::PIPE;
    use crate::output::{Format, Listing, render_list};

    #[test]
    fn an_entry_says_who_did_what_from_where_and_why() {
        let item: HistoryItem = serde_json::from_value(json!({
            "number": 7, "time": "2026-01-31T12:00:00.000Z", "kind": "intent", "revision": 5, "who": "operator",
            "from": "192.0.2.1", "reason": "ticket 7", "changes": [{"kind": "delete_rule", "id": "r3"}],
            "seal": "00".repeat(32), "what": ["a", "b", "c", "d", "e", "f"],
        }))
        .expect("an entry");
        let listing = Listing { items: vec![item], revision: 7 };
        let expected = "\
ENTRY  REVISION  TIME                      WHO       FROM       WHAT                        WHY       IN-FORCE
7      5         2026-01-31T12:00:00.000Z  operator  192.0.2.1  a; b; c; d; and 2 more  ticket 7  -
";
        let text = render_list(&listing, Format::Table, &PIPE).expect("text");
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&text), words(expected));
        assert_eq!(render_list(&listing, Format::Name, &PIPE).expect("text"), "7\n");
    }
}
