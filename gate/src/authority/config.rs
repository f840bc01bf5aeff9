//! Authorities as a file names them: sections `[[authority]]`, asked in their order.
//!
//! ```toml
//! [[authority]]
//! kind = "broker"
//!
//! [[authority]]
//! kind = "oidc"
//! issuer = "https://id.example.org"
//! audience = "release-bot"
//! algorithms = ["RS256"]
//! [[authority.grant]]
//! claim = "groups"
//! value = "release-managers"
//! privileges = ["read", "create"]
//!
//! [[authority]]
//! kind = "remote"
//! shape = "conjur"
//! url = "https://conjur.example.org"
//! account = "acme"
//! ```

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http::HeaderName;
use policy_api::{
    jose::{Algorithm, KeySet, KeySource, Pace, believing, believing_nobody},
    model::Lifetime,
};
use reqwest::Url;
use serde::{Deserialize, Deserializer, de::Error as _};

use super::{
    Authority, Privilege, Resource, Stack,
    broker::Broker,
    feed::Feed,
    oidc::{ClaimGrant, Oidc, OidcSettings, Rights},
    remote::{Remote, RemoteSettings, Shape},
};

/// One section `[[authority]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum AuthorityConfig {
    Broker(BrokerConfig),
    Oidc(OidcConfig),
    Remote(RemoteConfig),
}

/// Tokens of our own broker.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BrokerConfig {
    /// Whom tokens must be for; the gatekeeper's app and resource, where nothing is said.
    #[serde(default)]
    pub audience: Vec<String>,
    #[serde(default = "a_minute", deserialize_with = "lifetime")]
    pub remember: Duration,
}

/// Tokens of an OpenID provider.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct OidcConfig {
    pub issuer: String,
    pub audience: String,
    /// `EdDSA`, `ES256`, `ES384`, `RS256`, `PS256`: those that this issuer signs with.
    pub algorithms: Vec<String>,
    /// Where its keys are, a file or an https URL; where nothing is said, its description says it.
    pub keys: Option<String>,
    #[serde(default = "system_ca")]
    pub ca: PathBuf,
    /// The claim that names a person.
    #[serde(default = "sub")]
    pub subject: String,
    /// Without any, the permissions of `user:oidc/NAME` that the policy API pushes decide.
    #[serde(default)]
    pub grant: Vec<GrantConfig>,
    #[serde(default = "a_minute", deserialize_with = "lifetime")]
    pub remember: Duration,
    /// Keys are read again at most so often.
    #[serde(default = "ten_seconds", deserialize_with = "lifetime")]
    pub refresh: Duration,
}

/// A value of a claim, and what it gives.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct GrantConfig {
    pub claim: String,
    pub value: String,
    pub privileges: Vec<String>,
}

/// A service that decides.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RemoteConfig {
    pub url: String,
    pub shape: ShapeConfig,
    /// Of `conjur`.
    pub account: Option<String>,
    /// Of `conjur`: the kind of the resource.
    pub resource_kind: Option<String>,
    /// Of `auth-request`: the header of its answer that names whom it knows.
    pub subject_header: Option<String>,
    #[serde(default = "system_ca")]
    pub ca: PathBuf,
    #[serde(default = "two_seconds", deserialize_with = "lifetime")]
    pub timeout: Duration,
    #[serde(default = "half_a_minute", deserialize_with = "lifetime")]
    pub remember: Duration,
}

/// How a service is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShapeConfig {
    Conjur,
    AuthRequest,
}

/// Whom the authorities are asked for.
pub struct Place<'a> {
    pub app: &'a str,
    pub resource: &'a Resource,
    /// What the policy API pushes; there is one where somebody needs it.
    pub feed: Option<Arc<Feed>>,
}

/// A section that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("[[authority]] number {number}, `{field}`: {why}")]
pub struct ConfigError {
    number: usize,
    field: &'static str,
    why: String,
}

impl AuthorityConfig {
    /// Our own broker, as usual.
    pub fn broker() -> Self {
        Self::Broker(BrokerConfig { audience: Vec::new(), remember: a_minute() })
    }

    /// Whether it judges by what the policy API pushes.
    pub fn needs_feed(&self) -> bool {
        match self {
            Self::Broker(_) => true,
            Self::Oidc(oidc) => oidc.grant.is_empty(),
            Self::Remote(_) => false,
        }
    }
}

/// The authorities of a file, in its order.
pub fn build(sections: &[AuthorityConfig], place: &Place<'_>) -> Result<Stack, ConfigError> {
    let authorities = (1..).zip(sections).map(|(number, section)| {
        let one: Result<Arc<dyn Authority>, (&'static str, String)> = match section {
            AuthorityConfig::Broker(broker) => broker.build(place).map(|made| Arc::new(made) as Arc<dyn Authority>),
            AuthorityConfig::Oidc(oidc) => oidc.build(place).map(|made| Arc::new(made) as Arc<dyn Authority>),
            AuthorityConfig::Remote(remote) => remote.build().map(|made| Arc::new(made) as Arc<dyn Authority>),
        };
        one.map_err(|(field, why)| ConfigError { number, field, why })
    });
    authorities.collect::<Result<Vec<_>, _>>().map(Stack::new)
}

type Refused = (&'static str, String);

impl BrokerConfig {
    fn build(&self, place: &Place<'_>) -> Result<Broker, Refused> {
        let feed = place.feed.clone().ok_or(("kind", NO_FEED.to_owned()))?;
        let audiences = match self.audience.as_slice() {
            [] => vec![place.app.to_owned(), place.resource.to_string()],
            named => named.to_vec(),
        };
        Ok(Broker::new(feed, audiences, self.remember))
    }
}

const NO_FEED: &str = "takes a policy API to be told by; name one with --api, --ca and --token-file";

impl OidcConfig {
    fn build(&self, place: &Place<'_>) -> Result<Oidc, Refused> {
        let source = match &self.keys {
            Some(keys) => KeySource::new(keys, self.ca.clone()).map_err(|error| ("keys", error.to_string()))?,
            None => {
                KeySource::discovered(&self.issuer, self.ca.clone()).map_err(|error| ("issuer", error.to_string()))?
            }
        };
        let algorithms: Result<Vec<Algorithm>, _> = self.algorithms.iter().map(|name| name.parse()).collect();
        let algorithms = algorithms.map_err(|error| ("algorithms", error.to_string()))?;
        if algorithms.is_empty() {
            return Err(("algorithms", "is empty; name those that the issuer signs with, such as `RS256`".to_owned()));
        }
        let rights = match self.grant.as_slice() {
            [] => Rights::Pushed(
                place.feed.clone().ok_or(("grant", format!("is missing, and without it an issuer {NO_FEED}")))?,
            ),
            grants => Rights::Claims(grants.iter().map(GrantConfig::build).collect::<Result<_, _>>()?),
        };
        let settings = OidcSettings {
            issuer: self.issuer.clone(),
            audience: self.audience.clone(),
            algorithms,
            subject: self.subject.clone(),
            rights,
            remember: self.remember,
        };
        let pace = Pace { pause: self.refresh, ..Pace::default() };
        Ok(Oidc::new(settings, KeySet::unread(source, pace)))
    }
}

impl GrantConfig {
    fn build(&self) -> Result<ClaimGrant, Refused> {
        let privileges: Result<Vec<Privilege>, _> = self.privileges.iter().map(|word| word.parse()).collect();
        let privileges = privileges.map_err(|error| ("grant.privileges", error.to_string()))?;
        Ok(ClaimGrant { claim: self.claim.clone(), value: self.value.clone(), privileges })
    }
}

impl RemoteConfig {
    fn build(&self) -> Result<Remote, Refused> {
        let url: Url = self.url.parse().map_err(|_| ("url", "is no URL".to_owned()))?;
        if !is_private(&url) {
            let why =
                "would show clients' tokens to whoever listens; use https, or an address of this machine (127.0.0.1)";
            return Err(("url", why.to_owned()));
        }
        let http = client(&self.ca, url.scheme(), self.timeout).map_err(|why| ("ca", why))?;
        let settings = RemoteSettings { url, shape: self.shape()?, remember: self.remember };
        Ok(Remote::new(settings, http))
    }

    fn shape(&self) -> Result<Shape, Refused> {
        let foreign = |field, of: &str| (field, format!("is nothing that the shape `{of}` has"));
        match self.shape {
            ShapeConfig::Conjur if self.subject_header.is_some() => Err(foreign("subject-header", "conjur")),
            ShapeConfig::AuthRequest if self.account.is_some() => Err(foreign("account", "auth-request")),
            ShapeConfig::AuthRequest if self.resource_kind.is_some() => Err(foreign("resource-kind", "auth-request")),
            ShapeConfig::Conjur => {
                let account = self
                    .account
                    .clone()
                    .ok_or(("account", "is missing; Conjur has its resources in one".to_owned()))?;
                Ok(Shape::Conjur {
                    account,
                    kind: self.resource_kind.clone().unwrap_or_else(|| "webservice".to_owned()),
                })
            }
            ShapeConfig::AuthRequest => {
                let name = self.subject_header.as_deref().map(HeaderName::try_from).transpose();
                let subject = name.map_err(|_| ("subject-header", "is no name of a header".to_owned()))?;
                Ok(Shape::AuthRequest { subject })
            }
        }
    }
}

/// Whether nobody but who is asked sees what is sent there.
fn is_private(url: &Url) -> bool {
    let is_here =
        |host: &str| host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match url.scheme() {
        "https" => url.host().is_some(),
        "http" => url.host_str().is_some_and(is_here),
        _ => false,
    }
}

/// What asks an authority: no proxy, no redirects, and of certificates only those of this file.
pub(super) fn client(ca: &Path, scheme: &str, timeout: Duration) -> Result<reqwest::Client, String> {
    let tls = if scheme == "https" {
        let pem = std::fs::read(ca).map_err(|error| format!("cannot read {}: {error}", ca.display()))?;
        believing(&pem).ok_or_else(|| format!("{} holds no certificates", ca.display()))?
    } else {
        believing_nobody()
    };
    let builder = reqwest::Client::builder().tls_backend_preconfigured(tls);
    let builder = builder.no_proxy().redirect(reqwest::redirect::Policy::none()).timeout(timeout).tcp_nodelay(true);
    builder.build().map_err(|error| error.to_string())
}

fn a_minute() -> Duration {
    Duration::from_secs(60)
}

fn half_a_minute() -> Duration {
    Duration::from_secs(30)
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

fn two_seconds() -> Duration {
    Duration::from_secs(2)
}

/// As people write it: `90s`, `30m`.
fn lifetime<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse::<Lifetime>().map(|lifetime| lifetime.0).map_err(D::Error::custom)
}

fn sub() -> String {
    "sub".to_owned()
}

fn system_ca() -> PathBuf {
    "/etc/ssl/certs/ca-certificates.crt".into()
}
