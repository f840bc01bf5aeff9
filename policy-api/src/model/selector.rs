//! Who a rule speaks about.

use std::{fmt, str::FromStr};

use super::{
    invalid::{Invalid, text_serde},
    name::AppName,
};

/// One side of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Selector {
    /// The endpoint's own node, locally generated.
    Host,
    /// Every instance of an app.
    App(AppName),
}

impl Selector {
    /// The app, if this is one.
    pub fn app(&self) -> Option<&AppName> {
        match self {
            Self::App(app) => Some(app),
            Self::Host => None,
        }
    }
}

/// Selectors of the contract that this version does not know yet.
const LATER_WORDS: [&str; 2] = ["any", "world"];
const LATER_PREFIXES: [&str; 3] = ["group:", "external:", "cidr:"];

impl FromStr for Selector {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text == "host" {
            return Ok(Self::Host);
        }
        let lower = text.to_ascii_lowercase();
        if LATER_WORDS.contains(&lower.as_str()) || LATER_PREFIXES.iter().any(|prefix| lower.starts_with(prefix)) {
            return Err(Invalid::new(
                text,
                "is a selector that is not supported by this version",
                "use an app name or `host`",
            ));
        }
        if lower == "host" {
            return Err(Invalid::new(text, "is a reserved word", "write `host` for the node itself"));
        }
        text.parse().map(Self::App)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.pad("host"),
            Self::App(app) => app.fmt(f),
        }
    }
}

impl From<AppName> for Selector {
    fn from(app: AppName) -> Self {
        Self::App(app)
    }
}

text_serde!(Selector);

#[cfg(test)]
mod tests {
    use super::Selector;

    #[test]
    fn an_app_and_the_host_are_selectors() {
        for text in ["appA", "host", "hostess"] {
            assert_eq!(text.parse::<Selector>().map(|selector| selector.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("host".parse(), Ok(Selector::Host));
    }

    #[test]
    fn what_comes_later_is_refused_by_name() {
        for text in ["any", "ANY", "world", "group:team", "cidr:10.0.0.0/8", "external:s3", "Group:x"] {
            let error = text.parse::<Selector>().expect_err(text).to_string();
            assert!(error.contains("not supported by this version") && error.contains(text), "{error}");
        }
    }

    #[test]
    fn the_host_in_another_case_is_neither_the_host_nor_an_app() {
        let error = "HOST".parse::<Selector>().expect_err("reserved").to_string();
        assert!(error.contains("write `host`"), "{error}");
    }
}
