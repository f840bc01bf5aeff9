//! The inbound side: a reverse proxy that lets in who may.
//!
//! A request's way: bytes are judged before they are parsed (`wire`), its head says each thing once (`admit`, `path`), it takes a
//! privilege (`privilege`), whoever asks has it (`judge`), and the upstream gets it with who asks (`proxy`, `upstream`). The
//! stages say why not (`refusal`); what becomes of it is decided in one place (`proxy`).

mod access_log;
mod admin;
mod admit;
mod args;
mod body;
mod config;
mod connection;
mod handover;
mod identity_headers;
mod judge;
mod link;
mod listen;
mod metrics;
mod path;
mod privilege;
mod proxy;
mod record;
mod refusal;
mod run;
mod running;
mod settings;
mod socket;
mod tls;
mod upgrade;
mod upstream;
mod watch;
mod wire;
mod worker;

pub use access_log::LogTarget;
pub use admit::{Admitted, LongestBody, admit, credential};
pub use args::GatekeeperOptions;
pub use config::Config;
pub use judge::{Authorities, Judge};
pub use listen::{ListenAddress, ListeningSocket};
pub use metrics::Metrics;
pub use path::NormalPath;
pub use privilege::{NoPattern, PathPattern, PrivilegeRow, PrivilegeTable};
pub use refusal::Refusal;
pub use run::{run, run_with};
pub use running::Gatekeeper;
pub use settings::{Patience, Settings};
pub use upstream::{UpstreamAddress, UpstreamProtocol, UpstreamSettings};
pub use wire::{Body, Framing, Head, Limits, Step, read_head};
