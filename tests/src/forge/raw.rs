//! Packet sockets: frames go out as they are, and everything that comes in is seen.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike, bind, recvfrom, send,
    setsockopt, socket,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::frame::MARK;
use crate::world::namespace::Namespace;

/// Packet sockets also show what the interface sends, such as an ICMP error that quotes what came in.
const OUTGOING: u8 = nix::libc::PACKET_OUTGOING;

#[derive(Debug)]
pub struct RawSocket(OwnedFd);

impl RawSocket {
    /// Opens a packet socket on one interface of a namespace.
    pub fn open(namespace: &Namespace, interface: &str) -> Result<Self> {
        namespace
            .inside(|| open(interface))
            .with_context(|| format!("packet socket on {interface} of {}", namespace.name()))
    }

    /// Sends a frame; waits while the interface's queue is full.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        loop {
            match send(self.0.as_raw_fd(), frame, MsgFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(Errno::ENOBUFS) => std::thread::yield_now(),
                Err(error) => return Err(error).context("send a frame"),
            }
        }
    }

    /// Sends a frame that a program may drop on its way out, which the kernel tells as a full queue.
    pub fn offer(&self, frame: &[u8]) -> Result<()> {
        match send(self.0.as_raw_fd(), frame, MsgFlags::empty()) {
            Ok(_) | Err(Errno::ENOBUFS) => Ok(()),
            Err(error) => Err(error).context("offer a frame"),
        }
    }
}

/// Counts the forged frames that come in on an interface, whatever they are addressed to.
#[derive(Debug)]
pub struct Watcher {
    seen: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    pub fn start(namespace: &Namespace, interface: &str) -> Result<Self> {
        let socket = RawSocket::open(namespace, interface)?;
        setsockopt(&socket.0, ReceiveTimeout, &TimeVal::milliseconds(50)).context("set the receive time-out")?;
        let (seen, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (count, end) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut frame = [0; 2048];
            while !end.load(Ordering::Relaxed) {
                let Ok((length, from)) = recvfrom::<LinkAddr>(socket.0.as_raw_fd(), &mut frame) else { continue };
                if from.is_some_and(|from| from.pkttype() == OUTGOING) {
                    continue;
                }
                if frame[..length].windows(MARK.len()).any(|bytes| bytes == MARK) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Ok(Self { seen, stop, thread: Some(thread) })
    }

    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap_or_default();
        }
    }
}

fn open(interface: &str) -> Result<RawSocket> {
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)?;
    bind(socket.as_raw_fd(), &address(interface)?)?;
    Ok(RawSocket(socket))
}

fn address(interface: &str) -> Result<LinkAddr> {
    let index = nix::net::if_::if_nametoindex(interface)?;
    let raw = nix::libc::sockaddr_ll {
        sll_family: u16::try_from(nix::libc::AF_PACKET)?,
        sll_protocol: u16::try_from(nix::libc::ETH_P_ALL)?.to_be(),
        sll_ifindex: i32::try_from(index)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = u32::try_from(size_of_val(&raw))?;
    // SAFETY: `raw` is an initialised sockaddr_ll of this length, and the callee copies it before we return.
    let address = unsafe { LinkAddr::from_raw((&raw const raw).cast(), Some(length)) };
    address.context("the address family is that of packet sockets")
}
