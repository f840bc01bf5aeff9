//! The policy API as its clients see it: the real server on a real port with TLS, asked by the real client.

mod access;
mod app;
mod backup;
mod bad_input;
mod cf;
mod control;
mod credential;

#[path = "../support/etcd.rs"]
mod etcd_cluster;
mod history;
mod identity;
mod keys;
mod limit;
mod node;
mod past;
mod right;
mod rule;
mod scope;
mod watch;
mod world;
