//! Entries of the history as rows.

use policy_api::model::{EntryKind, HistoryItem};

use super::Row;
use super::table::{Column, Field, Tone};

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
            Field::new(entry.kind),
            Field::maybe(entry.request.as_ref()),
            Field::new(self.seal),
        ]
    }

    fn name(&self) -> String {
        self.entry.number.to_string()
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
