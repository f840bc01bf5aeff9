//! Where the store is, as `--store` says it.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use crate::model::Invalid;

/// The engine and the place of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// One file, embedded.
    Sqlite(PathBuf),
}

impl Location {
    pub fn path(&self) -> &Path {
        match self {
            Self::Sqlite(path) => path,
        }
    }
}

impl FromStr for Location {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let remedy = "use `sqlite://` and an absolute path, like `sqlite:///var/lib/netpol/policy.db`";
        if text.starts_with("etcd://") {
            return Err(Invalid::new(text, "is a store that is not supported by this version", remedy));
        }
        let path = text.strip_prefix("sqlite://").map(PathBuf::from);
        match path.filter(|path| path.is_absolute() && path.file_name().is_some()) {
            Some(path) => Ok(Self::Sqlite(path)),
            None => Err(Invalid::new(text, "is not a store", remedy)),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Location;

    #[test]
    fn a_store_is_named_by_its_engine_and_absolute_path() {
        let location: Location = "sqlite:///var/lib/netpol/policy.db".parse().expect("valid");
        assert_eq!(location.to_string(), "sqlite:///var/lib/netpol/policy.db");
        for text in ["", "policy.db", "sqlite://policy.db", "sqlite:///", "postgres:///x"] {
            assert!(text.parse::<Location>().is_err(), "{text} was taken");
        }
        let later = "etcd://a:2379".parse::<Location>().expect_err("later").to_string();
        assert!(later.contains("not supported by this version"), "{later}");
    }
}
