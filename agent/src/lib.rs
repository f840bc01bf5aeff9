//! The node agent: watch → compile → reconcile, endpoints, links and events.
//!
//! Who may import what: only `datapath` imports aya, only `link` rtnetlink, only `watch` the policy API's client, only
//! `admin` axum; `compile` imports none of them.

pub mod admin;
pub mod attach;
pub mod clock;
pub mod compile;
pub mod cut;
pub mod datapath;
pub mod endpoint;
pub mod flow;
pub mod link;
pub mod living;
pub mod names;
pub mod node;
pub mod pool;
mod port_sets;
pub mod random;
pub mod reconcile;
pub mod state;
pub mod tokens;
pub mod usage;
pub mod watch;
mod ways;
