//! YAML as values whose every part knows where it stands.
//!
//! Only what files of policy need: mappings, lists and plain texts. A scalar is the text that is written there, so that
//! `8080` is a port, `no` an app and `1.10` a name, whatever YAML's schemas make of them. Aliases and tags say in one place
//! what is meant in another, and keys that appear twice say two things; they are refused.

use std::{collections::HashMap, fmt};

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span};
use serde_json::{Map, Value};

/// A place in a file, both numbers from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// One document of a file.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) value: Value,
    /// Where each part stands, by the path that errors of the model name: `rules[3].ports[0]`.
    places: HashMap<String, Place>,
}

/// What cannot be read, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    pub(super) place: Place,
    pub(super) text: String,
}

impl Document {
    /// Where a part stands, or the nearest part around it that is there at all.
    pub(super) fn place(&self, path: &str) -> Place {
        let mut path = path;
        loop {
            match (self.places.get(path), path.rfind(['.', '['])) {
                (Some(place), _) => return *place,
                (None, Some(end)) => path = &path[..end],
                (None, None) => return self.places.get("").copied().unwrap_or(Place { line: 1, column: 1 }),
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Deeper than any policy is, and shallow enough for any stack.
const DEEPEST: usize = 16;

/// All documents of a text.
pub(super) fn documents(text: &str) -> Result<Vec<Document>, Unreadable> {
    let mut reader = Reader { events: Parser::new_from_str(text), places: HashMap::new() };
    let mut documents = Vec::new();
    while let Some((event, span)) = reader.next()? {
        if !event.is_node() {
            continue;
        }
        let value = reader.node(event, span, "", 0)?;
        documents.push(Document { value, places: std::mem::take(&mut reader.places) });
    }
    Ok(documents)
}

struct Reader<I> {
    events: I,
    places: HashMap<String, Place>,
}

impl<'a, I: Iterator<Item = Result<(Event<'a>, Span), ScanError>>> Reader<I> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, Unreadable> {
        let broken = |error: ScanError| {
            let place = Place { line: error.marker().line(), column: error.marker().col() + 1 };
            Unreadable { place, text: format!("this is not YAML: {}", error.info()) }
        };
        self.events.next().transpose().map_err(broken)
    }

    /// The next event inside of something, which is there because the parser says where things end.
    fn inside(&mut self, around: Place) -> Result<(Event<'a>, Span), Unreadable> {
        let unfinished = || refused(around, "what begins here does not end; write its end");
        self.next()?.ok_or_else(unfinished)
    }

    fn node(&mut self, event: Event<'a>, span: Span, path: &str, depth: usize) -> Result<Value, Unreadable> {
        let place = place_of(&span);
        self.places.insert(path.to_owned(), place);
        if depth > DEEPEST {
            return Err(refused(place, "this lies too deep inside of other things; no policy does"));
        }
        let plain = |anchor: usize, is_tagged: bool| match (anchor, is_tagged) {
            (0, false) => Ok(()),
            (0, true) => Err(refused(place, "tags (`!…`) have no meaning here; leave it out")),
            _ => Err(refused(place, "anchors (`&…`) are not taken; write out what is meant where it is meant")),
        };
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                plain(anchor, tag.is_some())?;
                Ok(scalar(&text, style))
            }
            Event::SequenceStart(_, anchor, tag) => {
                plain(anchor, tag.is_some())?;
                self.list(place, path, depth)
            }
            Event::MappingStart(_, anchor, tag) => {
                plain(anchor, tag.is_some())?;
                self.mapping(place, path, depth)
            }
            _ => Err(refused(place, "aliases (`*…`) are not taken; write out what is meant")),
        }
    }

    fn list(&mut self, place: Place, path: &str, depth: usize) -> Result<Value, Unreadable> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.inside(place)?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(Value::Array(items));
            }
            let path = format!("{path}[{}]", items.len());
            items.push(self.node(event, span, &path, depth + 1)?);
        }
    }

    fn mapping(&mut self, place: Place, path: &str, depth: usize) -> Result<Value, Unreadable> {
        let mut members = Map::new();
        loop {
            let (event, span) = self.inside(place)?;
            let key = match event {
                Event::MappingEnd => return Ok(Value::Object(members)),
                Event::Scalar(key, _, 0, None) => key.into_owned(),
                _ => return Err(refused(place_of(&span), "this is no name of a field; use a plain word")),
            };
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            if members.contains_key(&key) {
                let first = self.places.get(&path).map_or(0, |place| place.line);
                let text = format!("field `{path}`: it appears twice, first in line {first}; say it once");
                return Err(refused(place_of(&span), text));
            }
            let key_place = place_of(&span);
            let (event, span) = self.inside(place)?;
            let value = self.node(event, span, &path, depth + 1)?;
            // What is wrong with a field is shown at its name.
            self.places.insert(path, key_place);
            members.insert(key, value);
        }
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    match (style, text) {
        (ScalarStyle::Plain, "" | "~" | "null") => Value::Null,
        _ => Value::String(text.to_owned()),
    }
}

fn place_of(span: &Span) -> Place {
    Place { line: span.start.line(), column: span.start.col() + 1 }
}

fn refused(place: Place, text: impl Into<String>) -> Unreadable {
    Unreadable { place, text: text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_scalar_is_the_text_that_is_written() {
        let text = "a: 8080\nb: no\nc: '1.10'\nd: 0x10\ne: [80, 8000-8010]\nf:\ng: ~\nh: \"null\"\ni: {j: true}\n";
        let read = documents(text).expect("YAML");
        assert_eq!(read.len(), 1);
        let expected = json!({
            "a": "8080", "b": "no", "c": "1.10", "d": "0x10", "e": ["80", "8000-8010"], "f": null, "g": null, "h": "null",
            "i": {"j": "true"},
        });
        assert_eq!(read[0].value, expected);
    }

    #[test]
    fn every_part_knows_where_it_stands() {
        let text = "# a comment\nrules:\n  - source: web\n    ports: [80,\n      443]\n---\nrules: []\n";
        let read = documents(text).expect("YAML");
        let at = |document: usize, path: &str| {
            let Place { line, column } = read[document].place(path);
            (line, column)
        };
        assert_eq!(at(0, "rules[0].source"), (3, 5));
        assert_eq!(at(0, "rules[0].ports[1]"), (5, 7));
        assert_eq!(at(0, "rules[0].destination"), (3, 5), "what is missing is missing in what is around it");
        assert_eq!(at(1, "rules"), (7, 1));
    }

    #[test]
    fn what_says_two_things_or_hides_what_it_says_is_refused_at_its_line() {
        let cases = [
            ("a: 1\na: 2\n", 2, "field `a`: it appears twice, first in line 1"),
            ("r:\n  - a: 1\n    b: 2\n    a: 3\n", 4, "field `r[0].a`: it appears twice, first in line 2"),
            ("a: &x 1\nb: *x\n", 1, "anchors"),
            ("a: 1\nb: !!int 2\n", 2, "tags"),
            ("? [a, b]\n: 1\n", 1, "no name of a field"),
            ("a: [1\nb: 2\n", 2, "not YAML"),
            ("a: 1\n\tb: 2\n", 1, "not YAML"),
        ];
        for (text, line, part) in cases {
            let error = documents(text).expect_err(text);
            assert!(error.place.line >= line && error.text.contains(part), "{text:?}: {error:?}");
        }
        let deep = "[".repeat(100_000);
        assert!(documents(&deep).is_err());
    }
}
