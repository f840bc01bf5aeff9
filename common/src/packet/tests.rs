//! Frames as they come, and as nobody should send them.

use super::*;
use proptest::prelude::*;
use std::{vec, vec::Vec};

fn tcp(flags: u8) -> Vec<u8> {
    let mut frame = vec![0; 54];
    frame[12..14].copy_from_slice(&[8, 0]);
    frame[14] = 0x45;
    frame[16..18].copy_from_slice(&40_u16.to_be_bytes());
    frame[23] = 6;
    frame[26..30].copy_from_slice(&[10, 255, 1, 2]);
    frame[30..34].copy_from_slice(&[10, 255, 2, 3]);
    frame[34..38].copy_from_slice(&[0x9c, 0x40, 0x1f, 0x90]);
    frame[46] = 0x50;
    frame[47] = flags;
    frame
}

fn read(frame: &[u8]) -> Result<Packet, DropReason> {
    super::read(frame, Family::V4)
}

#[test]
fn a_syn_opens_and_names_its_ends() {
    let packet = read(&tcp(SYN)).expect("well-formed");
    assert_eq!((packet.kind, packet.source_port, packet.destination_port), (Kind::Opening, 40000, 8080));
    assert_eq!(packet.source, Address::from_v4([10, 255, 1, 2]));
    assert_eq!(packet.destination, Address::from_v4([10, 255, 2, 3]));
}

#[test]
fn flags_that_no_stack_sends_are_refused() {
    for flags in [SYN | FIN, SYN | RST, FIN | RST, SYN | FIN | RST] {
        assert_eq!(read(&tcp(flags)), Err(DropReason::Malformed));
    }
}

#[test]
fn a_header_that_promises_more_than_is_there_is_malformed() {
    for (at, value) in [(17, 60), (14, 0x44), (14, 0x65), (14, 0x4f), (46, 0x40), (46, 0xf0)] {
        let mut frame = tcp(SYN);
        frame[at] = value;
        assert_eq!(read(&frame), Err(DropReason::Malformed), "byte {at} = {value:#x}");
    }
    for length in 0..54 {
        assert!(read(&tcp(SYN)[..length]).is_err(), "{length} bytes");
    }
}

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;

#[test]
fn a_foreign_protocol_has_a_reason_of_its_own() {
    for protocol in [2, 47, 58, 255] {
        let mut frame = tcp(SYN);
        frame[23] = protocol;
        assert_eq!(read(&frame), Err(DropReason::UnsupportedProtocol));
    }
}

#[test]
fn a_head_is_read_like_a_packet_and_a_tail_has_no_ports() {
    let mut head = tcp(SYN);
    head[18..22].copy_from_slice(&[0x12, 0x34, 0x20, 0]);
    head[16..18].copy_from_slice(&44_u16.to_be_bytes());
    head.extend([0; 4]);
    let packet = read(&head).expect("well-formed");
    assert_eq!((packet.kind, packet.destination_port, packet.header), (Kind::Opening, 8080, 20));
    assert_eq!((packet.fragment.id(), packet.fragment.is_last(), packet.fragment.length()), (0x1234, false, 24));
    let mut tail = head.clone();
    tail[20..22].copy_from_slice(&[0, 3]);
    let packet = read(&tail).expect("well-formed");
    assert_eq!((packet.kind, packet.destination_port), (Kind::Tail, 0));
    assert_eq!((packet.fragment.offset(), packet.fragment.is_last()), (24, true));
}

#[test]
fn parts_that_no_datagram_has_are_malformed() {
    for (length, part) in [(43_u16, [0x20, 0]), (20, [0x20, 1]), (44, [0x1f, 0xff])] {
        let mut frame = tcp(SYN);
        frame.extend([0; 4]);
        frame[16..18].copy_from_slice(&length.to_be_bytes());
        frame[20..22].copy_from_slice(&part);
        assert_eq!(read(&frame), Err(DropReason::Malformed), "{length} bytes, {part:?}");
    }
}

/// An IPv6 frame of these headers, each with the number that names it, and this payload.
fn ipv6(headers: &[(u8, &[u8])], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 14 + 40];
    frame[12..14].copy_from_slice(&[0x86, 0xdd]);
    frame[14] = 0x60;
    frame[21] = 64;
    frame[22..38].copy_from_slice(&WEB_V6.octets());
    frame[38..54].copy_from_slice(&DB_V6.octets());
    let numbers: Vec<u8> = headers.iter().map(|(number, _)| *number).chain([protocol]).collect();
    frame[20] = numbers[0];
    for (i, (_, bytes)) in headers.iter().enumerate() {
        let start = frame.len();
        frame.extend(*bytes);
        frame[start] = numbers[i + 1];
    }
    frame.extend(payload);
    let length = u16::try_from(frame.len() - 54).expect("short");
    frame[18..20].copy_from_slice(&length.to_be_bytes());
    frame
}

const WEB_V6: Address = Address::from_v6([0xfd, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2]);
const DB_V6: Address = Address::from_v6([0xfd, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3]);
const HOP_BY_HOP: (u8, &[u8]) = (0, &[0; 8]);
const DESTINATION: (u8, &[u8]) = (60, &[0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
const UDP: [u8; 8] = [0x9c, 0x40, 0x1f, 0x90, 0, 8, 0, 0];

fn read_v6(frame: &[u8]) -> Result<Packet, DropReason> {
    super::read(frame, Family::V6)
}

#[test]
fn an_ipv6_packet_is_read_behind_its_extension_headers() {
    for headers in [&[][..], &[HOP_BY_HOP], &[HOP_BY_HOP, DESTINATION, DESTINATION]] {
        let packet = read_v6(&ipv6(headers, 17, &UDP)).expect("well-formed");
        assert_eq!((packet.source, packet.destination), (WEB_V6, DB_V6));
        assert_eq!((packet.protocol, packet.destination_port), (Protocol::Udp, 8080));
    }
    let many = [HOP_BY_HOP; 9];
    assert_eq!(read_v6(&ipv6(&many, 17, &UDP)), Err(DropReason::ExtensionHeaders));
    for protocol in [1, 2, 50, 59] {
        assert_eq!(read_v6(&ipv6(&[], protocol, &UDP)), Err(DropReason::UnsupportedProtocol));
    }
}

#[test]
fn ipv6_fragments_are_told_apart() {
    let part =
        |offset: u16, more: u16| [0, 0, (offset | more).to_be_bytes()[0], (offset | more).to_be_bytes()[1], 1, 2, 3, 4];
    let head = ipv6(&[(44, &part(0, 1))], 17, &UDP);
    let packet = read_v6(&head).expect("well-formed");
    assert_eq!((packet.kind, packet.fragment.id(), packet.fragment.is_last()), (Kind::Datagram, 0x0102_0304, false));
    let tail = read_v6(&ipv6(&[(44, &part(8, 0))], 17, &UDP)).expect("well-formed");
    assert_eq!((tail.kind, tail.fragment.offset(), tail.fragment.length()), (Kind::Tail, 8, 8));
    // One that is the whole datagram is none, and a second header is nobody's.
    assert!(read_v6(&ipv6(&[(44, &part(0, 0))], 17, &UDP)).expect("atomic").fragment.is_whole());
    let twice = ipv6(&[(44, &part(0, 0)), (44, &part(8, 0))], 17, &UDP);
    assert_eq!(read_v6(&twice), Err(DropReason::Malformed));
}

#[test]
fn an_ipv4_address_in_an_ipv6_packet_is_nobodys() {
    for at in [22, 38] {
        let mut frame = ipv6(&[], 17, &UDP);
        frame[at..at + 16].copy_from_slice(&Address::from_v4([10, 255, 1, 2]).octets());
        assert_eq!(read_v6(&frame), Err(DropReason::Malformed));
    }
}

#[test]
fn icmpv6_is_echo_errors_and_neighbours() {
    let message = |kind, code| ipv6(&[], 58, &[kind, code, 0, 0, 0x12, 0x34, 0, 1]);
    let echo = read_v6(&message(128, 0)).expect("request");
    assert_eq!((echo.protocol, echo.kind, echo.echo_id), (Protocol::Icmp, Kind::Opening, 0x1234));
    assert_eq!(read_v6(&message(129, 0)).expect("reply").kind, Kind::Reply);
    for kind in 133..=137 {
        assert_eq!(read_v6(&message(kind, 0)), Err(DropReason::NeighborDiscovery));
    }
    for kind in [0, 8, 100, 130, 143] {
        assert_eq!(read_v6(&message(kind, 0)), Err(DropReason::UnsupportedIcmp), "type {kind}");
    }
}

#[test]
fn an_icmpv6_error_speaks_for_the_answer_that_the_quoted_packet_did_not_get() {
    let quoted = ipv6(&[], 17, &UDP);
    let error = |kind: u8, mtu: u32| {
        let mut message = vec![kind, 0, 0, 0];
        message.extend(mtu.to_be_bytes());
        message.extend(&quoted[14..]);
        let mut frame = ipv6(&[], 58, &message);
        frame[22..38].copy_from_slice(&DB_V6.octets());
        frame[38..54].copy_from_slice(&WEB_V6.octets());
        frame
    };
    for kind in [1, 2, 3, 4] {
        let packet = read_v6(&error(kind, 1400)).expect("well-formed");
        assert_eq!((packet.kind, packet.protocol, packet.source), (Kind::Error, Protocol::Udp, DB_V6));
        assert_eq!((packet.source_port, packet.destination_port), (8080, 40000));
    }
    assert_eq!(read_v6(&error(2, 1279)), Err(DropReason::MtuTooSmall));
    let mut foreign = error(1, 0);
    foreign[22 + 15] ^= 1;
    assert_eq!(read_v6(&foreign), Err(DropReason::ForeignQuote));
}

#[test]
fn sctp_opens_with_init_and_ends_with_abort() {
    for (chunk, kind) in [
        (1, Kind::Opening),
        (2, Kind::Reply),
        (0, Kind::Segment),
        (10, Kind::Segment),
        (6, Kind::Reset),
        (14, Kind::Reset),
    ] {
        let mut payload = vec![0x9c, 0x40, 0x1f, 0x90, 0, 0, 0, 1, 0, 0, 0, 0, chunk, 0, 0, 4];
        let packet = read_v6(&ipv6(&[], 132, &payload)).expect("well-formed");
        assert_eq!((packet.protocol, packet.kind, packet.destination_port), (Protocol::Sctp, kind, 8080));
        payload.truncate(12);
        assert_eq!(read_v6(&ipv6(&[], 132, &payload)), Err(DropReason::Malformed), "no chunk");
    }
}

/// An error about `tcp(SYN)`, from its receiver to its sender.
fn error(kind: u8, code: u8) -> Vec<u8> {
    let quoted = tcp(SYN);
    let mut frame = quoted[..34].to_vec();
    frame[16..18].copy_from_slice(&56_u16.to_be_bytes());
    frame[23] = 1;
    frame[26..30].copy_from_slice(&quoted[30..34]);
    frame[30..34].copy_from_slice(&quoted[26..30]);
    frame.extend([kind, code, 0, 0, 0, 0, 0x05, 0x78]);
    frame.extend(&quoted[14..42]);
    frame
}

#[test]
fn an_error_speaks_for_the_answer_that_the_quoted_packet_did_not_get() {
    for (kind, code) in [(3, 3), (3, 4), (11, 0), (12, 0)] {
        let packet = read(&error(kind, code)).expect("well-formed");
        assert_eq!((packet.kind, packet.protocol), (Kind::Error, Protocol::Tcp));
        assert_eq!(packet.source, Address::from_v4([10, 255, 2, 3]));
        assert_eq!((packet.source_port, packet.destination_port), (8080, 40000));
    }
}

#[test]
fn an_error_that_quotes_somebody_else_or_lies_about_the_mtu_is_refused() {
    let mut foreign = error(3, 3);
    foreign[14 + 20 + 8 + 15] ^= 1;
    assert_eq!(read(&foreign), Err(DropReason::ForeignQuote));
    let mut small = error(3, 4);
    small[14 + 20 + 6..14 + 20 + 8].copy_from_slice(&575_u16.to_be_bytes());
    assert_eq!(read(&small), Err(DropReason::MtuTooSmall));
    for kind in [4, 5, 9, 13, 17] {
        assert_eq!(read(&error(kind, 0)), Err(DropReason::UnsupportedIcmp), "type {kind}");
    }
    for length in 42..70 {
        assert!(read(&error(3, 3)[..length]).is_err(), "{length} bytes");
    }
}

proptest! {
    #[test]
    fn any_bytes_get_an_answer(frame: Vec<u8>) {
        let _ = parse_frame(frame.as_slice());
        let _ = read(&frame);
        let _ = read_v6(&frame);
    }
}
