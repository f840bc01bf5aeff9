//! Events as they come: a line each, in columns of a fixed width, or JSON.
//!
//! A table that adapts would have to wait for its last row, and what is followed has none.

use policy_api::model::Protocol;
use serde::Serialize;

use super::table::{Field, Tone};
use super::{Detail, Format, Printer, json, json_line, phrase, yaml};
use crate::agent::{Event, FlowEnd, Kind, Span};
use crate::failure::Failure;
use crate::terminal::{Look, warn};

/// A column, as wide as most of its values; longer ones push the rest of their line aside.
struct Slot {
    title: &'static str,
    width: usize,
    wide_only: bool,
}

const fn always(title: &'static str, width: usize) -> Slot {
    Slot { title, width, wide_only: false }
}

const fn wide(title: &'static str, width: usize) -> Slot {
    Slot { title, width, wide_only: true }
}

const SLOTS: [Slot; 10] = [
    always("TIME", "2026-01-31T12:00:00.000Z".len()),
    always("EVENT", "would-allow".len()),
    always("REASON/RULE", "deny-rule r123".len()),
    always("DIRECTION", "DIRECTION".len()),
    always("SOURCE", "backend/12 10.255.100.100:43818".len()),
    always("DESTINATION", "backend/12 10.255.100.100:43818".len()),
    always("PROTOCOL", "PROTOCOL".len()),
    always("CARRIED", "123456 packets, 999 MB".len()),
    wide("SOURCE-NODE", "SOURCE-NODE".len()),
    wide("DESTINATION-NODE", "DESTINATION-NODE".len()),
];

/// How events are put on the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// For people, one by one.
    Lines(Detail),
    /// For programs, one by one.
    Jsonl,
    /// All of them, in one document at the end.
    Whole,
}

impl Form {
    /// Refuses formats that do not go with what is read.
    fn choose(format: Format, span: Span) -> Result<Self, Failure> {
        match (format, span) {
            (Format::Table, _) => Ok(Self::Lines(Detail::Normal)),
            (Format::Wide, _) => Ok(Self::Lines(Detail::Wide)),
            (Format::Jsonl, _) => Ok(Self::Jsonl),
            (Format::Json | Format::Yaml, Span::Kept) => Ok(Self::Whole),
            (Format::Json | Format::Yaml, Span::Endless) => {
                Err(Failure::usage("--output: a document has an end, and --follow has none").tip("write -o jsonl"))
            }
            (Format::Name, _) => Err(Failure::usage("--output: `name` does not suit events, which have no names")
                .tip("write -o table, wide or jsonl; without --follow json and yaml too")),
        }
    }
}

/// Where events are printed.
pub(crate) struct EventPage {
    printer: Printer,
    span: Span,
    form: Form,
    /// What a document will hold.
    items: Vec<Event>,
    shown: usize,
}

impl EventPage {
    pub(crate) fn new(printer: Printer, span: Span) -> Result<Self, Failure> {
        let form = Form::choose(printer.format, span)?;
        Ok(Self { printer, span, form, items: Vec::new(), shown: 0 })
    }

    /// Says that reading has begun: who follows sees the header before there is anything below it.
    pub(crate) fn begin(&self) -> Result<(), Failure> {
        match self.span {
            Span::Endless => self.header(),
            Span::Kept => Ok(()),
        }
    }

    pub(crate) fn event(&mut self, event: Event) -> Result<(), Failure> {
        if self.shown == 0 && self.span == Span::Kept {
            self.header()?;
        }
        self.shown += 1;
        match self.form {
            Form::Lines(detail) => self.printer.terminal.data(&line(&event, detail, &self.printer.terminal.look)),
            Form::Jsonl => self.printer.terminal.data(&json_line(&event)?),
            Form::Whole => {
                self.items.push(event);
                Ok(())
            }
        }
    }

    /// Tells that events are missing here, also to those who want no hints: silence would look like peace.
    pub(crate) fn lost(&self, events: u64) -> Result<(), Failure> {
        let count = phrase::count(usize::try_from(events).unwrap_or(usize::MAX), "event");
        warn(&format!("note: {count} lost here: more happened than could be read"));
        match self.form {
            Form::Jsonl => self.printer.terminal.data(&json_line(&Lost { kind: "lost", events })?),
            Form::Lines(_) | Form::Whole => Ok(()),
        }
    }

    /// Prints what had to wait for the last event.
    pub(crate) fn end(self) -> Result<(), Failure> {
        match self.form {
            Form::Whole => self.printer.terminal.data(&whole(&self.items, self.printer.format)?)?,
            Form::Lines(_) if self.shown == 0 => self.printer.say("no events"),
            Form::Lines(_) | Form::Jsonl => {}
        }
        Ok(())
    }

    fn header(&self) -> Result<(), Failure> {
        match self.form {
            Form::Lines(detail) if self.printer.terminal.look.headers => self.printer.terminal.data(&header(detail)),
            Form::Lines(_) | Form::Jsonl | Form::Whole => Ok(()),
        }
    }
}

#[derive(Serialize)]
struct Lost {
    kind: &'static str,
    events: u64,
}

#[derive(Serialize)]
struct Items<'a> {
    items: &'a [Event],
}

fn whole(items: &[Event], format: Format) -> Result<String, Failure> {
    match format {
        Format::Yaml => yaml(&Items { items }),
        Format::Json | Format::Table | Format::Wide | Format::Jsonl | Format::Name => json(&Items { items }),
    }
}

fn header(detail: Detail) -> String {
    const PLAIN: Look = Look { width: None, color: false, headers: true };
    in_slots(SLOTS.iter().map(|slot| Field::new(slot.title)), detail, &PLAIN)
}

fn line(event: &Event, detail: Detail, look: &Look) -> String {
    let (what, tone) = match event.kind {
        Kind::Start => ("start", Tone::Good),
        Kind::End => ("end", Tone::Plain),
        Kind::Denied => ("denied", Tone::Bad),
        Kind::WouldDeny => ("would-deny", Tone::Bad),
        Kind::WouldAllow => ("would-allow", Tone::Good),
        Kind::Cut => ("cut", Tone::Bad),
    };
    let fields = [
        Field::new(time(&event.time)),
        Field::toned(what, tone),
        Field::new(why(event)),
        Field::new(&event.direction),
        Field::new(end(&event.source, &event.protocol)),
        Field::new(end(&event.destination, &event.protocol)),
        Field::new(&event.protocol),
        Field::new(carried(event)),
        Field::maybe(event.source.node.as_ref()),
        Field::maybe(event.destination.node.as_ref()),
    ];
    in_slots(fields.into_iter(), detail, look)
}

fn in_slots(fields: impl Iterator<Item = Field>, detail: Detail, look: &Look) -> String {
    let shown = SLOTS.iter().zip(fields).filter(|(slot, _)| detail == Detail::Wide || !slot.wide_only);
    let padded: Vec<String> = shown.map(|(slot, field)| field.padded(slot.width, look)).collect();
    padded.join("  ").trim_end().to_owned() + "\n"
}

/// The moment with all of its milliseconds, so that columns stand still.
fn time(text: &str) -> String {
    let Some(utc) = text.strip_suffix('Z') else { return text.to_owned() };
    let (seconds, fraction) = utc.split_once('.').unwrap_or((utc, ""));
    format!("{seconds}.{fraction:0<3}Z")
}

/// `no-rule`, `deny-rule r7`, `r12`, `r12 would: r13`.
fn why(event: &Event) -> String {
    let would = event.would.as_ref().map(|rule| format!("would: {rule}"));
    let words: Vec<&str> = event.reason.iter().chain(&event.rule).chain(&would).map(String::as_str).collect();
    words.join(" ")
}

/// `12 packets, 3.4 kB`; `x 7` where a line stands for several of its kind.
fn carried(event: &Event) -> String {
    let packets = event.packets.map(|packets| phrase::count(usize::try_from(packets).unwrap_or(usize::MAX), "packet"));
    let parts = [
        packets,
        event.bytes.map(phrase::bytes),
        event.count.filter(|count| *count > 1).map(|count| format!("x {count}")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// `appA/0 10.255.1.1:43818`; only the address where nobody is known to have it.
fn end(end: &FlowEnd, protocol: &str) -> String {
    let has_ports = protocol.parse().map_or(end.port != 0, Protocol::has_ports);
    let address = match (has_ports, end.ip) {
        (true, ip) => std::net::SocketAddr::new(ip, end.port).to_string(),
        (false, ip) => ip.to_string(),
    };
    match end.instance.as_ref().or(end.app.as_ref()) {
        Some(name) => format!("{name} {address}"),
        None => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::events::tests::{ALLOWED, DENIED, FROM_NOBODY, event};
    use crate::output::rule::tests::PIPE;

    fn page(detail: Detail) -> String {
        let lines = [DENIED, ALLOWED, FROM_NOBODY].map(|text| line(&event(text), detail, &PIPE));
        header(detail) + &lines.concat()
    }

    #[test]
    fn lines_stand_below_each_other_without_knowing_of_each_other() {
        let expected = "\
TIME                      EVENT        REASON/RULE     DIRECTION  SOURCE                           DESTINATION                      PROTOCOL  CARRIED
2026-01-31T12:00:00.500Z  denied       no-rule         egress     appA/0 10.255.1.1:43818          appB/0 10.255.2.1:8080           tcp       -
2026-01-31T12:00:01.000Z  start        r12             ingress    host 192.0.2.1                   appB/0 10.255.2.1                icmp      -
2026-01-31T12:00:02.123Z  denied       unknown-source  ingress    [fd00::9]:53                     appB/0 [fd00::2]:5353            udp       -
";
        assert_eq!(page(Detail::Normal), expected);
    }

    #[test]
    fn wide_lines_name_the_nodes() {
        let text = page(Detail::Wide);
        let mut lines = text.lines();
        let header = lines.next().expect("a header");
        assert!(header.ends_with("SOURCE-NODE  DESTINATION-NODE"), "{header}");
        let ends: Vec<Vec<&str>> = lines.map(|line| line.split_whitespace().rev().take(2).collect()).collect();
        assert_eq!(ends, [["n2", "n1"], ["n2", "-"], ["n2", "-"]]);
    }

    #[test]
    fn a_deny_rule_is_named_beside_the_reason() {
        let denied = Event { reason: Some("deny-rule".into()), rule: Some("r7".into()), ..event(DENIED) };
        assert!(line(&denied, Detail::Normal, &PIPE).contains("  deny-rule r7    egress"));
    }

    #[test]
    fn what_is_over_says_what_it_carried_and_what_is_audited_what_would_be() {
        let cut = Event { kind: Kind::Cut, packets: Some(12), bytes: Some(3_400), ..event(ALLOWED) };
        assert!(line(&cut, Detail::Normal, &PIPE).ends_with("icmp      12 packets, 3.4 kB\n"));
        let would = Event { kind: Kind::WouldDeny, would: Some("r13".into()), ..event(ALLOWED) };
        assert!(line(&would, Detail::Normal, &PIPE).contains("  would-deny   r12 would: r13  ingress"));
        let many = Event { count: Some(7), ..event(DENIED) };
        assert!(line(&many, Detail::Normal, &PIPE).ends_with("tcp       x 7\n"));
    }

    #[test]
    fn colour_marks_the_verdict_and_moves_no_column() {
        let colourful = Look { color: true, ..PIPE };
        let (bad, good) = (event(DENIED), event(ALLOWED));
        let painted = line(&bad, Detail::Normal, &colourful);
        assert!(painted.contains("\x1b[31mdenied\x1b[0m       no-rule"), "{painted}");
        assert_eq!(
            painted.replace("\x1b[31m", "").replace("\x1b[0m", ""),
            line(&bad, Detail::Normal, &PIPE),
            "colour is more than colour"
        );
        assert!(line(&good, Detail::Normal, &colourful).contains("\x1b[32mstart\x1b[0m"));
    }

    #[test]
    fn what_an_agent_says_cannot_move_the_cursor() {
        let evil = Event { reason: Some("\x1b[2J\n".into()), ..event(DENIED) };
        let text = line(&evil, Detail::Normal, &PIPE);
        assert!(!text.contains('\x1b') && text.lines().count() == 1, "{text}");
    }

    #[test]
    fn documents_hold_items_and_lines_stand_alone() {
        let items = [event(DENIED), event(ALLOWED)];
        let json: serde_json::Value =
            serde_json::from_str(&whole(&items, Format::Json).expect("text")).expect("a document");
        assert_eq!((&json["apiVersion"], &json["items"][1]["rule"]), (&"netpol/v1".into(), &"r12".into()));
        assert!(json["items"][1].get("reason").is_none());
        assert!(whole(&items, Format::Yaml).expect("text").starts_with("apiVersion: netpol/v1\nitems:\n"));
        let lost = json_line(&Lost { kind: "lost", events: 7 }).expect("text");
        assert_eq!(lost, "{\"apiVersion\":\"netpol/v1\",\"kind\":\"lost\",\"events\":7}\n");
    }

    #[test]
    fn formats_that_cannot_be_are_refused_with_those_that_can() {
        for (format, span, tip) in [
            (Format::Json, Span::Endless, "jsonl"),
            (Format::Yaml, Span::Endless, "jsonl"),
            (Format::Name, Span::Kept, "jsonl"),
            (Format::Name, Span::Endless, "jsonl"),
        ] {
            let failure = Form::choose(format, span).expect_err("it cannot be").to_string();
            assert!(failure.contains("--output") && failure.contains(tip), "{failure}");
        }
        assert_eq!(Form::choose(Format::Jsonl, Span::Endless).expect("fine"), Form::Jsonl);
        assert_eq!(Form::choose(Format::Yaml, Span::Kept).expect("fine"), Form::Whole);
    }
}
