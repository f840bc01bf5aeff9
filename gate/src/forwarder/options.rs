//! What a forwarder is told: a flag beats `NETPOL_*`, which beats the file that `--config` names.

use std::{env, ffi::OsString, fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use policy_api::model::Lifetime;
use serde::Deserialize;

use super::{
    destination::{Destination, Destinations, Passed},
    listen::Listen,
    secret::{Provider, Secret, SecretSource},
};

/// A token in the environment: never shown by `--help`, and not passed on to a command.
pub(super) const TOKEN_VARIABLE: &str = "NETPOL_TOKEN";

#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  netpol-agent forwarder --to release-bot=release-bot -- ./publish.sh     in an instance: its node's agent knows who it is
  netpol-agent forwarder --to release.example.org=production/release-bot,tls --listen unix:/run/user/1000/netpol.sock
  curl --unix-socket /run/user/1000/netpol.sock http://release.example.org/releases

A token goes to a destination only if its address is placed as the app that the token is for, or with `,tls` if its
certificate is for the name; with `,unproven` nobody proves anything. Whatever is not named by --to or --pass is refused.")]
pub struct ForwarderOptions {
    /// Where clients connect: ADDR:PORT, which wants a secret, or unix:PATH, which is its owner's alone. With a command, a port
    /// of this machine by default
    #[arg(long, env = "NETPOL_LISTEN", value_name = "ADDR|unix:PATH")]
    pub(super) listen: Option<Listen>,
    /// A destination that gets tokens, and the app or resource that they are for; may be repeated
    #[arg(long = "to", value_name = "HOST[:PORT]=AUDIENCE[,tls|,unproven]")]
    pub(super) to: Vec<Destination>,
    /// A destination that is passed to without a token, also through CONNECT; or `any`; may be repeated
    #[arg(long = "pass", value_name = "HOST[:PORT]")]
    pub(super) pass: Vec<Passed>,
    /// Settings by the names of these flags, in TOML
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// URLs of the policy API, in order of preference
    #[arg(long, env = "NETPOL_API", value_delimiter = ',', value_name = "URL")]
    pub(super) api: Vec<String>,
    /// File with the certificate of the policy API's CA
    #[arg(long, env = "NETPOL_CA", value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
    /// File with the API token of a machine or a person; NETPOL_TOKEN holds one itself
    #[arg(long, env = "NETPOL_TOKEN_FILE", value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,
    /// Command that prints the API token when it is called with --provider-id, as Summon's providers do
    #[arg(long, value_name = "PROGRAM", requires = "provider_id")]
    pub(super) provider: Option<PathBuf>,
    /// What the provider calls the API token
    #[arg(long, value_name = "ID")]
    pub(super) provider_id: Option<String>,
    /// File with the certificates that destinations with `,tls` are known by
    #[arg(long, value_name = "FILE")]
    pub(super) tls_ca: Option<PathBuf>,
    /// File with the secret that clients of a port show as the proxy's password
    #[arg(long, value_name = "FILE")]
    pub(super) proxy_secret_file: Option<PathBuf>,
    /// Replace an Authorization header of the client's own, which is else left alone
    #[arg(long)]
    pub(super) replace_authorization: bool,
    /// error, warn, info, debug or trace
    #[arg(long, env = "NETPOL_LOG", default_value = "info", value_name = "LEVEL")]
    pub log: String,
    /// A command to run beside it, with http_proxy set; its end is the forwarder's
    #[arg(last = true, value_name = "CMD")]
    pub(super) command: Vec<OsString>,
}

/// The same, as a file has it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct File {
    listen: Option<String>,
    to: Vec<String>,
    pass: Vec<String>,
    api: Vec<String>,
    ca: Option<PathBuf>,
    token_file: Option<PathBuf>,
    provider: Option<PathBuf>,
    provider_id: Option<String>,
    provider_timeout: Option<String>,
    tls_ca: Option<PathBuf>,
    proxy_secret_file: Option<PathBuf>,
    replace_authorization: Option<bool>,
}

/// All that is known before anything is opened.
pub(super) struct Settings {
    pub(super) listen: Option<Listen>,
    pub(super) destinations: Destinations,
    pub(super) api: Vec<String>,
    pub(super) ca: PathBuf,
    /// Where the API token is; none, where nobody says, which is right for an instance.
    pub(super) secret: Option<SecretSource>,
    /// What `netpol login` keeps, for who says nothing and is no instance.
    pub(super) login: Option<PathBuf>,
    pub(super) tls_ca: PathBuf,
    pub(super) proxy_secret: Option<Secret>,
    pub(super) replace_authorization: bool,
    pub(super) command: Vec<OsString>,
}

const API: &str = "https://127.0.0.1:7443";
const CA: &str = "/etc/netpol/ca.pem";
const TLS_CA: &str = "/etc/ssl/certs/ca-certificates.crt";
const PROVIDER_TIMEOUT: Duration = Duration::from_secs(20);

impl Settings {
    pub(super) fn resolve(options: ForwarderOptions) -> Result<Self> {
        let file = options.config.as_ref().map(read_file).transpose()?.unwrap_or_default();
        let destinations = Destinations {
            to: typed_or(options.to, &file.to, "to")?,
            pass: typed_or(options.pass, &file.pass, "pass")?,
        };
        if destinations.to.is_empty() && destinations.pass.is_empty() {
            bail!("--to: no destination is named, so nothing would be passed on; write --to HOST=AUDIENCE");
        }
        let listen = match options.listen {
            Some(listen) => Some(listen),
            None => file.listen.as_deref().map(str::parse).transpose().context("listen")?,
        };
        let timeout = file.provider_timeout.as_deref().map(str::parse::<Lifetime>).transpose();
        let timeout = timeout.context("provider-timeout")?.map_or(PROVIDER_TIMEOUT, |lifetime| lifetime.0);
        let provider = options.provider.map(|program| (program, options.provider_id));
        let from_file = file.provider.map(|program| (program, file.provider_id));
        let given = env::var(TOKEN_VARIABLE).ok().filter(|token| !token.is_empty());
        let secret = match (provider, options.token_file, given, from_file, file.token_file) {
            (Some(provider), ..) | (None, None, None, Some(provider), _) => Some(provided(provider, timeout)?),
            (None, Some(path), ..) | (None, None, None, None, Some(path)) => Some(SecretSource::File(path)),
            (None, None, Some(token), ..) => {
                let secret = Secret::new(&token).with_context(|| format!("{TOKEN_VARIABLE} holds no token"))?;
                Some(SecretSource::Given(secret))
            }
            (None, None, None, None, None) => None,
        };
        Ok(Self {
            listen,
            destinations,
            api: [options.api, file.api, vec![API.to_owned()]]
                .into_iter()
                .find(|urls| !urls.is_empty())
                .unwrap_or_default(),
            ca: options.ca.or(file.ca).unwrap_or_else(|| CA.into()),
            secret,
            login: login(),
            tls_ca: options.tls_ca.or(file.tls_ca).unwrap_or_else(|| TLS_CA.into()),
            proxy_secret: options.proxy_secret_file.or(file.proxy_secret_file).map(proxy_secret).transpose()?,
            replace_authorization: options.replace_authorization || file.replace_authorization.unwrap_or(false),
            command: options.command,
        })
    }
}

fn read_file(path: &PathBuf) -> Result<File> {
    let text = fs::read_to_string(path).with_context(|| format!("--config: read {}", path.display()))?;
    // Without the line itself, which may be a secret in the wrong place.
    toml::from_str(&text).map_err(|error| anyhow::anyhow!("--config {}: {}", path.display(), error.message()))
}

fn typed_or<T: std::str::FromStr>(typed: Vec<T>, file: &[String], name: &'static str) -> Result<Vec<T>>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    if !typed.is_empty() {
        return Ok(typed);
    }
    file.iter().map(|text| text.parse().context(name)).collect()
}

fn provided((program, id): (PathBuf, Option<String>), timeout: Duration) -> Result<SecretSource> {
    let id = id.context("provider-id: a provider is asked for a secret by its name; say which")?;
    Ok(SecretSource::Provider(Provider { program, id, timeout }))
}

fn proxy_secret(path: PathBuf) -> Result<Secret> {
    let read =
        policy_api::private::read_secret(&path).with_context(|| format!("--proxy-secret-file {}", path.display()))?;
    let text = read.with_context(|| format!("--proxy-secret-file: there is no file {}", path.display()))?;
    Secret::new(&text).with_context(|| format!("--proxy-secret-file: {} holds no secret", path.display()))
}

/// Where the command line keeps the token of a person.
fn login() -> Option<PathBuf> {
    let directory = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = directory("XDG_CONFIG_HOME").or_else(|| directory("HOME").map(|home| home.join(".config")))?;
    Some(home.join("netpol/token")).filter(|path| path.exists())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: ForwarderOptions,
    }

    fn settings(file: &str, line: &[&str]) -> Result<Settings> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("forwarder.toml");
        fs::write(&path, file).expect("written");
        let config = ["forwarder", "--config", path.to_str().expect("a path")];
        Settings::resolve(Line::try_parse_from(config.iter().chain(line))?.options)
    }

    #[test]
    fn a_flag_beats_the_file() {
        let file = "listen = 'unix:/run/a.sock'\nto = ['a=b']\nprovider = '/usr/lib/summon/ring'\nprovider-id = 'ci'";
        let from_file = settings(file, &[]).expect("settings");
        assert_eq!(from_file.listen, Some(Listen::Unix("/run/a.sock".into())));
        assert!(matches!(from_file.secret, Some(SecretSource::Provider(Provider { id, .. })) if id == "ci"));
        let typed = settings(file, &["--to", "c=d", "--token-file", "/t", "--", "sh", "-c", "x"]).expect("settings");
        assert_eq!(
            typed.destinations.to.first().map(|to| to.audience.clone()),
            Some("d".parse().expect("an audience"))
        );
        assert_eq!(typed.secret, Some(SecretSource::File("/t".into())));
        assert_eq!(typed.command.len(), 3);
    }

    #[test]
    fn what_cannot_be_used_is_refused_by_name() {
        for (file, line, name) in [
            ("", vec![], "--to"),
            ("too = ['a=b']", vec![], "too"),
            ("to = ['a']", vec![], "to"),
            ("to = ['a=b']\nprovider = '/p'", vec![], "provider-id"),
            ("to = ['a=b']", vec!["--proxy-secret-file", "/nowhere"], "/nowhere"),
        ] {
            let error = settings(file, &line).err().map(|error| format!("{error:#}")).unwrap_or_default();
            assert!(error.contains(name), "{file} {line:?}: {error}");
        }
    }
}
