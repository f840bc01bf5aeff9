//! What the command runs with: a flag beats `NETPOL_*` beats the file's context beats the file beats the default.
//!
//! The only place that knows this order, the variables' names and the defaults.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use policy_api::client::{ClientConfig, Credentials};

use crate::args::{GlobalArgs, Secret};
use crate::failure::{Exit, Failure, plain};
use crate::output::Printer;
use crate::terminal::{Talk, Terminal};

mod environment;
mod file;

pub(crate) use environment::Environment;
use file::ConfigFile;

const CONFIG_FILE: &str = "/etc/netpol/cli.toml";
const API: &str = "https://127.0.0.1:7443";
const TOKEN_FILE: &str = "/etc/netpol/operator.token";
const CA_FILE: &str = "/etc/netpol/ca.pem";
/// Below the user's own configuration.
const LOGIN: &str = "netpol/token";
const AGENT_SOCKET: &str = "/run/netpol/agent.sock";

/// Where the token comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TokenSource {
    Given(Secret),
    File(PathBuf),
}

/// Everything that holds for a whole run.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) api: Vec<String>,
    token: TokenSource,
    /// Where `login` keeps the token; nowhere, for who has no home.
    pub(crate) login: Option<PathBuf>,
    ca: PathBuf,
    pub(crate) socket: PathBuf,
    pub(crate) printer: Printer,
}

impl Settings {
    /// Merges the flags with the variables and the config file.
    pub(crate) fn resolve(args: &GlobalArgs, environment: &Environment) -> Result<Self, Failure> {
        let config = args.config.clone().or(environment.path("NETPOL_CONFIG"));
        let context = args.context.as_deref().or(environment.text("NETPOL_CONTEXT"));
        let file = read_config(config.as_deref())?.for_context(context)?;
        let talk = if args.quiet { Talk::Quiet } else { Talk::Normal };
        let color = args.color.or(file.color).unwrap_or_default();
        let path = |typed: &Option<PathBuf>, variable: &str, file: Option<PathBuf>, default: &str| {
            typed.clone().or(environment.path(variable)).or(file).unwrap_or_else(|| default.into())
        };
        Ok(Self {
            api: addresses(args, environment, file.api)?,
            token: token_source(args, environment, file.token_file),
            login: environment.home().map(|home| home.join(LOGIN)),
            ca: path(&args.ca, "NETPOL_CA", file.ca, CA_FILE),
            socket: path(&args.socket, "NETPOL_SOCKET", file.socket, AGENT_SOCKET),
            printer: Printer {
                format: args.output.or(environment.output()?).or(file.output).unwrap_or_default(),
                terminal: Terminal::detect(color, !args.no_headers, talk),
            },
        })
    }

    /// Reads CA and token, for a command that needs the API.
    pub(crate) fn client_config(&self) -> Result<ClientConfig, Failure> {
        let ca_pem = self.ca_pem()?;
        let token = match &self.token {
            TokenSource::Given(token) => token.clone(),
            TokenSource::File(path) => Secret::new(
                &fs::read_to_string(path).map_err(|error| unreadable("the token", "--token-file", path, &error))?,
            ),
        };
        self.by(ca_pem, &token)
    }

    /// Reads the CA, for a command that brings its own token.
    pub(crate) fn client_config_with(&self, token: &Secret) -> Result<ClientConfig, Failure> {
        self.by(self.ca_pem()?, token)
    }

    fn by(&self, ca_pem: Vec<u8>, token: &Secret) -> Result<ClientConfig, Failure> {
        if token.reveal().is_empty() {
            return Err(Failure::usage("the token is empty").tip("`netpol-api init` writes one to operator.token"));
        }
        Ok(ClientConfig { api: self.api.clone(), credentials: Credentials::Token(token.reveal().to_owned()), ca_pem })
    }

    fn ca_pem(&self) -> Result<Vec<u8>, Failure> {
        fs::read(&self.ca).map_err(|error| unreadable("the API's certificate authority", "--ca", &self.ca, &error))
    }
}

fn unreadable(what: &str, flag: &str, path: &Path, error: &io::Error) -> Failure {
    let exit = match error.kind() {
        io::ErrorKind::PermissionDenied => Exit::NotPermitted,
        _ => Exit::Usage,
    };
    let variable = flag.trim_start_matches('-').replace('-', "_").to_uppercase();
    Failure::new(exit, format!("cannot read {what} from {}: {}", path.display(), plain(error)))
        .tip(format!("name the file with {flag} or NETPOL_{variable}; `netpol-api init` writes it"))
}

/// A flag beats a variable, whichever of the two ways to give a token they are, beats the config file beats `login`.
fn token_source(args: &GlobalArgs, environment: &Environment, from_file: Option<PathBuf>) -> TokenSource {
    let typed = args.token_file.clone().map(TokenSource::File);
    let kept = || environment.home().map(|home| home.join(LOGIN)).filter(|path| path.exists());
    let variable = || {
        let token = environment.text("NETPOL_TOKEN").map(|token| TokenSource::Given(Secret::new(token)));
        token.or(environment.path("NETPOL_TOKEN_FILE").map(TokenSource::File))
    };
    let file = || TokenSource::File(from_file.or_else(kept).unwrap_or_else(|| TOKEN_FILE.into()));
    typed.or_else(variable).unwrap_or_else(file)
}

fn addresses(
    args: &GlobalArgs,
    environment: &Environment,
    from_file: Option<Vec<String>>,
) -> Result<Vec<String>, Failure> {
    let variable = || environment.text("NETPOL_API").map(|list| list.split(',').map(str::to_owned).collect());
    let chosen = args.api.clone().or_else(variable).or(from_file).unwrap_or_else(|| vec![API.to_owned()]);
    chosen.iter().map(|url| checked_url(url)).collect()
}

fn checked_url(url: &str) -> Result<String, Failure> {
    let trimmed = url.trim().trim_end_matches('/');
    let right = "write https://HOST:PORT, such as https://127.0.0.1:7443";
    let refuse = |problem: &str| Failure::usage(format!("--api: `{url}` {problem}; {right}"));
    match trimmed.split_once("://") {
        Some(("https", rest)) if !rest.is_empty() && !rest.contains(['/', ' ', '@']) => Ok(trimmed.to_owned()),
        Some(("https", _)) | None => Err(refuse("is no address of an API")),
        Some(_) => Err(refuse("is not https, and the API speaks nothing else")),
    }
}

fn read_config(named: Option<&Path>) -> Result<ConfigFile, Failure> {
    let path = named.unwrap_or(Path::new(CONFIG_FILE));
    match fs::read_to_string(path) {
        Ok(text) => ConfigFile::parse(&text).map_err(|error| badly_formed(path, &text, &error)),
        // Nobody has to have one, but who names one means it.
        Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => Ok(ConfigFile::default()),
        Err(error) => Err(Failure::usage(format!("--config: cannot read {}: {}", path.display(), plain(&error)))),
    }
}

/// Says where and what, without the line itself, which may be a token in the wrong place.
fn badly_formed(path: &Path, text: &str, error: &toml::de::Error) -> Failure {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    Failure::usage(format!("{} line {line}: {}", path.display(), error.message()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(file: Option<&str>, variables: &[(&str, &str)]) -> TokenSource {
        let args = GlobalArgs { token_file: file.map(PathBuf::from), ..GlobalArgs::default() };
        token_source(&args, &environment(variables), Some("/from/config".into()))
    }

    fn environment(variables: &[(&str, &str)]) -> Environment {
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_flag_beats_a_variable_beats_the_file() {
        let given = |token: &str| TokenSource::Given(Secret::new(token));
        let file = |path: &str| TokenSource::File(path.into());
        let both = [("NETPOL_TOKEN", "env"), ("NETPOL_TOKEN_FILE", "/env")];
        assert_eq!(source(Some("/typed"), &both), file("/typed"));
        assert_eq!(source(None, &both), given("env"));
        assert_eq!(source(None, &both[1..]), file("/env"));
        assert_eq!(source(None, &[]), file("/from/config"));
        assert_eq!(source(None, &[("NETPOL_TOKEN", ""), ("NETPOL_TOKEN_FILE", "")]), file("/from/config"));
    }

    #[test]
    fn several_addresses_come_from_one_variable() {
        let variables = environment(&[("NETPOL_API", "https://a:1,https://b:2")]);
        let found = addresses(&GlobalArgs::default(), &variables, None).expect("two addresses");
        assert_eq!(found, ["https://a:1", "https://b:2"]);
        let none = addresses(&GlobalArgs::default(), &environment(&[("NETPOL_API", "")]), None).expect("the default");
        assert_eq!(none, [API]);
    }

    #[test]
    fn a_variable_that_is_no_format_is_refused_by_name() {
        let failure = environment(&[("NETPOL_OUTPUT", "xml")]).output().expect_err("xml").to_string();
        assert!(failure.contains("NETPOL_OUTPUT") && failure.contains("xml") && failure.contains("jsonl"), "{failure}");
    }

    #[test]
    fn only_https_addresses_are_taken() {
        assert_eq!(checked_url("https://a:7443/").expect("fine"), "https://a:7443");
        assert_eq!(checked_url(" https://[::1]:7443").expect("fine"), "https://[::1]:7443");
        for url in ["", "a:7443", "http://a:7443", "https://", "https://a/b", "https://u@a"] {
            let failure = checked_url(url).expect_err(url).to_string();
            assert!(failure.contains("--api") && failure.contains("https://HOST:PORT"), "{failure}");
        }
    }

    #[test]
    fn a_token_never_shows_itself() {
        assert!(!format!("{:?}", TokenSource::Given(Secret::new("hunter2"))).contains("hunter2"));
    }
}
