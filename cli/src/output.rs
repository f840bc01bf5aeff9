//! Every form of output: one definition of a row or an answer, six ways to print it.
//!
//! What is printed comes from `command`; how a table looks from `terminal::Look`. Nothing here speaks to the API.

use clap::ValueEnum;
use policy_api::model::API_VERSION;
use serde::{Deserialize, Serialize};

use crate::failure::{Exit, Failure};
use crate::terminal::{Look, Terminal};

pub(crate) mod access;
pub(crate) mod event;
pub(crate) mod history;
pub(crate) mod inventory;
pub(crate) mod phrase;
pub(crate) mod policy;
pub(crate) mod right;
pub(crate) mod rule;
pub(crate) mod table;

use table::{Column, Field, Grid};

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// For people
    #[default]
    Table,
    /// A table with more columns
    Wide,
    /// One JSON document
    Json,
    /// One YAML document
    Yaml,
    /// One line of JSON per item
    Jsonl,
    /// Names or ids only, one per line
    Name,
}

impl Format {
    /// True where output is one whole that a program reads, and false where a person reads line by line.
    pub(crate) fn is_document(self) -> bool {
        match self {
            Format::Json | Format::Yaml | Format::Jsonl => true,
            Format::Table | Format::Wide | Format::Name => false,
        }
    }
}

/// Something that lists show one per row.
pub(crate) trait Row: Serialize {
    const COLUMNS: &'static [Column];
    /// What the items are called when there are none.
    const PLURAL: &'static str;

    /// One field per column, wide ones included.
    fn fields(&self) -> Vec<Field>;
    fn name(&self) -> String;
}

/// The one result of a command.
pub(crate) trait Answer: Serialize {
    /// What a person reads.
    fn text(&self, look: &Look, detail: Detail) -> String;
    fn name(&self) -> String;
}

/// How much a person wants to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    Normal,
    Wide,
}

/// A list as the API answers it.
#[derive(Debug, Serialize)]
pub(crate) struct Listing<T> {
    pub(crate) items: Vec<T>,
    pub(crate) revision: u64,
}

/// A document that says which version of the words it uses.
#[derive(Serialize)]
struct Document<'a, T> {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    #[serde(flatten)]
    body: &'a T,
}

/// What is to be printed, and what it says apart from how long ago things were.
#[derive(Clone, Debug)]
pub(crate) struct Shot {
    text: String,
    pub(crate) content: String,
    /// For the person at the terminal.
    note: Option<String>,
}

/// Format and terminal: everything a command needs to print.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    pub(crate) format: Format,
    pub(crate) terminal: Terminal,
}

impl Printer {
    /// Renders a list.
    pub(crate) fn list<T: Row>(&self, listing: &Listing<T>) -> Result<Shot, Failure> {
        let for_people = matches!(self.format, Format::Table | Format::Wide);
        Ok(Shot {
            text: render_list(listing, self.format, &self.terminal.look)?,
            content: content(&listing.items)?,
            note: (listing.items.is_empty() && for_people).then(|| format!("no {}", T::PLURAL)),
        })
    }

    /// Renders an answer that can be watched.
    pub(crate) fn shot_of(&self, answer: &impl Answer) -> Result<Shot, Failure> {
        Ok(Shot {
            text: render_answer(answer, self.format, &self.terminal.look)?,
            content: content(answer)?,
            note: None,
        })
    }

    /// Prints what was rendered.
    pub(crate) fn shot(&self, shot: &Shot) -> Result<(), Failure> {
        self.terminal.data(&shot.text)?;
        shot.note.iter().for_each(|note| self.say(note));
        Ok(())
    }

    /// Prints in place of what was printed before: on a cleared screen, or below an empty line.
    pub(crate) fn again(&self, shot: &Shot, first: bool) -> Result<(), Failure> {
        let for_people = matches!(self.format, Format::Table | Format::Wide);
        match (for_people, self.terminal.interactive) {
            (true, true) => self.terminal.clear()?,
            (true, false) if !first => self.terminal.data("\n")?,
            (true, false) | (false, _) => {}
        }
        self.shot(shot)
    }

    /// Prints the one result of a command.
    pub(crate) fn answer(&self, answer: &impl Answer) -> Result<(), Failure> {
        self.terminal.data(&render_answer(answer, self.format, &self.terminal.look)?)
    }

    /// Prints a further line of a result: data for people, talk beside a name. A document has it inside already.
    pub(crate) fn result_line(&self, line: &str) -> Result<(), Failure> {
        match self.format {
            Format::Table | Format::Wide => self.terminal.data(line)?,
            Format::Name => self.say(line),
            Format::Json | Format::Yaml | Format::Jsonl => {}
        }
        Ok(())
    }

    pub(crate) fn say(&self, line: &str) {
        self.terminal.say(line);
    }
}

/// Turns a list into text.
pub(crate) fn render_list<T: Row>(listing: &Listing<T>, format: Format, look: &Look) -> Result<String, Failure> {
    match format {
        Format::Table => Ok(grid(&listing.items, Detail::Normal, look).render(look)),
        Format::Wide => Ok(grid(&listing.items, Detail::Wide, look).render(look)),
        Format::Json => json(listing),
        Format::Yaml => yaml(listing),
        Format::Jsonl => listing.items.iter().map(json_line).collect(),
        Format::Name => Ok(listing.items.iter().map(|item| item.name() + "\n").collect()),
    }
}

/// Turns one result into text.
pub(crate) fn render_answer(answer: &impl Answer, format: Format, look: &Look) -> Result<String, Failure> {
    match format {
        Format::Table => Ok(answer.text(look, Detail::Normal)),
        Format::Wide => Ok(answer.text(look, Detail::Wide)),
        Format::Json => json(answer),
        Format::Yaml => yaml(answer),
        Format::Jsonl => json_line(answer),
        Format::Name => Ok(answer.name()),
    }
}

/// Lays one item out as a list of one.
pub(crate) fn one_row<T: Row>(item: &T, look: &Look, detail: Detail) -> String {
    grid(std::slice::from_ref(item), detail, look).render(look)
}

fn content<T: Serialize>(body: &T) -> Result<String, Failure> {
    serde_json::to_string(body).map_err(|error| unserialisable(&error))
}

fn grid<T: Row>(items: &[T], detail: Detail, look: &Look) -> Grid {
    let rows: Vec<Vec<Field>> = items.iter().map(Row::fields).collect();
    let shown = table::shown(T::COLUMNS, &rows, detail, look);
    let headers = T::COLUMNS.iter().zip(&shown).filter(|(_, shown)| **shown).map(|(column, _)| column.title);
    let pick = |row: Vec<Field>| row.into_iter().zip(&shown).filter(|(_, shown)| **shown).map(|(field, _)| field);
    Grid { headers: headers.collect(), rows: rows.into_iter().map(|row| pick(row).collect()).collect() }
}

fn document<T>(body: &T) -> Document<'_, T> {
    Document { api_version: API_VERSION, body }
}

fn json<T: Serialize>(body: &T) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(&document(body)).map_err(|error| unserialisable(&error))?;
    Ok(text + "\n")
}

fn json_line<T: Serialize>(body: &T) -> Result<String, Failure> {
    let text = serde_json::to_string(&document(body)).map_err(|error| unserialisable(&error))?;
    Ok(text + "\n")
}

fn yaml<T: Serialize>(body: &T) -> Result<String, Failure> {
    serde_saphyr::to_string(&document(body)).map_err(|error| unserialisable(&error))
}

fn unserialisable(error: &dyn std::error::Error) -> Failure {
    Failure::new(Exit::Unreachable, format!("the API's answer cannot be printed in this format: {error}"))
}
