//! The head of a request over HTTP/1, judged as bytes: a pure function, stricter than the grammar where the grammar leaves a
//! choice.

use super::super::refusal::Refusal;

/// What a head says about what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub body: Body,
    /// It asks for WebSocket: what follows is no HTTP, if it is granted.
    pub websocket: bool,
}

/// How long the body is that follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// So many bytes; 0 where there is none.
    Length(u64),
    Chunked,
}

/// Reads a whole head, its last empty line included.
///
/// # Errors
///
/// Whatever two readers could read in two ways.
pub fn read_head(bytes: &[u8], most_fields: usize) -> Result<Head, Refusal> {
    let mut lines = Lines(bytes);
    let first = lines.next().ok_or(Refusal::RequestLine)??;
    let version = request_line(first)?;
    let mut fields = Fields::default();
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        fields.count += 1;
        if fields.count > most_fields {
            return Err(Refusal::TooManyFields);
        }
        let (name, value) = field(line)?;
        fields.take(name, value, version)?;
    }
    fields.head()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
}

/// The fields that say where a request ends.
#[derive(Default)]
struct Fields {
    count: usize,
    length: Option<u64>,
    chunked: bool,
    websocket: bool,
}

impl Fields {
    fn take(&mut self, name: &[u8], value: &[u8], version: Version) -> Result<(), Refusal> {
        if name.eq_ignore_ascii_case(b"content-length") {
            if self.length.is_some() {
                return Err(Refusal::LengthTwice);
            }
            self.length = Some(length(value)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.chunked || version == Version::Http10 || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Refusal::EncodingUnknown);
            }
            self.chunked = true;
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            self.websocket |= value.eq_ignore_ascii_case(b"websocket");
        }
        Ok(())
    }

    fn head(self) -> Result<Head, Refusal> {
        let body = match (self.length, self.chunked) {
            (Some(_), true) => return Err(Refusal::LengthAndEncoding),
            (Some(length), false) => Body::Length(length),
            (None, true) => Body::Chunked,
            (None, false) => Body::Length(0),
        };
        if self.websocket && body != Body::Length(0) {
            return Err(Refusal::UpgradeMalformed);
        }
        Ok(Head { body, websocket: self.websocket })
    }
}

/// Lines that end by CR LF, and by nothing else.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = Result<&'a [u8], Refusal>;

    fn next(&mut self) -> Option<Self::Item> {
        let end = memchr::memchr(b'\n', self.0)?;
        let (line, rest) = self.0.split_at(end);
        self.0 = &rest[1..];
        Some(line.strip_suffix(b"\r").ok_or(Refusal::BareLineEnd))
    }
}

fn request_line(line: &[u8]) -> Result<Version, Refusal> {
    let mut words = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Refusal::RequestLine);
    };
    if method.is_empty() || !method.iter().all(|&byte| is_token(byte)) {
        return Err(Refusal::RequestLine);
    }
    check_target(target)?;
    match version {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        _ if version.starts_with(b"HTTP/") => Err(Refusal::Version),
        _ => Err(Refusal::RequestLine),
    }
}

/// A path, `*`, or a URL whose host is plain. A fragment would be cut off without a word by who parses it.
fn check_target(target: &[u8]) -> Result<(), Refusal> {
    let allowed =
        |byte: &u8| matches!(byte, 0x21 | 0x24..=0x3b | 0x3d | 0x3f..=0x5b | 0x5d | 0x5f | 0x61..=0x7a | 0x7c | 0x7e);
    if target.is_empty() || !target.iter().all(|byte| allowed(byte) || *byte == b'\\') {
        return Err(Refusal::TargetMalformed);
    }
    if target == b"*" || target[0] == b'/' {
        return Ok(());
    }
    let rest = target.strip_prefix(b"http://").or_else(|| target.strip_prefix(b"https://"));
    let host = rest.and_then(|rest| rest.split(|byte| b"/?".contains(byte)).next());
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(byte);
    match host {
        Some(host) if !host.is_empty() && host.iter().all(plain) => Ok(()),
        _ => Err(Refusal::TargetMalformed),
    }
}

fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    if matches!(line[0], b' ' | b'\t') {
        return Err(Refusal::FoldedField);
    }
    let colon = memchr::memchr(b':', line).ok_or(Refusal::FieldName)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || !name.iter().all(|&byte| is_token(byte)) {
        return Err(Refusal::FieldName);
    }
    if value.contains(&b'\r') {
        return Err(Refusal::BareLineEnd);
    }
    if !value.iter().all(|&byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f)) {
        return Err(Refusal::FieldValue);
    }
    Ok((name, value.trim_ascii()))
}

/// A decimal number, and no sign, blank or second number.
fn length(value: &[u8]) -> Result<u64, Refusal> {
    const MOST_DIGITS: usize = 18;
    if value.is_empty() || value.len() > MOST_DIGITS || !value.iter().all(u8::is_ascii_digit) {
        return Err(Refusal::LengthMalformed);
    }
    Ok(value.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

/// RFC 9110 5.6.2.
pub(super) fn is_token(byte: u8) -> bool {
    const MARKS: &[u8] = b"!#$%&'*+-.^_`|~";
    const TOKEN: [bool; 256] = {
        let mut table = [false; 256];
        let mut letter = 0_u8;
        while letter < 128 {
            table[letter as usize] = letter.is_ascii_alphanumeric();
            letter += 1;
        }
        let mut mark = 0;
        while mark < MARKS.len() {
            table[MARKS[mark] as usize] = true;
            mark += 1;
        }
        table
    };
    TOKEN[usize::from(byte)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Head, Refusal> {
        read_head(text.as_bytes(), 100)
    }

    fn fields(fields: &str) -> Result<Head, Refusal> {
        read(&format!("POST /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
    }

    #[test]
    fn a_plain_head_says_how_long_its_body_is() {
        assert_eq!(fields(""), Ok(Head { body: Body::Length(0), websocket: false }));
        assert_eq!(fields("Content-Length: 12\r\n").expect("plain").body, Body::Length(12));
        assert_eq!(fields("transfer-encoding: Chunked\r\n").expect("plain").body, Body::Chunked);
    }

    #[test]
    fn two_ends_of_one_request_are_refused() {
        assert_eq!(fields("Content-Length: 4\r\nContent-Length: 4\r\n"), Err(Refusal::LengthTwice));
        assert_eq!(fields("Content-Length: 4, 4\r\n"), Err(Refusal::LengthMalformed));
        assert_eq!(fields("Content-Length: +4\r\n"), Err(Refusal::LengthMalformed));
        assert_eq!(fields("Content-Length:\r\n"), Err(Refusal::LengthMalformed));
        assert_eq!(fields("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"), Err(Refusal::LengthAndEncoding));
        for encoding in ["gzip, chunked", "chunked, identity", "identity", "xchunked", "chunked\u{b}", "\"chunked\""] {
            assert!(fields(&format!("Transfer-Encoding: {encoding}\r\n")).is_err(), "{encoding:?}");
        }
        let twice = fields("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n");
        assert_eq!(twice, Err(Refusal::EncodingUnknown));
        assert_eq!(read("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), Err(Refusal::EncodingUnknown));
    }

    #[test]
    fn lines_end_one_way() {
        assert_eq!(read("GET / HTTP/1.1\nHost: a\n\n"), Err(Refusal::BareLineEnd));
        assert_eq!(fields("X: a\rY: b\r\n"), Err(Refusal::BareLineEnd));
        assert_eq!(fields("X: a\r\n b\r\n"), Err(Refusal::FoldedField));
        assert_eq!(fields("X: a\0b\r\n"), Err(Refusal::FieldValue));
    }

    #[test]
    fn a_name_has_no_blanks() {
        for name in ["Content-Length ", " X", "X\t", "", "X(y)"] {
            assert!(fields(&format!("{name}: 1\r\n")).is_err(), "{name:?}");
        }
        assert_eq!(fields("no colon\r\n"), Err(Refusal::FieldName));
    }

    #[test]
    fn the_first_line_has_three_words() {
        for line in ["GET /", "GET  / HTTP/1.1", "GET / HTTP/1.1 ", "GET\t/ HTTP/1.1", " GET / HTTP/1.1", "GET / x"] {
            assert_eq!(read(&format!("{line}\r\n\r\n")), Err(Refusal::RequestLine), "{line:?}");
        }
        assert_eq!(read("GET / HTTP/2.0\r\n\r\n"), Err(Refusal::Version));
        for target in ["/a#b", "a", "/a\u{e9}", "/a\"b", "ftp://a/", "http://u@a/", "http:///"] {
            assert_eq!(read(&format!("GET {target} HTTP/1.1\r\n\r\n")), Err(Refusal::TargetMalformed), "{target:?}");
        }
    }

    #[test]
    fn an_upgrade_has_no_body() {
        assert!(fields("Upgrade: websocket\r\n").expect("plain").websocket);
        assert!(!fields("Upgrade: h2c\r\n").expect("plain").websocket);
        assert_eq!(fields("Upgrade: websocket\r\nContent-Length: 3\r\n"), Err(Refusal::UpgradeMalformed));
    }
}
