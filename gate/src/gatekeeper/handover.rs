//! From one gatekeeper to the next: whoever comes takes the sockets that listen from whoever runs, over a Unix socket, says
//! when it serves, and only then does the older one leave. Nothing that connects meanwhile is refused, because the sockets never
//! close; connections that are open stay with the older one until they end.

use std::{
    io::{self, IoSlice, IoSliceMut, Read as _, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::{
            fs::PermissionsExt as _,
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use nix::{
    cmsg_space,
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, getsockopt, recvmsg, sendmsg, sockopt::PeerCredentials,
    },
    unistd::geteuid,
};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::listen::{ListeningSocket, remove_stale};

/// Sockets that listen: for clients, and for operators where there is one.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) clients: ListeningSocket,
    pub(crate) admin: Option<ListeningSocket>,
}

/// A gatekeeper that runs, from which sockets were taken; it goes on until it is told that its successor serves.
pub(crate) struct Predecessor(UnixStream);

const SERVING: &[u8; 8] = b"serving\n";
const LEAVING: &[u8; 8] = b"leaving\n";
/// Starting includes hearing from authorities.
const LONGEST: Duration = Duration::from_secs(60);

/// Takes the sockets of whoever runs; none where nobody does.
///
/// # Errors
///
/// Somebody answers there who is no gatekeeper.
pub(crate) fn take(path: &Path) -> io::Result<Option<(Sockets, Predecessor)>> {
    let stream = match UnixStream::connect(path) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    check_peer(&stream)?;
    stream.set_read_timeout(Some(LONGEST))?;
    let mut sockets = receive(&stream)?.into_iter();
    let clients = sockets.next().ok_or_else(|| io::Error::other("it handed over no socket"))?;
    let admin = sockets.next().map(ListeningSocket::adopt).transpose()?;
    Ok(Some((Sockets { clients: ListeningSocket::adopt(clients)?, admin }, Predecessor(stream))))
}

impl Predecessor {
    /// Tells it that its successor serves, and waits until it takes in nobody more.
    ///
    /// # Errors
    ///
    /// It is gone, or does not answer in time.
    pub(crate) fn relieve(mut self) -> io::Result<()> {
        self.0.write_all(SERVING)?;
        let mut answer = [0; LEAVING.len()];
        self.0.read_exact(&mut answer)?;
        if answer == *LEAVING { Ok(()) } else { Err(io::Error::other("it said something else than that it leaves")) }
    }
}

/// Waits for a successor, on a thread of its own; heard of once it serves.
///
/// # Errors
///
/// The path cannot be listened at.
pub(crate) fn offer(path: PathBuf, sockets: Arc<Sockets>) -> io::Result<oneshot::Receiver<()>> {
    remove_stale(&path)?;
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    let (relieved, heard) = oneshot::channel();
    thread::Builder::new().name("handover".into()).spawn(move || {
        for stream in listener.incoming().flatten() {
            match hand_over(stream, &path, &sockets) {
                Ok(()) => {
                    // Nobody waits only when the gatekeeper ends anyway.
                    let _ended = relieved.send(());
                    return;
                }
                Err(error) => warn!(%error, "a successor did not come to serve; this one goes on"),
            }
        }
    })?;
    Ok(heard)
}

fn hand_over(mut stream: UnixStream, path: &Path, sockets: &Sockets) -> io::Result<()> {
    check_peer(&stream)?;
    stream.set_read_timeout(Some(LONGEST))?;
    let admin = sockets.admin.as_ref().map(|socket| socket.as_fd().as_raw_fd());
    let descriptors: Vec<RawFd> = [sockets.clients.as_fd().as_raw_fd()].into_iter().chain(admin).collect();
    let rights = [ControlMessage::ScmRights(&descriptors)];
    sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(b"s")], &rights, MsgFlags::empty(), None)?;
    let mut said = [0; SERVING.len()];
    stream.read_exact(&mut said)?;
    if said != *SERVING {
        return Err(io::Error::other("it said something else than that it serves"));
    }
    // The successor listens here next.
    std::fs::remove_file(path)?;
    info!("a successor serves");
    stream.write_all(LEAVING)
}

/// Whoever gets these sockets is the gatekeeper to all clients: only who we are, or root, may.
fn check_peer(stream: &UnixStream) -> io::Result<()> {
    let peer = getsockopt(stream, PeerCredentials)?.uid();
    if peer == geteuid().as_raw() || peer == 0 {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("user {peer} is at the other end, not this one or root"),
    ))
}

fn receive(stream: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut space = cmsg_space!([RawFd; 2]);
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = part {
            for descriptor in received {
                // SAFETY: the kernel has just made this descriptor for us in recvmsg, and nobody else knows its number.
                descriptors.push(unsafe { OwnedFd::from_raw_fd(descriptor) });
            }
        }
    }
    Ok(descriptors)
}

/// The first socket that systemd listens with for us; none where it does not.
///
/// # Errors
///
/// What it handed over does not listen.
pub(crate) fn from_systemd() -> io::Result<Option<ListeningSocket>> {
    const FIRST: RawFd = 3;
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u32>().ok());
    if number("LISTEN_PID") != Some(std::process::id()) || number("LISTEN_FDS").is_none_or(|count| count == 0) {
        return Ok(None);
    }
    // SAFETY: by systemd's protocol descriptor 3 is open and is this process's to keep; it is taken once, before any thread.
    ListeningSocket::adopt(unsafe { OwnedFd::from_raw_fd(FIRST) }).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets() -> Arc<Sockets> {
        let clients = ListeningSocket::bind(&"127.0.0.1:0".parse().expect("an address")).expect("it listens");
        Arc::new(Sockets { clients, admin: None })
    }

    #[tokio::test]
    async fn a_successor_gets_the_very_socket_and_the_older_one_hears_when_it_serves() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("handover.sock");
        let older = sockets();
        let mut heard = offer(path.clone(), older.clone()).expect("it is offered");
        let (taken, predecessor) = take(&path).expect("a gatekeeper").expect("it runs");
        assert_eq!(taken.clients.address().expect("TCP"), older.clients.address().expect("TCP"));
        assert!(heard.try_recv().is_err(), "it was relieved before its successor served");
        predecessor.relieve().expect("it leaves");
        heard.await.expect("it heard");
        assert!(take(&path).expect("nobody").is_none());
    }

    #[tokio::test]
    async fn a_successor_that_dies_before_it_serves_changes_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("handover.sock");
        let heard = offer(path.clone(), sockets()).expect("it is offered");
        drop(take(&path).expect("a gatekeeper").expect("it runs"));
        let (_, predecessor) = take(&path).expect("a gatekeeper").expect("it still runs");
        predecessor.relieve().expect("it leaves");
        heard.await.expect("it heard");
    }

    #[test]
    fn where_nobody_runs_nothing_is_taken() {
        let directory = tempfile::tempdir().expect("a directory");
        assert!(take(&directory.path().join("none")).expect("nobody").is_none());
    }
}
