//! Which privilege a request takes: a table of methods and path patterns, in the order in which it is written, and below it
//! what methods usually mean.

use std::{fmt, str::FromStr};

use http::Method;
use thiserror::Error;

use super::path::NormalPath;
use crate::authority::Privilege;

/// Method and path to privilege. What nothing stands for is nobody's.
#[derive(Clone, Debug)]
pub struct PrivilegeTable {
    rows: Vec<PrivilegeRow>,
    read: Privilege,
    create: Privilege,
    update: Privilege,
}

/// A row of the table.
#[derive(Clone, Debug)]
pub struct PrivilegeRow {
    /// Any method where there are none.
    pub methods: Vec<Method>,
    pub path: PathPattern,
    pub privilege: Privilege,
}

/// A path of which segments may be left open: `*` is one segment, `**` at the end is all that follow, none included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    text: String,
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Is(Vec<u8>),
    Any,
    Rest,
}

/// Why a text is no pattern of paths.
#[derive(Debug, PartialEq, Eq, Error)]
#[error(
    "{0:?} is no pattern of paths; write one such as `/releases/*` or `/api/**`, with `*` for a whole segment and `**` last"
)]
pub struct NoPattern(String);

impl PrivilegeTable {
    pub fn new(rows: Vec<PrivilegeRow>) -> Self {
        let word = |word: &str| word.parse().expect("it is a lower-case word");
        Self { rows, read: word("read"), create: word("create"), update: word("update") }
    }

    /// The privilege that a request takes; none where no row and no habit says.
    pub fn privilege(&self, method: &Method, path: NormalPath<'_>) -> Option<&Privilege> {
        if !self.rows.is_empty() {
            let decoded = path.decoded();
            let fits = |row: &&PrivilegeRow| {
                (row.methods.is_empty() || row.methods.contains(method)) && row.path.matches(&decoded)
            };
            if let Some(row) = self.rows.iter().find(fits) {
                return Some(&row.privilege);
            }
        }
        match *method {
            Method::GET | Method::HEAD | Method::OPTIONS => Some(&self.read),
            Method::POST => Some(&self.create),
            Method::PUT | Method::PATCH | Method::DELETE => Some(&self.update),
            _ => None,
        }
    }
}

impl PathPattern {
    /// Whether a decoded path is one that is meant. A slash at its end means nothing.
    fn matches(&self, path: &[u8]) -> bool {
        let path = path.strip_suffix(b"/").unwrap_or(path);
        let mut segments = path.split(|&byte| byte == b'/').skip(1);
        for wanted in &self.segments {
            match (wanted, segments.next()) {
                (Segment::Rest, _) => return true,
                (Segment::Any, Some(_)) => {}
                (Segment::Is(wanted), Some(segment)) if wanted == segment => {}
                (Segment::Any | Segment::Is(_), _) => return false,
            }
        }
        segments.next().is_none()
    }
}

impl FromStr for PathPattern {
    type Err = NoPattern;

    fn from_str(text: &str) -> Result<Self, NoPattern> {
        let no_pattern = || NoPattern(text.into());
        let bare = text.strip_prefix('/').ok_or_else(no_pattern)?;
        let bare = bare.strip_suffix('/').unwrap_or(bare);
        let words = bare.split('/').filter(|_| !bare.is_empty());
        let segments: Vec<Segment> = words
            .map(|word| match word {
                "*" => Ok(Segment::Any),
                "**" => Ok(Segment::Rest),
                "" | "." | ".." => Err(no_pattern()),
                word if word.contains(['*', '\\', ';', '%']) => Err(no_pattern()),
                word => Ok(Segment::Is(word.into())),
            })
            .collect::<Result<_, _>>()?;
        let rest = segments.iter().position(|segment| *segment == Segment::Rest);
        if rest.is_some_and(|at| at + 1 != segments.len()) {
            return Err(no_pattern());
        }
        Ok(Self { text: text.into(), segments })
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(methods: &[Method], path: &str, privilege: &str) -> PrivilegeRow {
        let (path, privilege) = (path.parse().expect("a pattern"), privilege.parse().expect("a privilege"));
        PrivilegeRow { methods: methods.to_vec(), path, privilege }
    }

    fn asked<'a>(table: &'a PrivilegeTable, method: &Method, path: &str) -> Option<&'a str> {
        table.privilege(method, NormalPath::read(path).expect("normal")).map(Privilege::as_str)
    }

    #[test]
    fn without_a_table_methods_mean_what_they_usually_do() {
        let table = PrivilegeTable::new(Vec::new());
        assert_eq!(asked(&table, &Method::HEAD, "/"), Some("read"));
        assert_eq!(asked(&table, &Method::POST, "/a"), Some("create"));
        assert_eq!(asked(&table, &Method::DELETE, "/a"), Some("update"));
        let purge = Method::from_bytes(b"PURGE").expect("a method");
        assert_eq!(asked(&table, &purge, "/a"), None);
    }

    #[test]
    fn the_first_row_that_fits_decides() {
        let table = PrivilegeTable::new(vec![
            row(&[Method::POST], "/releases/*", "publish"),
            row(&[Method::DELETE], "/**", "delete"),
            row(&[], "/admin/**", "administer"),
        ]);
        assert_eq!(asked(&table, &Method::POST, "/releases/1"), Some("publish"));
        assert_eq!(asked(&table, &Method::POST, "/releases/1/"), Some("publish"));
        assert_eq!(asked(&table, &Method::POST, "/releases/1/a"), Some("create"));
        assert_eq!(asked(&table, &Method::DELETE, "/"), Some("delete"));
        assert_eq!(asked(&table, &Method::DELETE, "/admin"), Some("delete"));
        assert_eq!(asked(&table, &Method::GET, "/admin"), Some("administer"));
        assert_eq!(asked(&table, &Method::GET, "/admin/a/b"), Some("administer"));
        assert_eq!(asked(&table, &Method::GET, "/%61dmin/a"), Some("administer"));
        assert_eq!(asked(&table, &Method::GET, "/administer"), Some("read"));
    }

    #[test]
    fn a_pattern_leaves_whole_segments_open() {
        for text in ["a", "", "/a*", "/**/a", "/a//b", "/../a", "/%61", "/a;b"] {
            assert!(text.parse::<PathPattern>().is_err(), "{text}");
        }
        for text in ["/", "/*", "/**", "/a/*/b/**"] {
            assert!(text.parse::<PathPattern>().is_ok(), "{text}");
        }
    }
}
