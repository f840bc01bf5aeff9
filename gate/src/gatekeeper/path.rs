//! Paths that every reader reads alike: whatever has two spellings is refused rather than tidied up, because whoever stands
//! behind might tidy up otherwise.

use std::borrow::Cow;

use super::refusal::Refusal;

/// A path in its one spelling, as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NormalPath<'a>(&'a str);

impl<'a> NormalPath<'a> {
    /// Takes a path as a request has it, without its query.
    ///
    /// # Errors
    ///
    /// `.` and `..`, empty segments but for the last, `\`, `;`, what is encoded though it means itself or something else than
    /// its letter (`%2e`, `%2f`, `%5c`, `%3b`, `%25`, control characters), and `%` before anything else than two digits.
    pub fn read(path: &'a str) -> Result<Self, Refusal> {
        if !path.starts_with('/') {
            return Err(Refusal::TargetMalformed);
        }
        let mut segments = path[1..].split('/').peekable();
        while let Some(segment) = segments.next() {
            let is_last = segments.peek().is_none();
            if matches!(segment, "." | "..") || (segment.is_empty() && !is_last) {
                return Err(Refusal::PathNotNormal);
            }
            check_letters(segment.as_bytes())?;
        }
        Ok(Self(path))
    }

    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// What it says, by which rules are matched.
    pub fn decoded(self) -> Cow<'a, [u8]> {
        let bytes = self.0.as_bytes();
        if !bytes.contains(&b'%') {
            return Cow::Borrowed(bytes);
        }
        let mut decoded = Vec::with_capacity(bytes.len());
        let mut at = 0;
        while at < bytes.len() {
            match (bytes[at], encoded(&bytes[at..])) {
                (b'%', Some(byte)) => {
                    decoded.push(byte);
                    at += 3;
                }
                (byte, _) => {
                    decoded.push(byte);
                    at += 1;
                }
            }
        }
        Cow::Owned(decoded)
    }
}

fn check_letters(segment: &[u8]) -> Result<(), Refusal> {
    let mut at = 0;
    while at < segment.len() {
        match segment[at] {
            b'\\' | b';' => return Err(Refusal::PathNotNormal),
            b'%' => {
                let byte = encoded(&segment[at..]).ok_or(Refusal::PathNotNormal)?;
                if byte.is_ascii_control() || matches!(byte, b'/' | b'\\' | b'.' | b';' | b'%') {
                    return Err(Refusal::PathNotNormal);
                }
                at += 3;
            }
            _ => at += 1,
        }
    }
    Ok(())
}

/// The byte that `%XY` at the beginning stands for.
fn encoded(bytes: &[u8]) -> Option<u8> {
    let &[b'%', high, low, ..] = bytes else { return None };
    let digit = |letter: u8| char::from(letter).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? * 16 + digit(low)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_in_its_shortest_form_is_taken_as_it_is() {
        for path in ["/", "/a", "/a/", "/a/b.c", "/.well-known/x", "/a/..b/...", "/%e2%82%ac", "/a%20b", "/~u/a:b@c,d"]
        {
            assert_eq!(NormalPath::read(path).map(NormalPath::as_str), Ok(path));
        }
    }

    #[test]
    fn what_has_two_spellings_is_refused() {
        let paths = [
            "/a/../b",
            "/..",
            "/a/.",
            "/./a",
            "//a",
            "/a//b",
            "/a//",
            "/a\\b",
            "/a;x=1",
            "/a/%2e%2e/b",
            "/%2E",
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a%00",
            "/a%0d%0ab",
            "/a%7f",
            "/a%3bb",
            "/a%252e",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a%u002f",
        ];
        for path in paths {
            assert_eq!(NormalPath::read(path), Err(Refusal::PathNotNormal), "{path}");
        }
        for path in ["", "a", "*", "http://a/"] {
            assert_eq!(NormalPath::read(path), Err(Refusal::TargetMalformed), "{path}");
        }
    }

    #[test]
    fn rules_see_what_is_meant() {
        let path = NormalPath::read("/%61dmin/a%20b").expect("normal");
        assert_eq!(path.decoded().as_ref(), b"/admin/a b");
    }

    proptest! {
        #[test]
        fn what_is_taken_says_the_same_to_who_decodes_and_then_tidies_up(path in "/[a./%25ef;\\\\0-]{0,12}") {
            if let Ok(normal) = NormalPath::read(&path) {
                let decoded = normal.decoded();
                prop_assert_eq!(decoded.iter().filter(|&&byte| byte == b'/').count(), path.matches('/').count());
                let inner = decoded.strip_suffix(b"/").unwrap_or(&decoded);
                for segment in inner.split(|&byte| byte == b'/').skip(1) {
                    prop_assert!(!matches!(segment, b"" | b"." | b".."), "{}", path);
                }
                prop_assert!(!decoded.contains(&b'\\') && !decoded.contains(&0), "{}", path);
            }
        }
    }
}
