//! Ends TCP connections of an instance: the kernel closes the socket and tells its owner. For connections that policy cut
//! while nobody said anything; where something is said, the next packet is answered by the programs.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use super::{
    LinkError, Result,
    netns::{Netns, NetnsId},
};

/// A connection as its instance sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    pub own: SocketAddr,
    pub other: SocketAddr,
}

/// Ends these connections in a namespace, as far as it is found and they still stand; returns how many were ended. Where it
/// is not found they end at their next packet.
pub async fn end_connections(netns: NetnsId, connections: Vec<Connection>) -> Result<usize> {
    let Some(netns) = Netns::found(netns).await? else { return Ok(0) };
    netns.inside(move || end_all(&connections)).await
}

const SOCK_DESTROY: u16 = 21;

fn end_all(connections: &[Connection]) -> Result<usize> {
    // SAFETY: a plain system call; the result is checked and owned by nobody else.
    let socket =
        unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_SOCK_DIAG) };
    if socket < 0 {
        return Err(LinkError::io("open a socket for connections")(io::Error::last_os_error()));
    }
    // SAFETY: the descriptor was just made.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let mut ended = 0;
    for connection in connections {
        ended += usize::from(end(&socket, connection)?);
    }
    Ok(ended)
}

/// True if the connection stood.
fn end(socket: &OwnedFd, connection: &Connection) -> Result<bool> {
    let failed =
        || LinkError::io(format!("end {} to {}", connection.own, connection.other))(io::Error::last_os_error());
    let request = request(connection);
    // SAFETY: `request` is initialised memory of its length.
    let sent = unsafe { libc::send(socket.as_raw_fd(), request.as_ptr().cast(), request.len(), 0) };
    if sent < 0 {
        return Err(failed());
    }
    let mut answer = [0_u8; 256];
    // SAFETY: `answer` is writable memory of its length.
    let read = unsafe { libc::recv(socket.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0) };
    // The header, and behind it the error; 0 acknowledges.
    match answer.get(16..20).and_then(|error| error.try_into().ok()).map(i32::from_ne_bytes) {
        Some(error) if read >= 20 => Ok(error == 0),
        _ => Err(failed()),
    }
}

/// `nlmsghdr` and `inet_diag_req_v2`, for the one socket with these ends.
fn request(connection: &Connection) -> Vec<u8> {
    const LENGTH: u32 = 16 + 56;
    const FLAGS: u16 = 1 | 4; // a request, to be acknowledged
    const TCP: u8 = 6;
    const ALL_STATES: u32 = u32::MAX;
    const ANY_COOKIE: [u8; 8] = [0xff; 8];
    let family = if connection.own.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let mut bytes = Vec::with_capacity(LENGTH as usize);
    bytes.extend(LENGTH.to_ne_bytes());
    bytes.extend(SOCK_DESTROY.to_ne_bytes());
    bytes.extend(FLAGS.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([u8::try_from(family).unwrap_or(0), TCP, 0, 0]);
    bytes.extend(ALL_STATES.to_ne_bytes());
    bytes.extend(connection.own.port().to_be_bytes());
    bytes.extend(connection.other.port().to_be_bytes());
    for end in [connection.own.ip(), connection.other.ip()] {
        match end {
            IpAddr::V4(v4) => bytes.extend([&v4.octets()[..], &[0; 12]].concat()),
            IpAddr::V6(v6) => bytes.extend(v6.octets()),
        }
    }
    bytes.extend([0; 4]); // any interface
    bytes.extend(ANY_COOKIE);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_connection_is_ended_and_its_owner_told() {
        for loopback in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(loopback) else { panic!("no loopback {loopback}") };
            let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connect");
            let (own, other) = (client.local_addr().expect("own"), client.peer_addr().expect("other"));
            assert_eq!(end_all(&[Connection { own, other }]).expect("ended"), 1);
            let error = client.take_error().expect("asked").map(|error| error.kind());
            assert_eq!(error, Some(io::ErrorKind::ConnectionAborted));
            assert_eq!(end_all(&[Connection { own, other }]).expect("gone is no error"), 0);
        }
    }
}
