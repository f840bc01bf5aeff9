//! SCTP's first two packets by raw sockets, for kernels that have no SCTP of their own.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};

use super::namespace::Namespace;

const SCTP: i32 = 132;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
/// A chunk of either kind without optional parts, and the common header before it.
const HEADER: usize = 12;
const CHUNK: usize = 20;
const TAG: [u8; 4] = [0x11, 0x22, 0x33, 0x44];
/// The longest header that IPv4 puts before what a raw socket reads.
const IP: usize = 60;

/// One end: every packet of the protocol that comes to its address.
#[derive(Debug)]
pub struct End {
    socket: Socket,
    address: SocketAddr,
}

impl End {
    pub fn open(namespace: &Namespace, address: SocketAddr) -> Result<Self> {
        let socket = namespace.inside(|| {
            let socket = Socket::new(Domain::for_address(address), Type::RAW, Some(Protocol::from(SCTP)))?;
            socket.bind(&SocketAddr::new(address.ip(), 0).into())?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        Ok(Self { socket: socket.context("raw SCTP socket")?, address })
    }

    /// Sends an INIT; returns whether it could leave.
    pub fn begin(&self, to: SocketAddr) -> Result<bool> {
        self.socket.connect(&SocketAddr::new(to.ip(), 0).into()).context("connect")?;
        Ok((&self.socket).write(&packet(INIT, [0; 4], self.address.port(), to.port())).is_ok())
    }

    /// Answers an INIT if one came from there.
    pub fn answer(&self, from: SocketAddr) -> Result<()> {
        if self.heard(INIT, from).context("read SCTP")? {
            let answer = packet(INIT_ACK, TAG, self.address.port(), from.port());
            self.socket.send_to(&answer, &SocketAddr::new(from.ip(), 0).into()).context("answer")?;
        }
        Ok(())
    }

    /// Whether the answer came, or the word that none will; neither yet is none.
    pub fn fate(&self, by: SocketAddr) -> Result<Option<bool>> {
        match self.heard(INIT_ACK, by) {
            Ok(true) => Ok(Some(true)),
            Ok(false) => Ok(None),
            Err(error) if matches!(error.kind(), ErrorKind::HostUnreachable | ErrorKind::PermissionDenied) => {
                Ok(Some(false))
            }
            Err(error) => Err(error).context("read SCTP"),
        }
    }

    fn heard(&self, chunk: u8, from: SocketAddr) -> io::Result<bool> {
        let mut bytes = [0; IP + HEADER + CHUNK];
        let length = match (&self.socket).read(&mut bytes) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        let start = match from.ip() {
            IpAddr::V4(_) => usize::from(bytes[0] & 0xf) * 4,
            IpAddr::V6(_) => 0,
        };
        let Some(packet) = bytes[..length].get(start..start + HEADER + CHUNK) else {
            return Err(ErrorKind::UnexpectedEof.into());
        };
        Ok(packet[HEADER] == chunk && packet[..2] == from.port().to_be_bytes())
    }
}

fn packet(chunk: u8, tag: [u8; 4], from: u16, to: u16) -> [u8; HEADER + CHUNK] {
    let mut packet = [0; HEADER + CHUNK];
    packet[..2].copy_from_slice(&from.to_be_bytes());
    packet[2..4].copy_from_slice(&to.to_be_bytes());
    packet[4..8].copy_from_slice(&tag);
    packet[HEADER] = chunk;
    packet[HEADER + 3] = u8::try_from(CHUNK).unwrap_or(u8::MAX);
    packet[HEADER + 4..HEADER + 8].copy_from_slice(&TAG);
    packet
}
