//! A load between two namespaces: request and response, connections, one stream. Plain blocking sockets, bounded in time.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};

use super::{clock::stay_on_one_cpu, median};
use crate::world::namespace::Namespace;

/// The ports of the services.
pub(super) const ECHO: u16 = 8080;
pub(super) const ACCEPT: u16 = 8081;
pub(super) const SINK: u16 = 8082;
/// Served, but allowed to nobody.
const FORBIDDEN: u16 = 8083;

/// One measurement takes this long.
const SPAN: Duration = Duration::from_millis(100);
/// A connection that a drop forbids is waited for this long.
const SILENCE: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(5);
const BLOCK: usize = 128 * 1024;

/// A container that serves.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) namespace: &'a Namespace,
    pub(super) address: Ipv4Addr,
}

/// The services of a container.
pub(super) struct Services {
    address: Ipv4Addr,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Services {
    pub(super) fn start(target: Target<'_>) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for (port, serve) in [(ECHO, echo as fn(TcpStream)), (ACCEPT, accept), (SINK, sink), (FORBIDDEN, accept)] {
            let address = (target.address, port);
            let listener = target.namespace.inside(|| Ok(TcpListener::bind(address)?))?;
            let stop = stop.clone();
            threads.push(std::thread::spawn(move || {
                // Both ends of a conversation keep to one CPU: what is measured is the way between them, not where the
                // scheduler put them. Where that fails the figures are only less steady.
                let _ = if port == SINK { Ok(()) } else { stay_on_one_cpu() };
                for connection in listener.incoming() {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    if let Ok(connection) = connection {
                        serve(connection);
                    }
                }
            }));
        }
        Ok(Self { address: target.address, stop, threads })
    }

    pub(super) fn at(&self, port: u16) -> SocketAddr {
        (self.address, port).into()
    }

    /// Ends the services, which wait for one more connection each, from where they are themselves.
    pub(super) fn stop(self, target: Target<'_>) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        target.namespace.inside(|| {
            for port in [ECHO, ACCEPT, SINK, FORBIDDEN] {
                drop(TcpStream::connect_timeout(&self.at(port), PATIENCE)?);
            }
            Ok(())
        })?;
        for thread in self.threads {
            thread.join().map_err(|_| anyhow!("a service panicked"))?;
        }
        Ok(())
    }
}

/// Whether the forbidden port is kept from the client.
pub(super) fn is_filtered(client: &Namespace, services: &Services) -> Result<bool> {
    client.inside(|| Ok(TcpStream::connect_timeout(&services.at(FORBIDDEN), SILENCE).is_err()))
}

fn echo(mut connection: TcpStream) {
    let mut byte = [0];
    // Ends when the client does.
    while connection.set_nodelay(true).is_ok()
        && connection.read_exact(&mut byte).is_ok()
        && connection.write_all(&byte).is_ok()
    {}
}

/// Closes first, so that no port of the client has to rest before it is used again.
fn accept(connection: TcpStream) {
    drop(connection);
}

fn sink(mut connection: TcpStream) {
    let mut block = vec![0; BLOCK];
    let (started, mut bytes) = (Instant::now(), 0_u64);
    while let Ok(read) = connection.read(&mut block)
        && read > 0
    {
        bytes += read as u64;
    }
    let rate = bytes as f64 / started.elapsed().as_secs_f64();
    // A client that is gone does not want to know.
    let _ = connection.write_all(&rate.to_ne_bytes());
}

/// Exchanges of one byte over one connection: how many per second, and the median of a round trip in microseconds.
pub(super) fn request_response(client: &Namespace, server: SocketAddr) -> Result<[f64; 2]> {
    client.inside(|| {
        let mut connection = TcpStream::connect_timeout(&server, PATIENCE).context("connect for request/response")?;
        connection.set_nodelay(true)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        stay_on_one_cpu()?;
        let mut round_trips = Vec::new();
        let rate = count(|| {
            let asked = Instant::now();
            connection.write_all(b"?")?;
            connection.read_exact(&mut [0])?;
            round_trips.push(asked.elapsed().as_secs_f64() * 1e6);
            Ok(())
        })?;
        Ok([rate, median(&round_trips)])
    })
}

/// Connections per second, one after the other.
pub(super) fn connect_rate(client: &Namespace, server: SocketAddr) -> Result<f64> {
    client.inside(|| {
        stay_on_one_cpu()?;
        count(|| {
            let mut connection = TcpStream::connect_timeout(&server, PATIENCE).context("connect")?;
            connection.set_read_timeout(Some(PATIENCE))?;
            match connection.read(&mut [0]) {
                Ok(_) => Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
                Err(error) => Err(error.into()),
            }
        })
    })
}

/// Bytes per second of one stream, as they arrive.
pub(super) fn stream(client: &Namespace, server: SocketAddr) -> Result<f64> {
    client.inside(|| {
        let mut connection = TcpStream::connect_timeout(&server, PATIENCE).context("connect for a stream")?;
        let block = vec![0x5a; BLOCK];
        let end = Instant::now() + SPAN;
        while Instant::now() < end {
            connection.write_all(&block)?;
        }
        connection.shutdown(std::net::Shutdown::Write)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        let mut rate = [0; 8];
        connection.read_exact(&mut rate)?;
        Ok(f64::from_ne_bytes(rate))
    })
}

/// How often per second something can be done.
fn count(mut once: impl FnMut() -> Result<()>) -> Result<f64> {
    let (started, mut done) = (Instant::now(), 0_u32);
    while started.elapsed() < SPAN {
        once()?;
        done += 1;
    }
    Ok(f64::from(done) / started.elapsed().as_secs_f64())
}
