//! The `NETPOL_*` variables, and where the user is at home. One that is empty counts as not set, as scripts have it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::ValueEnum;

use crate::failure::Failure;
use crate::output::Format;

const HOME: &str = "HOME";
const CONFIG_HOME: &str = "XDG_CONFIG_HOME";

/// The variables of the process, or of a test.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Reads the process's own.
    pub(crate) fn of_process() -> Self {
        let text = |word: std::ffi::OsString| word.to_string_lossy().into_owned();
        std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect()
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        self.text(name).map(PathBuf::from)
    }

    /// Where the user's own configuration is.
    pub(super) fn home(&self) -> Option<PathBuf> {
        self.path(CONFIG_HOME).or_else(|| self.path(HOME).map(|home| home.join(".config")))
    }

    /// `NETPOL_OUTPUT`, refused by name if it is no format.
    pub(super) fn output(&self) -> Result<Option<Format>, Failure> {
        let Some(value) = self.text("NETPOL_OUTPUT") else { return Ok(None) };
        Format::from_str(value, true).map(Some).map_err(|_| {
            let right = "use table, wide, json, yaml, jsonl or name";
            Failure::usage(format!("NETPOL_OUTPUT: `{value}` is no format; {right}"))
        })
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        let is_known = |name: &str| name.starts_with("NETPOL_") || [HOME, CONFIG_HOME].contains(&name);
        Self(variables.into_iter().filter(|(name, _)| is_known(name)).collect())
    }
}
