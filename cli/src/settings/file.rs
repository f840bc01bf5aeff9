//! The config file: the connection flags by their names, once for all and once per context.

use std::collections::BTreeMap;
use std::path::PathBuf;

use policy_api::model::nearest_name;
use serde::Deserialize;

use crate::failure::Failure;
use crate::output::Format;
use crate::terminal::ColorChoice;

/// What a file, or one of its contexts, may set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Defaults {
    pub(super) api: Option<Vec<String>>,
    pub(super) token_file: Option<PathBuf>,
    pub(super) ca: Option<PathBuf>,
    pub(super) socket: Option<PathBuf>,
    pub(super) output: Option<Format>,
    pub(super) color: Option<ColorChoice>,
}

/// The whole file. Its members are spelled out twice, as flattening would let unknown ones pass.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct ConfigFile {
    /// The context to use where none is named.
    context: Option<String>,
    #[serde(default)]
    contexts: BTreeMap<String, Defaults>,
    api: Option<Vec<String>>,
    token_file: Option<PathBuf>,
    ca: Option<PathBuf>,
    socket: Option<PathBuf>,
    output: Option<Format>,
    color: Option<ColorChoice>,
}

impl ConfigFile {
    pub(super) fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// Lays the chosen context over what the file says for all.
    pub(super) fn for_context(mut self, named: Option<&str>) -> Result<Defaults, Failure> {
        let chosen = match named.map(str::to_owned).or(self.context.take()).filter(|name| !name.is_empty()) {
            None => Defaults::default(),
            Some(name) => self.contexts.remove(&name).ok_or_else(|| self.unknown_context(&name))?,
        };
        Ok(Defaults {
            api: chosen.api.or(self.api),
            token_file: chosen.token_file.or(self.token_file),
            ca: chosen.ca.or(self.ca),
            socket: chosen.socket.or(self.socket),
            output: chosen.output.or(self.output),
            color: chosen.color.or(self.color),
        })
    }

    fn unknown_context(&self, name: &str) -> Failure {
        let known: Vec<_> = self.contexts.keys().map(String::as_str).collect();
        let listed = if known.is_empty() { "it has none".to_owned() } else { format!("it has: {}", known.join(", ")) };
        let tip = nearest_name(name, known).map(|near| format!("did you mean `{near}`?"));
        Failure::usage(format!("--context: the config file has no context `{name}`; {listed}")).maybe_tip(tip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        api = ["https://10.0.0.1:7443", "https://10.0.0.2:7443"]
        ca = "/etc/netpol/ca.pem"
        context = "lab"

        [contexts.lab]
        token-file = "/etc/netpol/lab.token"
        output = "wide"

        [contexts.prod]
        ca = "/etc/netpol/prod-ca.pem"
    "#;

    fn defaults(context: Option<&str>) -> Result<Defaults, Failure> {
        ConfigFile::parse(FILE).expect("well-formed").for_context(context)
    }

    #[test]
    fn a_context_lies_over_the_file() {
        let lab = defaults(None).expect("the file names it");
        assert_eq!(lab.ca, Some("/etc/netpol/ca.pem".into()));
        assert_eq!(lab.token_file, Some("/etc/netpol/lab.token".into()));
        assert_eq!(lab.output, Some(Format::Wide));
        let prod = defaults(Some("prod")).expect("it exists");
        assert_eq!(prod.ca, Some("/etc/netpol/prod-ca.pem".into()));
        assert_eq!(prod.token_file, None);
        assert_eq!(prod.api.map(|api| api.len()), Some(2));
    }

    #[test]
    fn the_example_of_the_help_is_a_config_file() {
        let help = crate::args::help::CONNECTION;
        let example = help.split_once("per context:").expect("an example").1;
        let file = ConfigFile::parse(example).expect("well-formed");
        assert_eq!(file.contexts.keys().collect::<Vec<_>>(), ["lab", "prod"]);
    }

    #[test]
    fn an_unknown_context_is_refused_with_the_nearest() {
        let failure = defaults(Some("prud")).expect_err("unknown").to_string();
        assert!(failure.contains("lab, prod") && failure.contains("did you mean `prod`"), "{failure}");
    }

    #[test]
    fn unknown_members_are_refused_by_name() {
        for text in ["tokn-file = \"x\"", "[contexts.a]\ntoken = \"secret\"", "output = \"xml\""] {
            ConfigFile::parse(text).expect_err(text);
        }
    }
}
