//! What an endpoint or the node is told of a refusal, read as its own stack would read it: by the standards, not by our code.

use agent::datapath::Hook;
use common::DropReason;
use tests::lab::MTU;

const ETHERNET: usize = 14;
const TCP: u8 = 6;

/// Proves that `answer` is a well-formed answer to the refused `frame`.
pub(crate) fn prove(frame: &[u8], answer: &[u8], hook: Hook, reason: DropReason) {
    const GATEWAY: [u8; 6] = [0xee; 6];
    if hook == Hook::FromEndpoint {
        assert_eq!(answer[..6], frame[6..12], "to whoever sent it");
        assert_eq!(answer[6..12], GATEWAY, "from the gateway");
    } else {
        assert_eq!(answer[..6], GATEWAY, "to the node's end");
        assert_ne!(answer[6..12], GATEWAY, "from the instance");
    }
    assert_eq!(answer[12..14], frame[12..14], "in the same family");
    match answer[12] {
        0x08 => prove_v4(&frame[ETHERNET..], &answer[ETHERNET..], reason),
        _ => prove_v6(&frame[ETHERNET..], &answer[ETHERNET..], reason),
    }
}

fn prove_v4(asked: &[u8], answer: &[u8], reason: DropReason) {
    let headers = usize::from(asked[0] & 0xf) * 4;
    assert_eq!((answer[0], usize::from(word(answer, 2))), (0x45, answer.len()), "a plain header, and its length");
    assert_eq!(sum(&[&answer[..20]]), 0xffff, "checksum of the header");
    assert_eq!(answer[16..20], asked[12..16], "to the sender");
    let too_big = reason == DropReason::TooBig;
    if !too_big {
        assert_eq!(answer[12..16], asked[16..20], "in the name of the destination");
    }
    if answer[9] == TCP {
        let pseudo = [&answer[12..20], &[0, TCP], &[0, 20]].concat();
        assert_eq!(sum(&[&pseudo, &answer[20..]]), 0xffff, "checksum of the segment");
        let end = usize::from(word(asked, 2));
        return prove_reset(&asked[headers..end], &answer[20..]);
    }
    let message = &answer[20..];
    assert_eq!(message[..2], if too_big { [3, 4] } else { [3, 13] });
    assert_eq!(sum(&[message]), 0xffff, "checksum of the message");
    if too_big {
        assert_eq!(u32::from(word(message, 6)), MTU);
    }
    assert_eq!(message[8..], asked[..headers + 8], "the quote");
}

fn prove_v6(asked: &[u8], answer: &[u8], reason: DropReason) {
    assert_eq!((answer[0], 40 + usize::from(word(answer, 4))), (0x60, answer.len()), "a plain header, and its length");
    assert_eq!(answer[24..40], asked[8..24], "to the sender");
    let too_big = reason == DropReason::TooBig;
    if !too_big {
        assert_eq!(answer[8..24], asked[24..40], "in the name of the destination");
    }
    let next = answer[6];
    let length = word(answer, 4).to_be_bytes();
    let pseudo = [&answer[8..40], &[0, 0], &length, &[0, 0, 0, next]].concat();
    assert_eq!(sum(&[&pseudo, &answer[40..]]), 0xffff, "checksum");
    if next == TCP {
        let at = asked.len() - transport_length(asked);
        return prove_reset(&asked[at..40 + usize::from(word(asked, 4))], &answer[40..]);
    }
    let message = &answer[40..];
    assert_eq!((next, &message[..2]), (58, if too_big { &[2, 0][..] } else { &[1, 1] }));
    if too_big {
        assert_eq!(u32::from(word(message, 6)), MTU);
    }
    let quote = &message[8..];
    assert_eq!(quote, &asked[..quote.len()], "the quote");
    assert_eq!(quote.len(), asked.len() - transport_length(asked) + 8, "all headers and eight bytes");
}

/// What is behind the extension headers.
fn transport_length(packet: &[u8]) -> usize {
    let (mut next, mut at) = (packet[6], 40);
    while matches!(next, 0 | 43 | 44 | 60) {
        let length = if next == 44 { 8 } else { 8 + usize::from(packet[at + 1]) * 8 };
        next = packet[at];
        at += length;
    }
    packet.len() - at
}

/// RFC 9293, 3.10.7.1: what a closed port answers.
fn prove_reset(asked: &[u8], reset: &[u8]) {
    const SYN: u8 = 2;
    const FIN: u8 = 1;
    const RST: u8 = 4;
    const ACK: u8 = 16;
    assert_eq!((reset.len(), reset[12]), (20, 0x50), "a plain header");
    assert_eq!((&reset[..2], &reset[2..4]), (&asked[2..4], &asked[..2]), "the ports, turned");
    let flags = asked[13];
    if flags & ACK != 0 {
        assert_eq!((reset[13], &reset[4..8]), (RST, &asked[8..12]), "where the other end expects it");
        return;
    }
    let data = asked.len() - usize::from(asked[12] >> 4) * 4;
    let counted = data + usize::from(flags & SYN != 0) + usize::from(flags & FIN != 0);
    let counted = u32::try_from(counted).expect("short");
    let acknowledged = u32::from_be_bytes(asked[4..8].try_into().expect("four bytes")).wrapping_add(counted);
    assert_eq!((reset[13], &reset[4..8]), (RST | ACK, &[0; 4][..]));
    assert_eq!(reset[8..12], acknowledged.to_be_bytes(), "all that was sent is acknowledged");
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The ones' complement sum of RFC 1071; 0xffff over bytes whose checksum is right.
fn sum(parts: &[&[u8]]) -> u16 {
    let bytes: Vec<u8> = parts.concat();
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    u16::try_from(sum).expect("folded")
}
