//! A live flow between two instances: both ends send all the time, and every delivery is counted and timed.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::instance::{Family, Instance};
use super::patience::{PATIENCE, await_that};
use super::probe::{Transport, listen};

/// One message, sent once per tick by each end.
const MESSAGE: [u8; 8] = *b"live one";
const TICK: Duration = Duration::from_millis(1);
/// How long a reader waits before it looks whether it shall stop.
const LOOK: Duration = Duration::from_millis(50);
/// A flow is live once this many messages went each way.
const LIVE: u64 = 20;

/// One direction of a flow.
#[derive(Debug)]
struct Way {
    sent: AtomicU64,
    delivered: AtomicU64,
    /// Of the last delivery, in nanoseconds after `started`.
    last: AtomicU64,
    started: Instant,
}

impl Way {
    fn new(started: Instant) -> Arc<Self> {
        Arc::new(Self { sent: AtomicU64::new(0), delivered: AtomicU64::new(0), last: AtomicU64::new(0), started })
    }

    fn deliver(&self, messages: u64) {
        let elapsed = u64::try_from(self.started.elapsed().as_nanos()).expect("a test takes less than 500 years");
        self.last.store(elapsed, Ordering::Relaxed);
        self.delivered.fetch_add(messages, Ordering::Relaxed);
    }

    fn totals(&self) -> Totals {
        Totals { sent: self.sent.load(Ordering::Relaxed), delivered: self.delivered.load(Ordering::Relaxed) }
    }

    fn last_delivery(&self) -> Instant {
        self.started + Duration::from_nanos(self.last.load(Ordering::Relaxed))
    }
}

/// Messages of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    pub sent: u64,
    pub delivered: u64,
}

/// Something said of each direction, as seen from who opened the flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BothWays<T> {
    pub forth: T,
    pub back: T,
}

#[derive(Debug)]
pub struct Flow {
    forth: Arc<Way>,
    back: Arc<Way>,
    stop_sending: Arc<AtomicBool>,
    stop_reading: Arc<AtomicBool>,
    senders: Vec<JoinHandle<()>>,
    readers: Vec<JoinHandle<()>>,
}

impl Flow {
    /// Opens the flow and returns once messages run both ways.
    pub fn open(transport: Transport, from: &Instance, to: &Instance, port: u16) -> Result<Self> {
        Self::open_over(Family::V4, transport, from, to, port)
    }

    pub fn open_over(family: Family, transport: Transport, from: &Instance, to: &Instance, port: u16) -> Result<Self> {
        let flow = Self::start_over(family, transport, from, to, port)?;
        flow.await_deliveries(LIVE)?;
        Ok(flow)
    }

    /// Opens the flow without expecting anything to arrive; a TCP flow must at least connect.
    pub fn start(transport: Transport, from: &Instance, to: &Instance, port: u16) -> Result<Self> {
        Self::start_over(Family::V4, transport, from, to, port)
    }

    pub fn start_over(family: Family, transport: Transport, from: &Instance, to: &Instance, port: u16) -> Result<Self> {
        let started = Instant::now();
        let mut flow = Self {
            forth: Way::new(started),
            back: Way::new(started),
            stop_sending: Arc::default(),
            stop_reading: Arc::default(),
            senders: Vec::new(),
            readers: Vec::new(),
        };
        let destination = SocketAddr::new(to.address_of(family)?, port);
        match transport {
            Transport::Tcp => flow.start_tcp(from, to, destination)?,
            Transport::Udp => flow.start_udp(from, to, destination)?,
        }
        Ok(flow)
    }

    /// Waits until each end has received this many messages more.
    pub fn await_deliveries(&self, more: u64) -> Result<()> {
        let before = self.totals();
        await_that("messages to arrive both ways", PATIENCE, || {
            let now = self.totals();
            let arrived = |now: Totals, before: Totals| now.delivered >= before.delivered + more;
            Ok(arrived(now.forth, before.forth) && arrived(now.back, before.back))
        })
        .with_context(|| format!("delivered: {:?}", self.totals()))
    }

    /// Waits until nothing has arrived for `quiet` in either direction, while both ends go on sending.
    pub fn await_silence(&self, quiet: Duration) -> Result<()> {
        await_that("the flow to fall silent both ways", PATIENCE, || {
            let last = self.last_deliveries();
            Ok(last.forth.elapsed() >= quiet && last.back.elapsed() >= quiet)
        })
        .with_context(|| format!("delivered: {:?}", self.totals()))
    }

    pub fn last_deliveries(&self) -> BothWays<Instant> {
        BothWays { forth: self.forth.last_delivery(), back: self.back.last_delivery() }
    }

    pub fn totals(&self) -> BothWays<Totals> {
        BothWays { forth: self.forth.totals(), back: self.back.totals() }
    }

    /// Ends both senders, gives what is under way a moment to arrive, and returns what was sent and delivered.
    pub fn finish(mut self) -> BothWays<Totals> {
        self.stop_sending.store(true, Ordering::Relaxed);
        join(&mut self.senders);
        const UNDER_WAY: Duration = Duration::from_secs(1);
        let complete = |totals: Totals| totals.sent == totals.delivered;
        // Whether everything arrives is for the caller to judge, by the totals.
        let _ = await_that("everything to arrive", UNDER_WAY, || {
            let totals = self.totals();
            Ok(complete(totals.forth) && complete(totals.back))
        });
        self.totals()
    }

    fn start_tcp(&mut self, from: &Instance, to: &Instance, destination: SocketAddr) -> Result<()> {
        let listener = to.namespace.inside(|| listen(destination))?;
        let client = from
            .namespace
            .inside(|| TcpStream::connect_timeout(&destination, PATIENCE).context("connect a live TCP flow"))?;
        let (server, _) = listener.accept().context("accept a live TCP flow")?;
        for stream in [&client, &server] {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(LOOK))?;
            stream.set_write_timeout(Some(LOOK))?;
        }
        let (forth, back) = (Arc::clone(&self.forth), Arc::clone(&self.back));
        self.send(&forth, TcpEnd(client.try_clone()?));
        self.send(&back, TcpEnd(server.try_clone()?));
        self.read(&forth, TcpEnd(server));
        self.read(&back, TcpEnd(client));
        Ok(())
    }

    fn start_udp(&mut self, from: &Instance, to: &Instance, destination: SocketAddr) -> Result<()> {
        let source = from.address_of(if destination.is_ipv4() { Family::V4 } else { Family::V6 })?;
        let server = to.namespace.inside(|| UdpSocket::bind(destination).context("bind"))?;
        let client = from.namespace.inside(|| UdpSocket::bind((source, 0)).context("bind"))?;
        server.connect(client.local_addr()?)?;
        client.connect(destination)?;
        for socket in [&client, &server] {
            socket.set_read_timeout(Some(LOOK))?;
        }
        let (forth, back) = (Arc::clone(&self.forth), Arc::clone(&self.back));
        self.read(&forth, UdpEnd(server.try_clone()?));
        self.read(&back, UdpEnd(client.try_clone()?));
        self.send(&forth, UdpEnd(client));
        // The responder speaks only once it was spoken to: its first packet would else open a flow of its own.
        let opened = Arc::clone(&self.forth);
        self.send_after(&back, UdpEnd(server), move || opened.delivered.load(Ordering::Relaxed) > 0);
        Ok(())
    }

    fn send(&mut self, way: &Arc<Way>, end: impl End) {
        self.send_after(way, end, || true);
    }

    fn send_after(&mut self, way: &Arc<Way>, mut end: impl End, may_start: impl Fn() -> bool + Send + 'static) {
        let (way, stop) = (Arc::clone(way), Arc::clone(&self.stop_sending));
        self.senders.push(std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                if may_start() && end.send() {
                    way.sent.fetch_add(1, Ordering::Relaxed);
                }
                std::thread::sleep(TICK);
            }
        }));
    }

    fn read(&mut self, way: &Arc<Way>, mut end: impl End) {
        let (way, stop) = (Arc::clone(way), Arc::clone(&self.stop_reading));
        self.readers.push(std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                match end.receive() {
                    Some(0) => {}
                    Some(messages) => way.deliver(messages),
                    None => return,
                }
            }
        }));
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.stop_sending.store(true, Ordering::Relaxed);
        self.stop_reading.store(true, Ordering::Relaxed);
        join(&mut self.senders);
        join(&mut self.readers);
    }
}

fn join(threads: &mut Vec<JoinHandle<()>>) {
    for thread in threads.drain(..) {
        thread.join().expect("senders and readers do not panic");
    }
}

/// One end of a flow, whatever carries it.
trait End: Send + 'static {
    /// Sends one message; false if it could not go out whole.
    fn send(&mut self) -> bool;
    /// Messages that came in since; none after a wait of `LOOK`; `None` when the peer has closed.
    fn receive(&mut self) -> Option<u64>;
}

struct TcpEnd(TcpStream);

impl End for TcpEnd {
    fn send(&mut self) -> bool {
        self.0.write_all(&MESSAGE).is_ok()
    }

    fn receive(&mut self) -> Option<u64> {
        let mut message = MESSAGE;
        let mut filled = 0;
        while filled < message.len() {
            match self.0.read(&mut message[filled..]) {
                Ok(0) => return None,
                Ok(length) => filled += length,
                // Nothing yet; the rest of a message that has begun is on its way.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) && filled == 0 => {
                    return Some(0);
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return None,
            }
        }
        Some(1)
    }
}

impl Drop for TcpEnd {
    fn drop(&mut self) {
        // The peer may be gone already.
        self.0.shutdown(Shutdown::Write).unwrap_or_default();
    }
}

struct UdpEnd(UdpSocket);

impl End for UdpEnd {
    fn send(&mut self) -> bool {
        self.0.send(&MESSAGE).is_ok()
    }

    fn receive(&mut self) -> Option<u64> {
        let mut message = MESSAGE;
        Some(u64::from(self.0.recv(&mut message).is_ok()))
    }
}
