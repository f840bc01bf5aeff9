//! A chunked body, walked as bytes as they come: sizes are plain, nothing is said beside them, and every line ends by CR LF.

use super::super::refusal::Refusal;
use super::head::is_token;

/// Where in a chunked body we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunked {
    /// In the digits of a size; so many were there.
    Size {
        size: u64,
        digits: u8,
    },
    /// Behind the CR of a size.
    SizeEnd {
        size: u64,
    },
    /// Within a chunk, so many bytes before its end.
    Data {
        left: u64,
    },
    /// Before the CR behind a chunk.
    DataEnd,
    /// Behind it.
    DataEndLine,
    /// At the start of a line of the trailer.
    Trailer {
        length: u16,
    },
    /// Within a name there.
    TrailerName {
        length: u16,
    },
    /// Within a value there.
    TrailerValue {
        length: u16,
    },
    /// Behind the CR of a value.
    TrailerLine {
        length: u16,
    },
    /// Behind the CR of the last empty line.
    Last,
    Done,
}

/// A size that nobody sends, and that no sum overflows.
const MOST_DIGITS: u8 = 15;
/// Bytes of a trailer: as it is dropped, it need not be long.
const LONGEST_TRAILER: u16 = 8_192;

impl Chunked {
    pub(super) const START: Self = Self::Size { size: 0, digits: 0 };

    /// Walks as far as the bytes go or the body ends, and says how many bytes that are.
    pub(super) fn walk(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        let mut at = 0;
        while at < bytes.len() && *self != Self::Done {
            if let Self::Data { left } = *self {
                let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - at);
                let left = left - u64::try_from(here).expect("it is not more than `left`");
                *self = if left == 0 { Self::DataEnd } else { Self::Data { left } };
                at += here;
                continue;
            }
            *self = self.step(bytes[at])?;
            at += 1;
        }
        Ok(at)
    }

    fn step(self, byte: u8) -> Result<Self, Refusal> {
        match (self, byte) {
            (Self::Size { digits: 1.., size }, b'\r') => Ok(Self::SizeEnd { size }),
            (Self::Size { digits: 1.., .. }, b';' | b' ' | b'\t') => Err(Refusal::ChunkExtension),
            (Self::Size { size, digits }, _) => digit(size, digits, byte),
            (Self::SizeEnd { size: 0 }, b'\n') => Ok(Self::Trailer { length: 0 }),
            (Self::SizeEnd { size }, b'\n') => Ok(Self::Data { left: size }),
            (Self::DataEnd, b'\r') => Ok(Self::DataEndLine),
            (Self::DataEndLine, b'\n') => Ok(Self::START),
            (Self::Last, b'\n') => Ok(Self::Done),
            (Self::Trailer { length: 0 }, b'\r') | (Self::Trailer { .. }, b'\r') => Ok(Self::Last),
            (Self::TrailerLine { length }, b'\n') => Ok(Self::Trailer { length }),
            (Self::Trailer { length } | Self::TrailerName { length }, _) if is_token(byte) => {
                longer(length).map(|length| Self::TrailerName { length })
            }
            (Self::TrailerName { length }, b':') => Ok(Self::TrailerValue { length }),
            (Self::TrailerValue { length }, b'\r') => Ok(Self::TrailerLine { length }),
            (Self::TrailerValue { length }, b'\t' | b' '..=b'~' | 0x80..) => {
                longer(length).map(|length| Self::TrailerValue { length })
            }
            _ => Err(Refusal::ChunkMalformed),
        }
    }
}

fn digit(size: u64, digits: u8, byte: u8) -> Result<Chunked, Refusal> {
    let value = match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        b'A'..=b'F' => byte - b'A' + 10,
        _ => return Err(Refusal::ChunkMalformed),
    };
    if digits == MOST_DIGITS {
        return Err(Refusal::ChunkMalformed);
    }
    Ok(Chunked::Size { size: size * 16 + u64::from(value), digits: digits + 1 })
}

fn longer(length: u16) -> Result<u16, Refusal> {
    if length == LONGEST_TRAILER { Err(Refusal::HeadTooLarge) } else { Ok(length + 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All at once and byte by byte are the same.
    fn walk(body: &str) -> Result<usize, Refusal> {
        let mut whole = Chunked::START;
        let at_once = whole.walk(body.as_bytes());
        let mut piecewise = Chunked::START;
        let mut walked = Ok(0);
        for byte in body.bytes() {
            walked = walked.and_then(|sum| Ok(sum + piecewise.walk(&[byte])?));
        }
        assert_eq!(at_once, walked, "{body:?}");
        at_once
    }

    #[test]
    fn a_body_ends_where_its_last_line_does() {
        assert_eq!(walk("5\r\nhello\r\n0\r\n\r\nGET"), Ok(15));
        assert_eq!(walk("A\r\n0123456789\r\n00\r\nX-Sum: 1\r\n\r\n"), Ok(31));
    }

    #[test]
    fn extensions_are_refused() {
        assert_eq!(walk("5;a=b\r\nhello\r\n"), Err(Refusal::ChunkExtension));
        assert_eq!(walk("5 \r\nhello\r\n"), Err(Refusal::ChunkExtension));
        assert_eq!(walk("0;x\r\n\r\n"), Err(Refusal::ChunkExtension));
    }

    #[test]
    fn whatever_is_no_size_and_no_end_of_a_line_is_refused() {
        let bodies = [
            "5\nhello\r\n0\r\n\r\n",
            "\r\n",
            "0x5\r\n",
            "-1\r\n",
            "5\r\nhelloX\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "ffffffffffffffff\r\n",
            "0\r\n\n",
            "0\r\n folded\r\n\r\n",
            "0\r\nX y: 1\r\n\r\n",
            "0\r\nX: a\rb\r\n\r\n",
        ];
        for body in bodies {
            assert_eq!(walk(body), Err(Refusal::ChunkMalformed), "{body:?}");
        }
    }
}
