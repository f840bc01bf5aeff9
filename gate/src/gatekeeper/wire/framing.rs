//! Where one request ends and the next begins on a connection: heads and bodies in turn, and how many bytes of what has come
//! may be let through.

use super::super::refusal::Refusal;
use super::chunk::Chunked;
use super::head::{Body, read_head};

/// What is taken of a head at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of the request line and all fields.
    pub head: usize,
    pub fields: usize,
}

/// Follows the requests of one connection.
#[derive(Debug)]
pub struct Framing {
    limits: Limits,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// In a head; so many bytes were looked at for its end.
    Head {
        seen: usize,
    },
    Length {
        left: u64,
    },
    Chunked(Chunked),
    /// Behind a request that asks for WebSocket: nothing more is HTTP.
    Upgrade,
    Refused,
}

/// What to do with the bytes that have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many may be read on, at least one; a head is let through as a whole.
    Release(usize),
    /// Nothing can be said before more has come.
    More,
    /// Nothing more is read on, ever.
    Hold,
    Refuse(Refusal),
}

impl Framing {
    pub fn new(limits: Limits) -> Self {
        Self { limits, phase: Phase::Head { seen: 0 } }
    }

    /// Whether the next byte is the first of a request.
    pub fn is_between(&self) -> bool {
        self.phase == Phase::Head { seen: 0 }
    }

    /// Whether a head has begun and is not whole.
    pub fn in_head(&self) -> bool {
        matches!(self.phase, Phase::Head { seen: 1.. })
    }

    /// Nothing more is read.
    pub fn stop(&mut self) {
        self.phase = Phase::Refused;
    }

    /// Looks at what has come and was not released yet; what is released is not to be shown again.
    pub fn advance(&mut self, bytes: &[u8]) -> Step {
        let step = match self.phase {
            Phase::Upgrade | Phase::Refused => Step::Hold,
            _ if bytes.is_empty() => Step::More,
            Phase::Head { seen } => self.head(bytes, seen),
            Phase::Length { left } => {
                let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                self.phase = after_length(left - u64::try_from(here).expect("it is not more than `left`"));
                Step::Release(here)
            }
            Phase::Chunked(mut chunked) => match chunked.walk(bytes) {
                Ok(walked) => {
                    self.phase =
                        if chunked == Chunked::Done { Phase::Head { seen: 0 } } else { Phase::Chunked(chunked) };
                    Step::Release(walked)
                }
                Err(refusal) => Step::Refuse(refusal),
            },
        };
        if let Step::Refuse(_) = step {
            self.phase = Phase::Refused;
        }
        step
    }

    fn head(&mut self, bytes: &[u8], seen: usize) -> Step {
        let end = match end_of_head(bytes, seen) {
            Ok(end) => end,
            Err(refusal) => return Step::Refuse(refusal),
        };
        let Some(end) = end else {
            self.phase = Phase::Head { seen: bytes.len() };
            return if bytes.len() >= self.limits.head { Step::Refuse(Refusal::HeadTooLarge) } else { Step::More };
        };
        if end > self.limits.head {
            return Step::Refuse(Refusal::HeadTooLarge);
        }
        match read_head(&bytes[..end], self.limits.fields) {
            Ok(head) => {
                self.phase = match head.body {
                    _ if head.websocket => Phase::Upgrade,
                    Body::Length(left) => after_length(left),
                    Body::Chunked => Phase::Chunked(Chunked::START),
                };
                Step::Release(end)
            }
            Err(refusal) => Step::Refuse(refusal),
        }
    }
}

fn after_length(left: u64) -> Phase {
    if left == 0 { Phase::Head { seen: 0 } } else { Phase::Length { left } }
}

/// Where the empty line behind a head ends, looking on from where was looked before. A line that ends otherwise is told at
/// once: who sends it would wait for ever for what comes behind it.
fn end_of_head(bytes: &[u8], seen: usize) -> Result<Option<usize>, Refusal> {
    let mut from = seen;
    while let Some(found) = memchr::memchr(b'\n', &bytes[from..]) {
        let at = from + found;
        if at == 0 || bytes[at - 1] != b'\r' {
            return Err(Refusal::BareLineEnd);
        }
        if at == 1 {
            return Err(Refusal::RequestLine);
        }
        if bytes[..at].ends_with(b"\n\r") {
            return Ok(Some(at + 1));
        }
        from = at + 1;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { head: 256, fields: 8 };
    const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    #[test]
    fn requests_behind_one_another_are_told_apart() {
        let mut framing = Framing::new(LIMITS);
        let post = "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n";
        let all = format!("{post}abc{GET}");
        assert_eq!(framing.advance(all.as_bytes()), Step::Release(post.len()));
        assert_eq!(framing.advance(&all.as_bytes()[post.len()..]), Step::Release(3));
        assert!(framing.is_between());
        assert_eq!(framing.advance(&all.as_bytes()[post.len() + 3..]), Step::Release(GET.len()));
    }

    #[test]
    fn a_head_is_let_through_as_a_whole() {
        let mut framing = Framing::new(LIMITS);
        for come in 1..GET.len() {
            assert_eq!(framing.advance(&GET.as_bytes()[..come]), Step::More);
            assert!(framing.in_head());
        }
        assert_eq!(framing.advance(GET.as_bytes()), Step::Release(GET.len()));
    }

    #[test]
    fn nothing_behind_an_upgrade_is_read_as_a_request() {
        let mut framing = Framing::new(LIMITS);
        let upgrade = "GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n";
        let all = format!("{upgrade}{GET}");
        assert_eq!(framing.advance(all.as_bytes()), Step::Release(upgrade.len()));
        assert_eq!(framing.advance(GET.as_bytes()), Step::Hold);
    }

    #[test]
    fn nothing_behind_a_refusal_is_read() {
        let mut framing = Framing::new(LIMITS);
        assert_eq!(framing.advance(b"GET / HTTP/1.1\n"), Step::Refuse(Refusal::BareLineEnd));
        assert_eq!(framing.advance(GET.as_bytes()), Step::Hold);
    }

    #[test]
    fn a_head_that_never_ends_is_too_large() {
        let mut framing = Framing::new(LIMITS);
        let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(300));
        assert_eq!(framing.advance(long.as_bytes()), Step::Refuse(Refusal::HeadTooLarge));
        let mut framing = Framing::new(LIMITS);
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(9));
        assert_eq!(framing.advance(many.as_bytes()), Step::Refuse(Refusal::TooManyFields));
    }
}
