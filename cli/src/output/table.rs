//! Tables: columns two spaces apart, no lines, never wider than the terminal.

use comfy_table::{Cell, Color, ContentArrangement, Table, presets};

use super::Detail;
use crate::terminal::{Look, printable};

/// A column of a list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    pub(crate) title: &'static str,
    pub(crate) shown: Shown,
}

/// When a column is worth its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    Always,
    /// Where some row has something to say in it, and with `-o wide`.
    Noted,
    /// Where the table fits the terminal with it; of those that do not fit together the highest number goes first.
    Fitting(u8),
    /// With `-o wide` only.
    Wide,
}

impl Column {
    pub(crate) const fn always(title: &'static str) -> Self {
        Self { title, shown: Shown::Always }
    }

    pub(crate) const fn noted(title: &'static str) -> Self {
        Self { title, shown: Shown::Noted }
    }

    pub(crate) const fn fitting(title: &'static str, goes: u8) -> Self {
        Self { title, shown: Shown::Fitting(goes) }
    }

    pub(crate) const fn wide(title: &'static str) -> Self {
        Self { title, shown: Shown::Wide }
    }
}

impl Column {
    fn goes(&self, at: usize) -> Option<(u8, usize)> {
        match self.shown {
            Shown::Fitting(goes) => Some((goes, at)),
            Shown::Always | Shown::Noted | Shown::Wide => None,
        }
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

    pub(crate) fn is_nothing(&self) -> bool {
        self.text == "-"
    }

    pub(crate) fn width(&self) -> usize {
        self.text.chars().count()
    }

    /// The value in a column of this width, outside of a table.
    pub(crate) fn padded(&self, width: usize, look: &Look) -> String {
        let blank = width.saturating_sub(self.width());
        paint(&self.text, self.tone, look) + &" ".repeat(blank)
    }
}

/// Which columns are shown, of those with these titles and values.
pub(crate) fn shown(columns: &[Column], rows: &[Vec<Field>], detail: Detail, look: &Look) -> Vec<bool> {
    let says_something = |at: usize| rows.iter().any(|row| row.get(at).is_some_and(|field| !field.is_nothing()));
    let is_wanted = |(at, column): (usize, &Column)| match column.shown {
        Shown::Always | Shown::Fitting(_) => true,
        Shown::Noted => detail == Detail::Wide || says_something(at),
        Shown::Wide => detail == Detail::Wide,
    };
    let mut shown: Vec<bool> = columns.iter().enumerate().map(is_wanted).collect();
    let Some(width) = look.width.filter(|_| detail == Detail::Normal) else { return shown };
    let width_of = |at: usize, column: &Column| {
        let fields = rows.iter().filter_map(|row| row.get(at)).map(Field::width);
        fields.chain([column.title.len()]).max().unwrap_or(0) + GAP
    };
    let widths: Vec<usize> = columns.iter().enumerate().map(|(at, column)| width_of(at, column)).collect();
    let mut spare: Vec<(u8, usize)> = columns.iter().enumerate().filter_map(|(at, column)| column.goes(at)).collect();
    spare.sort_unstable();
    let total =
        |shown: &[bool]| widths.iter().zip(shown).filter(|(_, shown)| **shown).map(|(width, _)| width).sum::<usize>();
    while total(&shown) > usize::from(width) + GAP
        && let Some((_, at)) = spare.pop()
    {
        shown[at] = false;
    }
    shown
}

/// Between two columns.
const GAP: usize = 2;

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
    fn what_does_not_fit_goes_in_order_and_what_says_nothing_is_not_there() {
        const COLUMNS: [Column; 4] =
            [Column::always("ID"), Column::fitting("FLOWS", 1), Column::fitting("PACKETS", 2), Column::noted("MODE")];
        let rows = vec![vec![Field::new("r1"), Field::new(7), Field::new(70), Field::new("")]];
        let at = |width| shown(&COLUMNS, &rows, Detail::Normal, &Look { width, ..PIPE });
        assert_eq!(at(None), [true, true, true, false]);
        assert_eq!(at(Some(18)), [true, true, true, false]);
        assert_eq!(at(Some(17)), [true, true, false, false]);
        assert_eq!(at(Some(8)), [true, false, false, false]);
        let audited = vec![vec![Field::new("r1"), Field::new(7), Field::new(70), Field::new("audit")]];
        assert_eq!(
            shown(&COLUMNS, &audited, Detail::Normal, &Look { width: Some(10), ..PIPE }),
            [true, false, false, true]
        );
    }

    #[test]
    fn no_rows_are_no_text() {
        assert_eq!(Grid { headers: vec!["ID"], rows: Vec::new() }.render(&PIPE), "");
    }
}
