//! The node agent: watch → compile → reconcile, endpoints, links and events.
//!
//! `main` is the table of contents. Who may import what: only [`datapath`] imports aya, only [`link`] rtnetlink, only
//! [`watch`] and the few calls in [`api`] the policy API's client, only [`admin`] axum; [`compile`] imports none of them.

pub mod datapath;
