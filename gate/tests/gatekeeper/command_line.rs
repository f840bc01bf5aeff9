//! A gatekeeper from its command line to its end, with the judge of these tests.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread::{self, JoinHandle},
};

use clap::Parser;
use gate::gatekeeper::{GatekeeperOptions, run_with};

use crate::world::Tokens;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: GatekeeperOptions,
}

/// A gatekeeper that runs.
pub(crate) type Running = JoinHandle<anyhow::Result<()>>;

/// Starts one that is told this.
pub(crate) fn start(line: &[String]) -> Running {
    let options = Line::parse_from(line).options;
    thread::spawn(move || run_with(options, |_, _| Ok(Arc::new(Tokens::known()))))
}

/// Starts one before an upstream and waits until it serves; it goes on as long as the tests do.
pub(crate) fn serve(upstream: &str, more: &[&str]) -> SocketAddr {
    let address = free_port();
    let listen = address.to_string();
    let needful = ["gatekeeper", "--app", "app", "--resource", "app", "--listen", &listen, "--upstream", upstream];
    let line = needful.iter().chain(&["--access-log", "off"]).chain(more);
    let gatekeeper = start(&line.map(ToString::to_string).collect::<Vec<_>>());
    while TcpStream::connect(address).is_err() {
        assert!(!gatekeeper.is_finished(), "it ended: {:?}", gatekeeper.join());
        thread::yield_now();
    }
    address
}

/// A port that nobody has.
pub(crate) fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("an address")
}
