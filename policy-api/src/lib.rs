//! The policy API of netpol: what users want, in one order of changes.
//!
//! [`model`] is the wire's vocabulary and needs no feature. The feature `client` adds [`client`]; the feature `server` adds
//! the store, the watch hub and the HTTP face that the binary `netpol-api` serves. Model and store know no HTTP, and
//! nothing here knows the datapath: of `common` it takes identities, ports and the verdict engine for `check`.

#[cfg(feature = "client")]
pub mod client;
pub mod model;
