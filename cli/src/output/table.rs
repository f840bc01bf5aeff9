//! Tables: columns two spaces apart, no lines, never wider than the terminal.

use comfy_table::{Cell, Color, ContentArrangement, Table, presets};

use crate::terminal::{Look, printable};

/// A column of a list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    pub(crate) title: &'static str,
    /// Shown with `-o wide` only.
    pub(crate) wide_only: bool,
}

impl Column {
    pub(crate) const fn always(title: &'static str) -> Self {
        Self { title, wide_only: false }
    }

    pub(crate) const fn wide(title: &'static str) -> Self {
        Self { title, wide_only: true }
    }
}

/// What a value means to the reader's eye.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    #[default]
    Plain,
    Good,
    Bad,
}

/// One value of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    text: String,
    tone: Tone,
}

impl Field {
    /// A value; nothing becomes a dash, so that columns can be counted by scripts.
    pub(crate) fn new(value: impl ToString) -> Self {
        let text = printable(&value.to_string());
        Self { text: if text.is_empty() { "-".into() } else { text }, tone: Tone::Plain }
    }

    pub(crate) fn toned(value: impl ToString, tone: Tone) -> Self {
        Self { tone, ..Self::new(value) }
    }

    /// A value that may be missing.
    pub(crate) fn maybe(value: Option<impl ToString>) -> Self {
        value.map_or_else(|| Self::new(""), Self::new)
    }

    /// The value in a column of this width, outside of a table.
    pub(crate) fn padded(&self, width: usize, look: &Look) -> String {
        let blank = width.saturating_sub(self.text.chars().count());
        paint(&self.text, self.tone, look) + &" ".repeat(blank)
    }
}

/// Headers and rows, ready to be laid out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Grid {
    pub(crate) headers: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<Field>>,
}

impl Grid {
    /// Lays the table out; nothing at all where there are no rows.
    pub(crate) fn render(&self, look: &Look) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        if look.headers && !self.headers.is_empty() {
            table.set_header(self.headers.iter().copied());
        }
        for row in &self.rows {
            table.add_row(row.iter().map(|field| cell(field, look)));
        }
        fit(&mut table, look);
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
    }
}

fn fit(table: &mut Table, look: &Look) {
    match look.width {
        Some(width) => {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        }
        None => {
            table.set_content_arrangement(ContentArrangement::Disabled);
        }
    }
    if look.color {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
}

fn cell(field: &Field, look: &Look) -> Cell {
    let cell = Cell::new(&field.text);
    match (look.color, field.tone) {
        (true, Tone::Good) => cell.fg(Color::Green),
        (true, Tone::Bad) => cell.fg(Color::Red),
        (true, Tone::Plain) | (false, _) => cell,
    }
}

/// Colours a word outside of tables.
pub(crate) fn paint(word: &str, tone: Tone, look: &Look) -> String {
    match (look.color, tone) {
        (true, Tone::Good) => format!("\x1b[32m{word}\x1b[0m"),
        (true, Tone::Bad) => format!("\x1b[31m{word}\x1b[0m"),
        (true, Tone::Plain) | (false, _) => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIPE: Look = Look { width: None, color: false, headers: true };

    fn sample() -> Grid {
        Grid {
            headers: vec!["ID", "REASON", "AGE"],
            rows: vec![
                vec![Field::new("r1"), Field::new("a very long reason that goes on and on"), Field::new("3d")],
                vec![Field::toned("r12", Tone::Bad), Field::new(""), Field::new("5m")],
            ],
        }
    }

    #[test]
    fn columns_stand_two_spaces_apart_and_lines_end_without_spaces() {
        let expected = "\
ID   REASON                                  AGE
r1   a very long reason that goes on and on  3d
r12  -                                       5m
";
        assert_eq!(sample().render(&PIPE), expected);
    }

    #[test]
    fn a_table_never_passes_the_edge_of_the_terminal() {
        for width in [20, 30, 40] {
            let text = sample().render(&Look { width: Some(width), ..PIPE });
            let longest = text.lines().map(|line| line.chars().count()).max().expect("lines");
            assert!(longest <= usize::from(width), "{width} columns:\n{text}");
        }
    }

    #[test]
    fn headers_and_colours_come_only_where_wanted() {
        let bare = sample().render(&Look { headers: false, ..PIPE });
        assert!(!bare.contains("REASON") && !bare.contains('\x1b'), "{bare}");
        let colourful = sample().render(&Look { color: true, ..PIPE });
        assert!(colourful.contains("\x1b["), "{colourful}");
    }

    #[test]
    fn no_rows_are_no_text() {
        assert_eq!(Grid { headers: vec!["ID"], rows: Vec::new() }.render(&PIPE), "");
    }
}
