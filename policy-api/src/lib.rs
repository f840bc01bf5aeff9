//! The policy API of netpol: what users want, in one order of changes.
//!
//! [`model`] is the wire's vocabulary and needs no feature. The feature `client` adds a client, `jose` reads tokens that others
//! signed; the feature `server` adds the store, the watch and the HTTP face that the binary `netpol-api` serves. Model and store know no HTTP, and nothing
//! here knows the datapath: of `common` it takes identities, ports and the verdict engine for `check`.

#[cfg(feature = "server")]
pub mod broker;
#[cfg(feature = "server")]
pub mod challenge;
#[cfg(feature = "server")]
pub mod check;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "server")]
pub mod directory;
#[cfg(feature = "server")]
pub mod http;
#[cfg(feature = "server")]
pub mod init;
#[cfg(feature = "jose")]
pub mod jose;
pub mod model;
#[cfg(feature = "server")]
pub mod oidc;
#[cfg(feature = "policy")]
pub mod policy;
pub mod private;
#[cfg(feature = "server")]
pub mod scope;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod store;
#[cfg(feature = "server")]
pub mod tls;
#[cfg(feature = "server")]
pub mod watch;
