//! Names of apps, groups and nodes, and how near two names are.

use std::{cell::RefCell, str::FromStr, sync::Arc};

use super::invalid::{Invalid, text_type};

/// The name of an app: letters, digits, `.`, `_` and `-`, at most 63 of them, and none of the reserved words.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AppName(Arc<str>);

/// The name of a node: like an app's, without reserved words.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeName(Arc<str>);

/// The name of a group of apps: like an app's, without reserved words.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupName(Arc<str>);

/// The name of a team: like an app's, without reserved words.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TeamName(Arc<str>);

/// The name of an API token, which is that of whom it lets in: like an app's, without reserved words.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenName(Arc<str>);

/// Which apps a node may run, or a team owns: names, or patterns with `*`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AppPattern(String);

/// Words that mean something else than an app, in every case.
const RESERVED: [&str; 4] = ["any", "world", "host", "unassigned"];
const LONGEST: usize = 63;

impl AppName {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What two names must not have in common: they are DNS names too, which know no case.
    pub fn folded(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

impl FromStr for AppName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        check_pattern(text, "an app name")?;
        if RESERVED.iter().any(|word| text.eq_ignore_ascii_case(word)) {
            return Err(Invalid::new(text, "is a reserved word", "give the app another name"));
        }
        Ok(Self(shared(text)))
    }
}

impl NodeName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        check_pattern(text, "a node name")?;
        Ok(Self(shared(text)))
    }
}

impl GroupName {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What two names must not have in common, as for apps: who reads a rule must not need to look at the case.
    pub fn folded(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

impl FromStr for GroupName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        check_pattern(text, "a group name")?;
        Ok(Self(shared(text)))
    }
}

impl TeamName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TeamName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        check_pattern(text, "a team name")?;
        Ok(Self(shared(text)))
    }
}

impl TokenName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TokenName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        check_pattern(text, "a name of a token")?;
        Ok(Self(shared(text)))
    }
}

impl AppPattern {
    /// Every app.
    pub fn all() -> Self {
        Self("*".to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn matches(&self, app: &AppName) -> bool {
        glob(self.0.to_ascii_lowercase().as_bytes(), app.folded().as_bytes())
    }

    pub fn matches_group(&self, group: &GroupName) -> bool {
        glob(self.0.to_ascii_lowercase().as_bytes(), group.folded().as_bytes())
    }

    /// Whether some name is matched by both.
    pub fn overlaps(&self, other: &Self) -> bool {
        globs_overlap(self.0.to_ascii_lowercase().as_bytes(), other.0.to_ascii_lowercase().as_bytes())
    }
}

impl FromStr for AppPattern {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let fits = !text.is_empty() && text.len() <= LONGEST && text.bytes().all(|byte| byte == b'*' || is_inner(byte));
        if !fits {
            return Err(Invalid::new(
                text,
                "is not a pattern of app names",
                "use an app name in which `*` stands for anything, like `web-*`",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

text_type!(AppName);
text_type!(GroupName);
text_type!(NodeName);
text_type!(TeamName);
text_type!(TokenName);
text_type!(AppPattern);

/// The text of a name; the same one as the last time, if this thread read it not long ago. Whoever reads a watch meets the name
/// of an app in its rules, in its instances and in itself.
fn shared(text: &str) -> Arc<str> {
    const RECENT: usize = 1_024;
    thread_local! {
        static NAMES: RefCell<Vec<Option<Arc<str>>>> = const { RefCell::new(Vec::new()) };
    }
    // FNV-1a: names are short, and whoever chooses some that meet here gains nothing.
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    NAMES.with_borrow_mut(|names| {
        names.resize(RECENT, None);
        let place = usize::try_from(hash % RECENT as u64).unwrap_or_default();
        match &names[place] {
            Some(known) if **known == *text => known.clone(),
            _ => names[place].insert(text.into()).clone(),
        }
    })
}

fn check_pattern(text: &str, what: &'static str) -> Result<(), Invalid> {
    let remedy = "use 1 to 63 letters, digits, `.`, `_` or `-`, with a letter or digit first and last";
    let problem = |text: &str| {
        if text.is_empty() {
            return Some("is empty".to_owned());
        }
        if text.len() > LONGEST {
            return Some(format!("is too long for {what} ({} bytes)", text.len()));
        }
        let bytes = text.as_bytes();
        let ends = [bytes.first(), bytes.last()];
        let fits =
            ends.iter().flatten().all(|byte| byte.is_ascii_alphanumeric()) && bytes.iter().copied().all(is_inner);
        (!fits).then(|| format!("is not {what}"))
    };
    match problem(text) {
        Some(problem) => Err(Invalid::new(text, problem, remedy)),
        None => Ok(()),
    }
}

fn is_inner(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// Whether `text` matches `pattern`, in time linear in their product: the last `*` is the only one to come back to.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == text.get(t) {
            (p, t) = (p + 1, t + 1);
        } else if let Some((after, taken)) = star {
            star = Some((after, taken + 1));
            (p, t) = (after + 1, taken + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Whether some text matches both patterns: of each two beginnings of them, whether some text matches both.
fn globs_overlap(a: &[u8], b: &[u8]) -> bool {
    let mut both = vec![vec![false; b.len() + 1]; a.len() + 1];
    both[0][0] = true;
    for (i, j) in (0..=a.len()).flat_map(|i| (0..=b.len()).map(move |j| (i, j))).skip(1) {
        let without_a = i > 0 && both[i - 1][j];
        let without_b = j > 0 && both[i][j - 1];
        let (star_of_a, star_of_b) = (i > 0 && a[i - 1] == b'*', j > 0 && b[j - 1] == b'*');
        let same_letter = i > 0 && j > 0 && a[i - 1] == b[j - 1] && both[i - 1][j - 1];
        // A star stands for nothing, or for what the other pattern has there.
        both[i][j] = ((star_of_a || star_of_b) && (without_a || without_b)) || same_letter;
    }
    both[a.len()][b.len()]
}

/// The known name that is nearest to a mistyped one, if any is near enough to be meant.
pub fn nearest_name<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (wanted.len() / 3).clamp(1, 4);
    let folded = wanted.to_ascii_lowercase();
    known
        .into_iter()
        .filter(|name| name.len().abs_diff(wanted.len()) <= limit)
        .take(MOST_COMPARED)
        .map(|name| (distance(folded.as_bytes(), name.to_ascii_lowercase().as_bytes()), name))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| name)
}

/// A suggestion is a courtesy: it must not cost more than the question.
const MOST_COMPARED: usize = 2000;

/// How many letters must be inserted, removed, replaced or swapped with their neighbour to make one name of the other.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            row.push(if swapped { best.min(rows[i - 2][j - 2] + 1) } else { best });
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_contract_are_taken() {
        for name in ["a", "appA", "web-1", "a.b_c-d", "0", &"x".repeat(63)] {
            assert_eq!(name.parse::<AppName>().map(|app| app.to_string()), Ok(name.to_owned()));
        }
    }

    #[test]
    fn anything_else_is_refused_with_what_would_be_right() {
        for name in ["", "-a", "a-", ".a", "a b", "ä", "a/0", "a\n", "a*", &"x".repeat(64), &"x".repeat(300)] {
            let error = name.parse::<AppName>().expect_err(name).to_string();
            assert!(error.contains("1 to 63"), "{error}");
        }
    }

    #[test]
    fn reserved_words_are_refused_in_every_case() {
        for name in ["any", "ANY", "World", "hOst", "unassigned"] {
            let error = name.parse::<AppName>().expect_err(name).to_string();
            assert!(error.contains("reserved"), "{error}");
            assert!(name.parse::<NodeName>().is_ok() && name.parse::<GroupName>().is_ok());
        }
    }

    #[test]
    fn a_pattern_matches_as_a_glob_without_case() {
        let cases = [("*", "web", true), ("web-*", "web-1", true), ("web-*", "Web-1", true), ("web-*", "web", false)];
        let more = [("*-db-*", "a-db-b", true), ("a*b*c", "aXbYbZc", true), ("a*b", "abc", false), ("db", "db", true)];
        for (pattern, name, expected) in cases.into_iter().chain(more) {
            let pattern: AppPattern = pattern.parse().expect("pattern");
            assert_eq!(pattern.matches(&name.parse().expect("name")), expected, "{pattern} {name}");
        }
        assert!("".parse::<AppPattern>().is_err() && "a b".parse::<AppPattern>().is_err());
    }

    #[test]
    fn patterns_overlap_when_some_name_is_of_both() {
        let overlapping = [("*", "a"), ("web-*", "*-db"), ("web-*", "web-1"), ("a*b", "*"), ("a*c", "ab*"), ("A", "a")];
        let apart = [("web-*", "shop-*"), ("a", "b"), ("web", "web-*"), ("a*b", "a*c"), ("a", "aa"), ("*x", "*y")];
        for ((a, b), expected) in
            overlapping.map(|pair| (pair, true)).into_iter().chain(apart.map(|pair| (pair, false)))
        {
            let [first, second] = [a, b].map(|text| text.parse::<AppPattern>().expect("pattern"));
            assert_eq!(first.overlaps(&second), expected, "{a} {b}");
            assert_eq!(second.overlaps(&first), expected, "{b} {a}");
        }
    }

    #[test]
    fn a_mistyped_name_finds_the_one_that_was_meant() {
        let known = ["frontend", "backend", "db"];
        assert_eq!(nearest_name("fronted", known), Some("frontend"));
        assert_eq!(nearest_name("BACKEND", known), Some("backend"));
        assert_eq!(nearest_name("dx", known), Some("db"));
        assert_eq!(nearest_name("bd", known), Some("db"));
        assert_eq!(nearest_name("cache", known), None);
    }
}
