//! One question to the network: does a packet of this instance reach that one, and does the answer come back?

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::instance::{Family, Instance};
use super::netpol::Invocation;

/// How long an expected answer may take on a loaded machine.
const ANSWER: Duration = Duration::from_secs(10);
/// How long to listen for what must not come: many times what an answer takes on an idle machine.
const SILENCE: Duration = Duration::from_millis(500);

const QUESTION: [u8; 8] = *b"question";
const REPLY: [u8; 8] = *b"reply ok";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The question arrived and the answer came back, after this time.
    Answered(Duration),
    /// The question never arrived.
    Blocked,
}

/// Asks and expects an answer.
pub fn expect_answer(transport: Transport, from: &Instance, to: &Instance, port: u16) -> Result<Duration> {
    expect_answer_over(Family::V4, transport, from, to, port)
}

pub fn expect_answer_over(
    family: Family,
    transport: Transport,
    from: &Instance,
    to: &Instance,
    port: u16,
) -> Result<Duration> {
    match ask_over(family, transport, from, to, port, ANSWER)? {
        Outcome::Answered(took) => Ok(took),
        Outcome::Blocked => {
            bail!("{} cannot reach {} on {} {port} ({family:?})", from.name(), to.name(), transport.name())
        }
    }
}

/// Asks and expects that nothing arrives.
pub fn expect_blocked(transport: Transport, from: &Instance, to: &Instance, port: u16) -> Result<()> {
    expect_blocked_over(Family::V4, transport, from, to, port)
}

pub fn expect_blocked_over(
    family: Family,
    transport: Transport,
    from: &Instance,
    to: &Instance,
    port: u16,
) -> Result<()> {
    match ask_over(family, transport, from, to, port, SILENCE)? {
        Outcome::Blocked => Ok(()),
        Outcome::Answered(_) => {
            bail!("{} can reach {} on {} {port} ({family:?})", from.name(), to.name(), transport.name())
        }
    }
}

/// Listens at `to`, asks from `from`. An error if the question arrives but the answer does not come back.
pub fn ask(transport: Transport, from: &Instance, to: &Instance, port: u16, patience: Duration) -> Result<Outcome> {
    ask_over(Family::V4, transport, from, to, port, patience)
}

pub fn ask_over(
    family: Family,
    transport: Transport,
    from: &Instance,
    to: &Instance,
    port: u16,
    patience: Duration,
) -> Result<Outcome> {
    let destination = SocketAddr::new(to.address_of(family)?, port);
    let source = from.address_of(family)?;
    match transport {
        Transport::Tcp => ask_tcp(from, to, source, destination, patience),
        Transport::Udp => ask_udp(from, to, source, destination, patience),
    }
}

/// One echo request by `ping`.
pub fn ping(from: &Instance, to: &Instance) -> Result<bool> {
    ping_over(Family::V4, from, to)
}

pub fn ping_over(family: Family, from: &Instance, to: &Instance) -> Result<bool> {
    let mut command: Command = from.namespace.command("ping");
    command.args(["-n", "-c", "1", "-W", "1"]).arg(to.address_of(family)?.to_string());
    Ok(Invocation::run(&mut command, "ping".into())?.exit == 0)
}

fn ask_tcp(
    from: &Instance,
    to: &Instance,
    source: IpAddr,
    destination: SocketAddr,
    patience: Duration,
) -> Result<Outcome> {
    let listener = to.namespace.inside(|| listen(destination))?;
    listener.set_nonblocking(true)?;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let server = scope.spawn(|| answer_tcp(&listener, source, &done));
        let started = Instant::now();
        let answered = from.namespace.inside(|| Ok(question_tcp(destination, patience)));
        done.store(true, Ordering::Relaxed);
        let arrived = server.join().expect("the server thread returns its errors")?;
        conclude(arrived, answered?, started.elapsed())
    })
}

/// Listens there. A child that another test is about to run has what was open when it was forked, for a moment longer than
/// this process.
pub(super) fn listen(address: SocketAddr) -> Result<TcpListener> {
    const MOMENT: Duration = Duration::from_secs(5);
    let began = Instant::now();
    loop {
        match TcpListener::bind(address) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && began.elapsed() < MOMENT => {
                std::thread::sleep(Duration::from_millis(5));
            }
            bound => return bound.context("listen"),
        }
    }
}

fn question_tcp(destination: SocketAddr, patience: Duration) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&destination, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(&QUESTION)?;
    let mut reply = [0; REPLY.len()];
    stream.read_exact(&mut reply)?;
    if reply == REPLY { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
}

/// Whether a connection came in before the asker was `done`.
fn answer_tcp(listener: &TcpListener, expected: IpAddr, done: &AtomicBool) -> Result<bool> {
    while !done.load(Ordering::Relaxed) {
        await_readable(listener)?;
        let (mut stream, peer) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error).context("accept"),
        };
        ensure!(peer.ip() == expected, "the connection of {expected} came in as {peer}");
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(ANSWER))?;
        let mut question = [0; QUESTION.len()];
        stream.read_exact(&mut question).context("read the question")?;
        stream.write_all(&REPLY).context("answer")?;
        return Ok(true);
    }
    Ok(false)
}

fn ask_udp(
    from: &Instance,
    to: &Instance,
    source: IpAddr,
    destination: SocketAddr,
    patience: Duration,
) -> Result<Outcome> {
    let server = to.namespace.inside(|| UdpSocket::bind(destination).context("bind"))?;
    server.set_nonblocking(true)?;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| answer_udp(&server, source, &done));
        let started = Instant::now();
        let answered = from.namespace.inside(|| Ok(question_udp(source, destination, patience)));
        done.store(true, Ordering::Relaxed);
        let arrived = answer.join().expect("the server thread returns its errors")?;
        conclude(arrived, answered?, started.elapsed())
    })
}

fn question_udp(source: IpAddr, destination: SocketAddr, patience: Duration) -> std::io::Result<()> {
    let socket = UdpSocket::bind((source, 0))?;
    socket.connect(destination)?;
    socket.set_read_timeout(Some(patience))?;
    socket.send(&QUESTION)?;
    let mut reply = [0; REPLY.len()];
    let length = socket.recv(&mut reply)?;
    if reply[..length] == REPLY { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
}

fn answer_udp(socket: &UdpSocket, expected: IpAddr, done: &AtomicBool) -> Result<bool> {
    while !done.load(Ordering::Relaxed) {
        await_readable(socket)?;
        let mut question = [0; QUESTION.len()];
        let peer = match socket.recv_from(&mut question) {
            Ok((_, peer)) => peer,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error).context("receive"),
        };
        ensure!(peer.ip() == expected, "the datagram of {expected} came in as {peer}");
        socket.send_to(&REPLY, peer).context("answer")?;
        return Ok(true);
    }
    Ok(false)
}

/// Waits a moment for something to read; the caller looks whether it came.
fn await_readable(socket: &impl AsFd) -> Result<()> {
    const MOMENT_MS: u8 = 20;
    let mut waiting = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    poll(&mut waiting, PollTimeout::from(MOMENT_MS)).map(drop).context("wait on a socket")
}

fn conclude(arrived: bool, answered: std::io::Result<()>, took: Duration) -> Result<Outcome> {
    match (arrived, answered) {
        (true, Ok(())) => Ok(Outcome::Answered(took)),
        (false, Err(_)) => Ok(Outcome::Blocked),
        (true, Err(error)) => bail!("the question arrived, but the answer did not come back: {error}"),
        (false, Ok(())) => bail!("someone else answered the question"),
    }
}
