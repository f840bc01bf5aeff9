//! Who a rule speaks about.

use std::{fmt, str::FromStr};

use super::{
    invalid::{Invalid, text_serde},
    name::{AppName, GroupName},
};

/// One side of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Selector {
    /// The endpoint's own node, locally generated.
    Host,
    /// Every instance of every app, and nothing else.
    Any,
    /// Every instance of every app that is in the group.
    Group(GroupName),
    /// Every instance of an app.
    App(AppName),
}

/// What a message suggests.
pub(super) const SELECTORS: &str = "use an app name, `group:NAME`, `any` or `host`";

impl Selector {
    /// The app, if this is one.
    pub fn app(&self) -> Option<&AppName> {
        match self {
            Self::App(app) => Some(app),
            Self::Host | Self::Any | Self::Group(_) => None,
        }
    }

    /// The group, if this is one.
    pub fn group(&self) -> Option<&GroupName> {
        match self {
            Self::Group(group) => Some(group),
            Self::Host | Self::Any | Self::App(_) => None,
        }
    }

    /// Whether it stands for apps, one or many: at least one side of a rule does.
    pub fn names_apps(&self) -> bool {
        match self {
            Self::App(_) | Self::Any | Self::Group(_) => true,
            Self::Host => false,
        }
    }
}

const GROUP: &str = "group:";
/// Words that are selectors as they are written here, and nothing in another case.
const WORDS: [&str; 2] = ["host", "any"];
/// Selectors of the contract that this version does not know yet.
const LATER_WORDS: [&str; 1] = ["world"];
const LATER_PREFIXES: [&str; 2] = ["external:", "cidr:"];

impl FromStr for Selector {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "host" => return Ok(Self::Host),
            "any" => return Ok(Self::Any),
            _ => {}
        }
        if let Some(name) = text.strip_prefix(GROUP) {
            return name.parse().map(Self::Group);
        }
        let lower = text.to_ascii_lowercase();
        if LATER_WORDS.contains(&lower.as_str()) || LATER_PREFIXES.iter().any(|prefix| lower.starts_with(prefix)) {
            return Err(Invalid::new(text, "is a selector that is not supported by this version", SELECTORS));
        }
        if lower.starts_with(GROUP) {
            return Err(Invalid::new(text, "is not a selector", "write `group:` in small letters, like `group:NAME`"));
        }
        if let Some(word) = WORDS.iter().find(|word| **word == lower) {
            return Err(Invalid::new(text, "is a reserved word", format!("write `{word}` if that is what you mean")));
        }
        text.parse().map(Self::App)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.pad("host"),
            Self::Any => f.pad("any"),
            Self::Group(group) => f.pad(&format!("{GROUP}{group}")),
            Self::App(app) => app.fmt(f),
        }
    }
}

impl From<AppName> for Selector {
    fn from(app: AppName) -> Self {
        Self::App(app)
    }
}

impl From<GroupName> for Selector {
    fn from(group: GroupName) -> Self {
        Self::Group(group)
    }
}

text_serde!(Selector);

#[cfg(test)]
mod tests {
    use super::Selector;

    #[test]
    fn apps_groups_any_and_the_host_are_selectors() {
        for text in ["appA", "host", "hostess", "any", "anybody", "group:team-1", "group:any"] {
            assert_eq!(text.parse::<Selector>().map(|selector| selector.to_string()), Ok(text.to_owned()));
        }
        assert_eq!(("host".parse(), "any".parse()), (Ok(Selector::Host), Ok(Selector::Any)));
        assert!("group:team".parse::<Selector>().expect("group").group().is_some());
    }

    #[test]
    fn what_comes_later_is_refused_by_name() {
        for text in ["world", "World", "cidr:10.0.0.0/8", "external:s3"] {
            let error = text.parse::<Selector>().expect_err(text).to_string();
            assert!(error.contains("not supported by this version") && error.contains(text), "{error}");
        }
    }

    #[test]
    fn a_word_in_another_case_is_neither_that_word_nor_an_app() {
        for (text, remedy) in [("HOST", "write `host`"), ("Any", "write `any`"), ("Group:x", "write `group:`")] {
            let error = text.parse::<Selector>().expect_err("reserved").to_string();
            assert!(error.contains(remedy), "{error}");
        }
    }

    #[test]
    fn a_group_without_a_name_is_refused() {
        for text in ["group:", "group:a b", "group:-x"] {
            assert!(text.parse::<Selector>().is_err(), "{text}");
        }
    }
}
