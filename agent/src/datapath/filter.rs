//! The tc filters of an interface, in the order in which packets meet them, asked of the kernel by a netlink dump.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use aya::programs::tc::TcAttachType;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

/// A filter, of whatever kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) priority: u16,
    pub(super) handle: u32,
    /// The id of its program, if it has one.
    pub(super) program: Option<u32>,
}

const NETLINK_HEADER: usize = 16;
/// Family, interface, handle, parent and info.
const TC_HEADER: usize = 20;
const ATTRIBUTE_HEADER: usize = 4;

const TCA_OPTIONS: u16 = 2;
const TCA_BPF_ID: u16 = 11;
/// What attributes' types are marked with besides their number.
const TYPE_FLAGS: u16 = 0xc000;

const CLSACT_INGRESS: u32 = 0xffff_fff2;
const CLSACT_EGRESS: u32 = 0xffff_fff3;

/// Lists the filters on one side of an interface; none where it has no qdisc for them, or is gone.
pub(super) fn list(ifindex: u32, side: TcAttachType) -> io::Result<Vec<Filter>> {
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    send(socket.as_raw_fd(), &request(ifindex, side), MsgFlags::empty())?;
    receive(&socket)
}

fn request(ifindex: u32, side: TcAttachType) -> Vec<u8> {
    let parent = match side {
        TcAttachType::Ingress => CLSACT_INGRESS,
        TcAttachType::Egress => CLSACT_EGRESS,
        TcAttachType::Custom(parent) => parent,
    };
    let length = u32::try_from(NETLINK_HEADER + TC_HEADER).unwrap_or(u32::MAX);
    let [request, dump] = [libc::NLM_F_REQUEST, libc::NLM_F_DUMP].map(|flag| u16::try_from(flag).unwrap_or(0));
    let mut bytes = Vec::with_capacity(NETLINK_HEADER + TC_HEADER);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(libc::RTM_GETTFILTER.to_ne_bytes());
    bytes.extend((request | dump).to_ne_bytes());
    // Sequence, sender, and the family with its padding.
    bytes.extend([0; 12]);
    // The handle is 0: all of them.
    for word in [ifindex, 0, parent, 0] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes
}

fn receive(socket: &OwnedFd) -> io::Result<Vec<Filter>> {
    let mut filters = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let mut rest = buffer.get(..length).unwrap_or_default();
        while !rest.is_empty() {
            let (kind, body, next) = message(rest).ok_or_else(garbled)?;
            match i32::from(kind) {
                libc::NLMSG_DONE => return Ok(filters),
                libc::NLMSG_ERROR => return failure(body).map_or(Ok(filters), Err),
                _ if kind == libc::RTM_NEWTFILTER => filters.extend(filter(body).ok_or_else(garbled)?),
                _ => {}
            }
            rest = next;
        }
    }
}

fn garbled() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the kernel's list of filters makes no sense")
}

/// The error that a message tells, unless it is an acknowledgement or says that the interface is gone.
fn failure(body: &[u8]) -> Option<io::Error> {
    let code = i32::from_ne_bytes(*body.first_chunk()?);
    (code != 0 && code != -libc::ENODEV).then(|| io::Error::from_raw_os_error(-code))
}

/// A message's type and body, and what comes behind it.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let body = bytes.get(NETLINK_HEADER..length)?;
    Some((kind, body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// Reads a filter; the kernel also lists each priority by itself, with no handle, which is none.
fn filter(body: &[u8]) -> Option<Option<Filter>> {
    let word = |at: usize| Some(u32::from_ne_bytes(*body.get(at..)?.first_chunk()?));
    let (handle, info) = (word(8)?, word(16)?);
    let attributes = body.get(TC_HEADER..)?;
    let options = attribute(attributes, TCA_OPTIONS);
    let id = options.and_then(|options| attribute(options, TCA_BPF_ID));
    let program = id.and_then(|id| Some(u32::from_ne_bytes(*id.first_chunk()?)));
    let priority = u16::try_from(info >> 16).ok()?;
    Some((handle != 0).then_some(Filter { priority, handle, program }))
}

/// The value of the first attribute of a type.
fn attribute(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?) & !TYPE_FLAGS;
        let value = bytes.get(ATTRIBUTE_HEADER..length)?;
        if kind == wanted {
            return Some(value);
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute_of(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(ATTRIBUTE_HEADER + value.len()).expect("short");
        let mut bytes: Vec<u8> = length.to_ne_bytes().into_iter().chain(kind.to_ne_bytes()).collect();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn answer(handle: u32, info: u32, attributes: &[u8]) -> Vec<u8> {
        let mut body = vec![0; 8];
        body.extend([handle, 0, info].into_iter().flat_map(u32::to_ne_bytes));
        body.extend(attributes);
        body
    }

    #[test]
    fn a_filter_is_read_with_its_program() {
        let options = [attribute_of(7, b"web\0"), attribute_of(TCA_BPF_ID, &7_u32.to_ne_bytes())].concat();
        let attributes = [attribute_of(1, b"bpf\0"), attribute_of(TCA_OPTIONS | 0x8000, &options)].concat();
        let found = filter(&answer(9, 1 << 16, &attributes));
        assert_eq!(found, Some(Some(Filter { priority: 1, handle: 9, program: Some(7) })));
    }

    #[test]
    fn a_priority_without_a_handle_is_no_filter_and_cut_bytes_are_an_error() {
        assert_eq!(filter(&answer(0, 1 << 16, &[])), Some(None));
        assert_eq!(filter(&[0; 10]), None);
        assert_eq!(attribute(&[200, 0, 1, 0], 1), None);
    }
}
