//! The file of a gatekeeper: authorities, the table of privileges, limits. Taken apart field by field; what is not known is
//! refused by name.
//!
//! ```toml
//! [[authority]]
//! kind = "broker"
//!
//! [[privilege]]
//! methods = ["POST"]
//! path = "/releases/*"
//! privilege = "publish"
//!
//! [limits]
//! body-bytes = 1_048_576
//!
//! [patience]
//! answer = "30s"
//!
//! [upstream]
//! connect = "2s"
//! idle = "60s"
//! ```

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail};
use http::Method;
use policy_api::model::Lifetime;
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::authority::{AuthorityConfig, Privilege};

use super::{
    admit::LongestBody,
    privilege::{PrivilegeRow, PrivilegeTable},
    settings::Patience,
    upstream::UpstreamSettings,
    wire::Limits,
};

/// What stands in the file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Config {
    /// Who is asked, in this order; where nobody is named, our own broker.
    pub authority: Vec<AuthorityConfig>,
    pub feed: FeedConfig,
    pub history: HistoryConfig,
    pub privilege: Vec<PrivilegeConfig>,
    pub limits: LimitsConfig,
    pub patience: PatienceConfig,
    pub upstream: UpstreamConfig,
}

/// Section `[feed]`: what the policy API pushes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct FeedConfig {
    /// After so much silence nobody new is let in by it.
    #[serde(deserialize_with = "lifetime")]
    pub silence: Option<Duration>,
}

/// Section `[history]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct HistoryConfig {
    /// Privileges of which each use is recorded, not only the first of each subject.
    pub privileges: Vec<String>,
}

/// A row `[[privilege]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PrivilegeConfig {
    /// Any method where there are none.
    #[serde(default)]
    pub methods: Vec<String>,
    pub path: String,
    pub privilege: String,
}

/// Section `[limits]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct LimitsConfig {
    pub head_bytes: Option<usize>,
    pub fields: Option<usize>,
    pub body_bytes: Option<u64>,
}

/// Section `[patience]`: `90s`, `30m`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct PatienceConfig {
    #[serde(deserialize_with = "lifetime")]
    pub head: Option<Duration>,
    #[serde(deserialize_with = "lifetime")]
    pub idle: Option<Duration>,
    #[serde(deserialize_with = "lifetime")]
    pub body: Option<Duration>,
    #[serde(deserialize_with = "lifetime")]
    pub write: Option<Duration>,
    #[serde(deserialize_with = "lifetime")]
    pub answer: Option<Duration>,
}

/// Section `[upstream]`: `2s`, `1m`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct UpstreamConfig {
    /// So long it may take to connect.
    #[serde(deserialize_with = "lifetime")]
    pub connect: Option<Duration>,
    /// A connection that was idle for so long is not used again: shorter than the app's own patience.
    #[serde(deserialize_with = "lifetime")]
    pub idle: Option<Duration>,
}

/// As long as what is uploaded usually is, and far from filling a disk.
const LONGEST_BODY: u64 = 64 * 1_048_576;
/// What hyper reads at most.
const MOST_FIELDS: usize = 100;
const LONGEST_HEAD: usize = 65_536;

impl Config {
    /// Reads the file; without one everything is as usual.
    ///
    /// # Errors
    ///
    /// It cannot be read, or says something that is not known.
    pub fn read(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = fs::read_to_string(path).with_context(|| format!("--config: read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("--config: understand {}", path.display()))
    }

    /// The table of privileges.
    ///
    /// # Errors
    ///
    /// A row whose method, path or privilege is none.
    pub fn privileges(&self) -> Result<PrivilegeTable> {
        let rows = (1..).zip(&self.privilege);
        let rows = rows.map(|(number, row)| row.parse().with_context(|| format!("[[privilege]] number {number}")));
        rows.collect::<Result<_>>().map(PrivilegeTable::new)
    }

    /// What is taken of a head at most.
    ///
    /// # Errors
    ///
    /// More than can be read, or nothing.
    pub fn head_limits(&self) -> Result<Limits> {
        let usual = Limits::default();
        let limits = Limits {
            head: self.limits.head_bytes.unwrap_or(usual.head),
            fields: self.limits.fields.unwrap_or(usual.fields),
        };
        if !(256..=LONGEST_HEAD).contains(&limits.head) {
            bail!("[limits] head-bytes = {}: write 256 to {LONGEST_HEAD}", limits.head);
        }
        if !(1..=MOST_FIELDS).contains(&limits.fields) {
            bail!("[limits] fields = {}: write 1 to {MOST_FIELDS}", limits.fields);
        }
        Ok(limits)
    }

    /// Privileges of which each use is recorded.
    ///
    /// # Errors
    ///
    /// One that is none.
    pub fn recorded(&self) -> Result<Vec<Privilege>> {
        let words = self.history.privileges.iter();
        words.map(|word| word.parse().context("[history] privileges")).collect()
    }

    pub fn longest_body(&self) -> LongestBody {
        LongestBody(self.limits.body_bytes.unwrap_or(LONGEST_BODY))
    }

    /// How long the feed may be silent: five heartbeats, where nothing is said.
    pub fn silence(&self) -> Duration {
        self.feed.silence.unwrap_or(Duration::from_secs(10))
    }

    /// How the app is reached, which else is as usual.
    pub fn upstream(&self, usual: UpstreamSettings) -> UpstreamSettings {
        UpstreamSettings {
            connect_timeout: self.upstream.connect.unwrap_or(usual.connect_timeout),
            idle: self.upstream.idle.unwrap_or(usual.idle),
            ..usual
        }
    }

    pub fn patience(&self) -> Patience {
        let usual = Patience::default();
        Patience {
            head: self.patience.head.unwrap_or(usual.head),
            idle: self.patience.idle.unwrap_or(usual.idle),
            body: self.patience.body.unwrap_or(usual.body),
            write: self.patience.write.unwrap_or(usual.write),
            answer: self.patience.answer.unwrap_or(usual.answer),
        }
    }
}

impl PrivilegeConfig {
    fn parse(&self) -> Result<PrivilegeRow> {
        let methods = self.methods.iter().map(|name| {
            let method =
                name.parse::<Method>().ok().filter(|method| method.as_str().bytes().all(|b| b.is_ascii_uppercase()));
            method.with_context(|| format!("methods: {name:?} is no method; write them in capitals, as in `POST`"))
        });
        Ok(PrivilegeRow {
            methods: methods.collect::<Result<_>>()?,
            path: self.path.parse().context("path")?,
            privilege: self.privilege.parse().context("privilege")?,
        })
    }
}

fn lifetime<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse::<Lifetime>().map(|lifetime| Some(lifetime.0)).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<Config> {
        Ok(toml::from_str(text)?)
    }

    #[test]
    fn nothing_has_to_be_said() {
        let config = config("").expect("nothing");
        assert_eq!(config.longest_body().0, LONGEST_BODY);
        assert!(config.privileges().is_ok() && config.head_limits().is_ok());
    }

    #[test]
    fn how_long_the_app_is_waited_for_and_kept_can_be_said() {
        let usual = UpstreamSettings::of("http://app".parse().expect("an address"));
        let times = |text| {
            let upstream = config(text).expect("a table").upstream(usual.clone());
            (upstream.connect_timeout.as_secs(), upstream.idle.as_secs())
        };
        assert_eq!(times(""), (5, 4));
        assert_eq!(times("[upstream]\nconnect = '2s'"), (2, 4));
        assert_eq!(times("[upstream]\nconnect = '2s'\nidle = '1m'"), (2, 60));
        let error = config("[upstream]\nkeep = '1m'").expect_err("no such time");
        assert!(error.to_string().contains("keep"), "{error}");
        assert!(config("[upstream]\nidle = '0s'").is_err());
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        let error = config("[limits]\nbody = 3").expect_err("no such limit");
        assert!(error.to_string().contains("body"), "{error}");
        let row = "[[privilege]]\nmethods = ['post']\npath = '/'\nprivilege = 'read'";
        let error = config(row).expect("a table").privileges().expect_err("no method");
        assert!(format!("{error:#}").contains("number 1: methods: \"post\""), "{error:#}");
        assert!(config("[limits]\nfields = 0").expect("a table").head_limits().is_err());
        assert!(config("[patience]\nhead = '0s'").is_err());
    }
}
