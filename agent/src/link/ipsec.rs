//! Whether the node encrypts what leaves it: by policies of the kernel's IPsec, which only its own stack consults.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use super::{LinkError, Result};

const HEADER: usize = 16;
const GET_INFO: u16 = 0x25;
const INFO: u16 = 0x24;
const REQUEST: u16 = 1;

/// How many policies there are for what this node sends; 0 on kernels without IPsec.
pub fn outgoing_policies() -> Result<u32> {
    count().map_err(LinkError::io("count IPsec policies"))
}

fn count() -> io::Result<u32> {
    // SAFETY: a plain system call; the result is checked and owned by nobody else.
    let socket = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_XFRM) };
    if socket < 0 {
        let error = io::Error::last_os_error();
        return if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) { Ok(0) } else { Err(error) };
    }
    // SAFETY: the descriptor was just made.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let request = request();
    // SAFETY: `request` is initialised memory of its length.
    if unsafe { libc::send(socket.as_raw_fd(), request.as_ptr().cast(), request.len(), 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut answer = [0_u8; 256];
    // SAFETY: `answer` is writable memory of its length.
    let read = unsafe { libc::recv(socket.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0) };
    let length = usize::try_from(read).map_err(|_| io::Error::last_os_error())?;
    outgoing(&answer[..length]).ok_or_else(|| io::Error::other("the kernel's answer is not understood"))
}

/// `nlmsghdr`, and the word of flags that the kernel wants behind it.
fn request() -> [u8; HEADER + 4] {
    let mut bytes = [0; HEADER + 4];
    bytes[..4].copy_from_slice(&20_u32.to_ne_bytes());
    bytes[4..6].copy_from_slice(&GET_INFO.to_ne_bytes());
    bytes[6..8].copy_from_slice(&REQUEST.to_ne_bytes());
    bytes
}

/// Of `xfrmu_spdinfo`, the second count; it stands in the first attribute, behind a word of flags.
fn outgoing(answer: &[u8]) -> Option<u32> {
    const COUNTS: usize = HEADER + 4 + 4;
    let kind = answer.get(4..6)?.try_into().ok().map(u16::from_ne_bytes)?;
    let outgoing = answer.get(COUNTS + 4..COUNTS + 8)?.try_into().ok().map(u32::from_ne_bytes)?;
    (kind == INFO).then_some(outgoing)
}
