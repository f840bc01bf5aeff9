//! Sockets that clients connect to: made here, taken from systemd, or handed over by the gatekeeper that ran before.

use std::{
    fmt, fs, io,
    net::SocketAddr,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::FileTypeExt as _,
    },
    path::{Path, PathBuf},
    str::FromStr,
};

use socket2::{Domain, Protocol, SockAddr, Type};
use thiserror::Error;
use tokio::net::{TcpListener, UnixListener};

use super::socket::Socket;

/// Where a gatekeeper listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Why a text is no address to listen at.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no address to listen at; write IP:PORT or unix:PATH")]
pub struct NoAddress(String);

/// A socket that listens, before any runtime: it can be shared and handed over.
#[derive(Debug)]
pub struct ListeningSocket(socket2::Socket);

/// A socket that listens on one worker's runtime.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Connections that may wait to be taken in.
const BACKLOG: i32 = 4_096;

impl FromStr for ListenAddress {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<Self, NoAddress> {
        match text.strip_prefix("unix:") {
            Some("") => Err(NoAddress(text.into())),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Tcp).map_err(|_| NoAddress(text.into())),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(formatter, "{address}"),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

impl ListeningSocket {
    /// Begins to listen.
    ///
    /// # Errors
    ///
    /// The address is taken, or is not this machine's.
    pub fn bind(address: &ListenAddress) -> io::Result<Self> {
        let socket = match address {
            ListenAddress::Tcp(address) => {
                let socket = socket2::Socket::new(Domain::for_address(*address), Type::STREAM, Some(Protocol::TCP))?;
                socket.set_reuse_address(true)?;
                socket.bind(&(*address).into())?;
                socket
            }
            ListenAddress::Unix(path) => {
                remove_stale(path)?;
                let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
                socket.bind(&SockAddr::unix(path)?)?;
                socket
            }
        };
        socket.listen(BACKLOG)?;
        Self::adopt(socket.into())
    }

    /// Takes over a socket that listens already.
    ///
    /// # Errors
    ///
    /// It does not listen, or is none.
    pub fn adopt(descriptor: OwnedFd) -> io::Result<Self> {
        let socket = socket2::Socket::from(descriptor);
        if !socket.is_listener()? {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the socket does not listen"));
        }
        socket.set_nonblocking(true)?;
        socket.set_cloexec(true)?;
        Ok(Self(socket))
    }

    /// The address it has over TCP; none on a Unix socket.
    ///
    /// # Errors
    ///
    /// The kernel does not say.
    pub fn address(&self) -> io::Result<Option<SocketAddr>> {
        Ok(self.0.local_addr()?.as_socket())
    }

    /// The same socket once more.
    pub(crate) fn share(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Whether it listens where somebody wants to.
    pub(crate) fn is_at(&self, wanted: &ListenAddress) -> bool {
        let Ok(address) = self.0.local_addr() else { return false };
        match wanted {
            ListenAddress::Tcp(wanted) => address
                .as_socket()
                .is_some_and(|found| found.ip() == wanted.ip() && (wanted.port() == 0 || found == *wanted)),
            ListenAddress::Unix(path) => address.as_pathname() == Some(path),
        }
    }

    /// The same socket on the runtime that this is called on.
    pub(crate) fn on_this_runtime(&self) -> io::Result<Listener> {
        let socket = self.0.try_clone()?;
        match self.0.domain()? {
            Domain::UNIX => UnixListener::from_std(OwnedFd::from(socket).into()).map(Listener::Unix),
            _ => TcpListener::from_std(OwnedFd::from(socket).into()).map(Listener::Tcp),
        }
    }
}

impl From<ListeningSocket> for OwnedFd {
    fn from(socket: ListeningSocket) -> Self {
        socket.0.into()
    }
}

impl AsFd for ListeningSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Removes a socket that nobody listens at any more; anything else at its place stays.
pub(crate) fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody listens there")),
            Err(_) => fs::remove_file(path),
        },
        Ok(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file is there that is no socket")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

impl Listener {
    /// The next connection, and the address it comes from.
    pub(crate) async fn accept(&self) -> io::Result<(Socket, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (socket, peer) = listener.accept().await?;
                socket.set_nodelay(true)?;
                Ok((Socket::Tcp(socket), Some(peer)))
            }
            Self::Unix(listener) => listener.accept().await.map(|(socket, _)| (Socket::Unix(socket), None)),
        }
    }
}
