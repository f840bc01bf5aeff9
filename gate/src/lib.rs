//! HTTP at the gate: the gatekeeper, which stands before an app and lets in who may, and the forwarder, which stands beside
//! a client and proves who it is.
//!
//! Who may import what: only `authority` knows tokens, keys and the policy API; `gatekeeper` knows HTTP and asks. Neither
//! knows the datapath, the store, or the API's own side.

pub mod authority;
pub mod forwarder;
pub mod gatekeeper;
pub mod report;
pub mod verdict_cache;
