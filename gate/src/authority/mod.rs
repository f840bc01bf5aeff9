//! Who answers "may this identity do this on this resource": the words of the question, the trait of those who answer,
//! those who do (our own broker's tokens, an OpenID provider's, another service), and the stack in which the first that knows
//! the credential decides. Knows nothing of HTTP beyond the shape of a credential.

mod answer;
mod broker;
mod config;
mod feed;
mod oidc;
mod question;
mod remote;
mod setup;
mod stack;
#[cfg(test)]
pub(crate) mod testing;

pub use answer::{Answer, Denial, Grounds, Outage, Permit, SourceApp, Subject};
pub use broker::Broker;
pub use config::{
    AuthorityConfig, BrokerConfig, ConfigError, GrantConfig, OidcConfig, Place, RemoteConfig, ShapeConfig, build,
};
pub use feed::{Feed, State};
pub use oidc::{ClaimGrant, Oidc, OidcSettings, Rights};
pub use question::{Credential, Malformed, Privilege, Question, Resource, Scheme};
pub use remote::{Remote, RemoteSettings, Shape};
pub use setup::{Asked, PolicyApi, Told};
pub use stack::{Answering, Authority, Stack};
