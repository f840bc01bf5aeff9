//! Apps, instances and nodes as rows.

use policy_api::model::{
    App, Binding, BindingState, ClockReading, GroupName, Isolation, LookupAnswer, Mode, NodeView, Timestamp,
};
use serde::Serialize;

use super::table::{Column, Field, Tone};
use super::{Row, phrase};

impl Row for App {
    const COLUMNS: &'static [Column] = &[
        Column::always("APP"),
        Column::always("IDENTITY"),
        Column::always("MODE"),
        Column::noted("GROUPS"),
        Column::wide("REVISION"),
    ];
    const PLURAL: &'static str = "apps";

    fn fields(&self) -> Vec<Field> {
        let groups: Vec<&str> = self.groups.iter().map(GroupName::as_str).collect();
        let tone = if self.mode == Mode::Audit { Tone::Bad } else { Tone::Plain };
        vec![
            Field::new(&self.name),
            Field::new(self.identity.number()),
            Field::toned(self.mode, tone),
            Field::new(groups.join(",")),
            Field::new(self.revision),
        ]
    }

    fn name(&self) -> String {
        self.name.to_string()
    }
}

impl Row for Isolation {
    const COLUMNS: &'static [Column] = &[
        Column::always("ISOLATED"),
        Column::noted("EXPIRES"),
        Column::always("AGE"),
        Column::wide("BY"),
        Column::wide("REVISION"),
        Column::noted("REASON"),
    ];
    const PLURAL: &'static str = "isolations";

    fn fields(&self) -> Vec<Field> {
        let now = Timestamp::now();
        vec![
            Field::new(self.target()),
            Field::maybe(self.expires_at.map(|end| phrase::in_time(end, now))),
            Field::new(phrase::age(self.created_at, now)),
            Field::new(&self.created_by),
            Field::new(self.revision),
            Field::maybe(self.reason.as_ref()),
        ]
    }

    fn name(&self) -> String {
        self.target().to_string()
    }
}

impl Row for Binding {
    const COLUMNS: &'static [Column] = &[
        Column::always("ADDRESS"),
        Column::always("APP"),
        Column::always("INSTANCE"),
        Column::always("NODE"),
        Column::always("STATE"),
        Column::always("SINCE"),
        Column::wide("IDENTITY"),
        Column::wide("REVISION"),
        Column::wide("LABELS"),
    ];
    const PLURAL: &'static str = "instances";

    fn fields(&self) -> Vec<Field> {
        let (state, tone) = match self.state {
            BindingState::Live => ("live", Tone::Good),
            BindingState::Freed => ("freed", Tone::Plain),
        };
        vec![
            Field::new(self.address),
            Field::new(&self.app),
            Field::new(self.instance_name()),
            Field::new(&self.node),
            Field::toned(state, tone),
            Field::new(phrase::age(self.since, Timestamp::now())),
            Field::new(self.identity.number()),
            Field::new(self.revision),
            Field::new(labels(self)),
        ]
    }

    fn name(&self) -> String {
        self.instance_name()
    }
}

/// Who had an address at a time that is past, from when until when.
impl Row for LookupAnswer {
    const COLUMNS: &'static [Column] = &[
        Column::always("ADDRESS"),
        Column::always("APP"),
        Column::always("INSTANCE"),
        Column::always("NODE"),
        Column::always("FROM"),
        Column::always("UNTIL"),
        Column::wide("IDENTITY"),
        Column::wide("LABELS"),
    ];
    const PLURAL: &'static str = "instances";

    fn fields(&self) -> Vec<Field> {
        let time = |time: Option<Timestamp>, none: &str| time.map_or_else(|| none.to_owned(), |time| time.to_string());
        let binding = &self.binding;
        vec![
            Field::new(binding.address),
            Field::new(&binding.app),
            Field::new(binding.instance_name()),
            Field::new(&binding.node),
            Field::new(time(self.from, "-")),
            Field::new(time(self.until, "still")),
            Field::new(binding.identity.number()),
            Field::new(labels(binding)),
        ]
    }

    fn name(&self) -> String {
        self.binding.instance_name()
    }
}

fn labels(binding: &Binding) -> String {
    let pairs: Vec<String> = binding.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(",")
}

/// `+12 ms ±3`
fn clock(reading: ClockReading) -> String {
    format!("{:+} ms ±{}", reading.ahead_ms, reading.error_ms)
}

/// A node beside the revision it should have reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct NodeRow {
    #[serde(flatten)]
    pub(crate) view: NodeView,
    #[serde(skip)]
    pub(crate) head: u64,
}

impl NodeRow {
    /// One word for how the node does.
    fn state(&self) -> (&'static str, Tone) {
        match (self.view.connected, self.view.ready) {
            (false, _) => ("disconnected", Tone::Bad),
            (true, false) => ("not-ready", Tone::Bad),
            (true, true) if self.view.node.draining => ("draining", Tone::Plain),
            (true, true) => ("ready", Tone::Good),
        }
    }

    fn applied(&self) -> String {
        match self.view.applied {
            None => String::new(),
            Some(applied) if applied.0 >= self.head => applied.to_string(),
            Some(applied) => format!("{applied} of {}", self.head),
        }
    }

    fn rows(&self) -> String {
        match self.view.rows_capacity {
            0 => String::new(),
            capacity => format!("{}/{capacity}", self.view.rows_used),
        }
    }
}

impl Row for NodeRow {
    const COLUMNS: &'static [Column] = &[
        Column::always("NODE"),
        Column::always("STATE"),
        Column::always("APPLIED"),
        Column::always("UNDERLAY"),
        Column::always("SLICE"),
        Column::wide("SLICE6"),
        Column::always("ROWS"),
        Column::wide("REPORTED"),
        Column::wide("CLOCK"),
        Column::wide("DETAIL"),
    ];
    const PLURAL: &'static str = "nodes";

    fn fields(&self) -> Vec<Field> {
        let NodeView { node, last_report, detail, .. } = &self.view;
        let (state, tone) = self.state();
        vec![
            Field::new(&node.name),
            Field::toned(state, tone),
            Field::new(self.applied()),
            Field::new(node.underlay),
            Field::new(node.slices.slice_v4),
            Field::new(node.slices.slice_v6),
            Field::new(self.rows()),
            Field::maybe(last_report.map(|then| phrase::age(then, Timestamp::now()))),
            Field::maybe(self.view.clock.map(clock)),
            Field::maybe(detail.as_ref()),
        ]
    }

    fn name(&self) -> String {
        self.view.node.name.to_string()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::output::rule::tests::PIPE;
    use crate::output::{Format, Listing, render_list};

    fn node(name: &str, connected: bool, applied: Option<u64>) -> NodeRow {
        let view = json!({
            "name": name, "underlay": "192.168.1.1", "slice_v4": "10.255.1.0/24", "slice_v6": "fd00:0:0:1::/64",
            "revision": 3, "connected": connected, "applied": applied, "ready": true, "rows_used": 4,
            "rows_capacity": 100,
        });
        NodeRow { view: serde_json::from_value(view).expect("a node"), head: 7 }
    }

    #[test]
    fn a_node_that_lags_shows_by_how_much() {
        let items = vec![node("n1", true, Some(7)), node("n2", true, Some(5)), node("n3", false, None)];
        let text = render_list(&Listing { items, revision: 7 }, Format::Table, &PIPE).expect("text");
        let expected = "\
NODE  STATE         APPLIED  UNDERLAY     SLICE          ROWS
n1    ready         7        192.168.1.1  10.255.1.0/24  4/100
n2    ready         5 of 7   192.168.1.1  10.255.1.0/24  4/100
n3    disconnected  -        192.168.1.1  10.255.1.0/24  4/100
";
        assert_eq!(text, expected);
    }

    #[test]
    fn an_instance_is_named_app_slash_number() {
        let binding: Binding = serde_json::from_value(json!({
            "address": "10.255.1.7", "app": "web", "identity": 256, "instance": 0, "node": "n1", "state": "live",
            "since": Timestamp::now().to_string(), "labels": {"tier": "front"}, "revision": 7
        }))
        .expect("a binding");
        let listing = Listing { items: vec![binding], revision: 7 };
        let expected = "\
ADDRESS     APP  INSTANCE  NODE  STATE  SINCE
10.255.1.7  web  web/0     n1    live   now
";
        assert_eq!(render_list(&listing, Format::Table, &PIPE).expect("text"), expected);
        assert_eq!(render_list(&listing, Format::Name, &PIPE).expect("text"), "web/0\n");
        let wide = render_list(&listing, Format::Wide, &PIPE).expect("text");
        assert!(wide.contains("tier=front"), "{wide}");
    }
}
