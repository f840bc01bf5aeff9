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

use crate::world::namespace::Namespace;

/// The ports of the three services.
pub(super) const ECHO: u16 = 8080;
pub(super) const ACCEPT: u16 = 8081;
pub(super) const SINK: u16 = 8082;

/// One measurement takes this long.
const SPAN: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(5);
const BLOCK: usize = 128 * 1024;

/// The three services in a namespace; they end with it.
pub(super) struct Services {
    address: Ipv4Addr,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Services {
    pub(super) fn start(namespace: &Namespace, address: Ipv4Addr) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for (port, serve) in [(ECHO, echo as fn(TcpStream)), (ACCEPT, accept), (SINK, sink)] {
            let listener = namespace.inside(|| Ok(TcpListener::bind((address, port))?))?;
            let stop = stop.clone();
            threads.push(std::thread::spawn(move || {
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
        Ok(Self { address, stop, threads })
    }

    pub(super) fn at(&self, port: u16) -> SocketAddr {
        (self.address, port).into()
    }

    /// Ends the services, which wait for one more connection each.
    pub(super) fn stop(self, client: &Namespace) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        client.inside(|| {
            for port in [ECHO, ACCEPT, SINK] {
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

/// Exchanges of one byte per second, over one connection.
pub(super) fn request_response(client: &Namespace, server: SocketAddr) -> Result<f64> {
    client.inside(|| {
        let mut connection = TcpStream::connect_timeout(&server, PATIENCE).context("connect for request/response")?;
        connection.set_nodelay(true)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        count(|| {
            connection.write_all(b"?")?;
            Ok(connection.read_exact(&mut [0])?)
        })
    })
}

/// Connections per second, one after the other.
pub(super) fn connect_rate(client: &Namespace, server: SocketAddr) -> Result<f64> {
    client.inside(|| {
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
