//! What the command runs with: a flag beats `NETPOL_*` beats the file's context beats the file beats the default.
//!
//! clap has already merged flags and variables; this file adds the config file and reads what the values name.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use policy_api::client::ClientConfig;

use crate::args::{GlobalArgs, Secret};
use crate::failure::{Exit, Failure, plain};
use crate::output::{Format, Printer};
use crate::terminal::{ColorChoice, Talk, Terminal};

mod file;

use file::ConfigFile;

const CONFIG_FILE: &str = "/etc/netpol/cli.toml";
const API: &str = "https://127.0.0.1:7443";
const TOKEN_FILE: &str = "/etc/netpol/operator.token";
const CA_FILE: &str = "/etc/netpol/ca.pem";
const AGENT_SOCKET: &str = "/run/netpol/agent.sock";

/// Where the token comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TokenSource {
    Given(Secret),
    File(PathBuf),
}

/// Which of the two token flags were typed, and not taken from a variable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Typed {
    pub(crate) token: bool,
    pub(crate) token_file: bool,
}

/// Everything that holds for a whole run.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) api: Vec<String>,
    token: TokenSource,
    ca: PathBuf,
    pub(crate) socket: PathBuf,
    pub(crate) printer: Printer,
}

impl Settings {
    /// Merges the arguments with the config file they name.
    pub(crate) fn resolve(args: &GlobalArgs, typed: Typed) -> Result<Self, Failure> {
        let file = read_config(args.config.as_deref())?.for_context(args.context.as_deref())?;
        let talk = if args.quiet { Talk::Quiet } else { Talk::Normal };
        let color = args.color.or(file.color).unwrap_or(ColorChoice::Auto);
        let api = args.api.clone().or(file.api).unwrap_or_else(|| vec![API.to_owned()]);
        Ok(Self {
            api: api.iter().map(|url| checked_url(url)).collect::<Result<_, _>>()?,
            token: token_source(args, typed, file.token_file)?,
            ca: args.ca.clone().or(file.ca).unwrap_or_else(|| CA_FILE.into()),
            socket: args.socket.clone().or(file.socket).unwrap_or_else(|| AGENT_SOCKET.into()),
            printer: Printer {
                format: args.output.or(file.output).unwrap_or(Format::Table),
                terminal: Terminal::detect(color, !args.no_headers, talk),
            },
        })
    }

    /// Reads token and CA, for a command that needs the API.
    pub(crate) fn client_config(&self) -> Result<ClientConfig, Failure> {
        let ca_pem = fs::read(&self.ca)
            .map_err(|error| unreadable("the API's certificate authority", "--ca", &self.ca, &error))?;
        let token = match &self.token {
            TokenSource::Given(token) => token.clone(),
            TokenSource::File(path) => Secret::new(
                &fs::read_to_string(path).map_err(|error| unreadable("the token", "--token-file", path, &error))?,
            ),
        };
        if token.reveal().is_empty() {
            return Err(Failure::usage("the token is empty").tip("`netpol-api init` writes one to operator.token"));
        }
        Ok(ClientConfig { api: self.api.clone(), token: token.reveal().to_owned(), ca_pem })
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

/// A typed flag beats a variable; a token beats a file that names one.
fn token_source(args: &GlobalArgs, typed: Typed, from_config: Option<PathBuf>) -> Result<TokenSource, Failure> {
    if typed.token && typed.token_file {
        return Err(Failure::usage("--token and --token-file cannot be used together"));
    }
    let token = args.token.clone().filter(|token| !token.reveal().is_empty() || typed.token);
    let file = args.token_file.clone().filter(|file| !file.as_os_str().is_empty());
    Ok(match (token, file) {
        (Some(_), Some(file)) if typed.token_file => TokenSource::File(file),
        (Some(token), _) => TokenSource::Given(token),
        (None, Some(file)) => TokenSource::File(file),
        (None, None) => TokenSource::File(from_config.unwrap_or_else(|| TOKEN_FILE.into())),
    })
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

    fn given(token: &str) -> Option<Secret> {
        Some(Secret::new(token))
    }

    fn source(token: Option<Secret>, file: Option<&str>, typed: Typed) -> TokenSource {
        let args = GlobalArgs { token, token_file: file.map(PathBuf::from), ..GlobalArgs::default() };
        token_source(&args, typed, Some("/from/config".into())).expect("no conflict")
    }

    #[test]
    fn a_typed_flag_beats_a_variable_beats_the_file() {
        let none = Typed::default();
        let file_typed = Typed { token_file: true, ..none };
        let token_typed = Typed { token: true, ..none };
        assert_eq!(source(given("env"), Some("/typed"), file_typed), TokenSource::File("/typed".into()));
        assert_eq!(source(given("typed"), Some("/env"), token_typed), TokenSource::Given(Secret::new("typed")));
        assert_eq!(source(given("env"), Some("/env"), none), TokenSource::Given(Secret::new("env")));
        assert_eq!(source(None, Some("/env"), none), TokenSource::File("/env".into()));
        assert_eq!(source(None, None, none), TokenSource::File("/from/config".into()));
        assert_eq!(source(given(""), Some(""), none), TokenSource::File("/from/config".into()));
    }

    #[test]
    fn two_typed_tokens_are_a_contradiction() {
        let args = GlobalArgs { token: given("t"), token_file: Some("/f".into()), ..GlobalArgs::default() };
        let failure = token_source(&args, Typed { token: true, token_file: true }, None).expect_err("both");
        assert_eq!(failure.exit(), Exit::Usage);
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
