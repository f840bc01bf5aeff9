//! Connections over HTTP/1: whatever comes, in whatever pieces, the same requests are let through, and a head that is let through
//! has one end, one length and no line that ends otherwise than by CR LF.
#![no_main]

use gate::gatekeeper::{Framing, Limits, Step, read_head};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { head: 1_024, fields: 32 };

/// What is let through of bytes that come in pieces of a length, and whether something was refused.
fn walk(bytes: &[u8], piece: usize) -> (usize, bool) {
    let mut framing = Framing::new(LIMITS);
    let (mut released, mut come) = (0, 0);
    loop {
        let was_between = framing.is_between();
        match framing.advance(&bytes[released..come]) {
            Step::Release(length) => {
                assert!(length > 0 && released + length <= come);
                if was_between {
                    check_head(&bytes[released..released + length]);
                }
                released += length;
            }
            Step::Refuse(_) => return (released, true),
            Step::Hold => return (released, false),
            Step::More if come == bytes.len() => return (released, false),
            Step::More => come = (come + piece).min(bytes.len()),
        }
    }
}

fn check_head(head: &[u8]) {
    assert!(head.ends_with(b"\r\n\r\n") && head.len() <= LIMITS.head);
    let text: Vec<u8> = head.iter().copied().filter(|&byte| byte != b'\r').collect();
    let line_ends = head.windows(2).filter(|two| *two == b"\r\n").count();
    assert_eq!(head.len() - text.len(), line_ends, "a CR stands alone");
    assert_eq!(head.iter().filter(|&&byte| byte == b'\n').count(), line_ends, "an LF stands alone");
    assert!(read_head(head, LIMITS.fields).is_ok());
    let lower = String::from_utf8_lossy(head).to_ascii_lowercase();
    let lengths = lower.matches("\r\ncontent-length:").count();
    let encodings = lower.matches("\r\ntransfer-encoding:").count();
    assert!(lengths + encodings <= 1, "its end is said twice");
}

fuzz_target!(|bytes: &[u8]| {
    let (released, refused) = walk(bytes, bytes.len().max(1));
    for piece in [1, 7] {
        let (piecewise, refused_too) = walk(bytes, piece);
        // What is refused within a body may have been let through up to there.
        assert!(refused == refused_too && (refused || piecewise == released), "in pieces of {piece}");
    }
});
