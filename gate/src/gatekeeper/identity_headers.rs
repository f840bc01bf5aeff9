//! What the upstream sees of a request: fields that end here taken away, and those that only we may set put in their place.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::authority::Permit;

pub(crate) const SUBJECT: HeaderName = HeaderName::from_static("x-netpol-subject");
pub(crate) const SOURCE_APP: HeaderName = HeaderName::from_static("x-netpol-source-app");
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Who is connected, as every request of the connection says it.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Its address without a port, or `unix`.
    pub(crate) address: HeaderValue,
    /// `http` or `https`.
    pub(crate) protocol: HeaderValue,
}

/// Numbers that name requests and traces: they have to differ, not to be secret.
pub(crate) struct Names(fastrand::Rng);

/// A request's own number.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(pub(crate) HeaderValue);

impl Names {
    /// Begins where nobody else does.
    pub(crate) fn new() -> Result<Self, getrandom::Error> {
        let mut seed = [0; 8];
        getrandom::fill(&mut seed)?;
        Ok(Self(fastrand::Rng::with_seed(u64::from_ne_bytes(seed))))
    }

    pub(crate) fn request_id(&mut self) -> RequestId {
        RequestId(hexadecimal(self.number()))
    }

    /// Not 0, which W3C's trace context has for "none".
    fn number(&mut self) -> u128 {
        self.0.u128(1..)
    }

    fn traceparent(&mut self) -> HeaderValue {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_digits(&mut text[3..35], &self.number().to_be_bytes());
        write_digits(&mut text[36..52], &self.0.u64(1..).to_be_bytes());
        value(Bytes::copy_from_slice(&text))
    }
}

/// 32 lower-case digits.
fn hexadecimal(number: u128) -> HeaderValue {
    let mut text = [0; 32];
    write_digits(&mut text, &number.to_be_bytes());
    value(Bytes::copy_from_slice(&text))
}

/// Two lower-case digits for each byte.
fn write_digits(text: &mut [u8], bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (place, byte) in text.chunks_exact_mut(2).zip(bytes) {
        place[0] = DIGITS[usize::from(byte >> 4)];
        place[1] = DIGITS[usize::from(byte & 15)];
    }
}

fn value(text: Bytes) -> HeaderValue {
    HeaderValue::from_maybe_shared(text).expect("digits and dashes fit a header")
}

/// Takes away what ends here, and says who asks.
pub(crate) fn rewrite(headers: &mut HeaderMap, told: &Told<'_>, names: &mut Names) {
    for name in told.strip {
        headers.remove(name);
    }
    if !told.pass_authorization {
        headers.remove(header::AUTHORIZATION);
    }
    headers.insert(SUBJECT, told.permit.subject.as_header().clone());
    if let Some(app) = &told.permit.source_app {
        headers.insert(SOURCE_APP, app.as_header().clone());
    }
    headers.insert(REQUEST_ID, told.request_id.0.clone());
    headers.insert(FORWARDED_FOR, told.peer.address.clone());
    headers.insert(FORWARDED_PROTO, told.peer.protocol.clone());
    if let Some(host) = headers.get(header::HOST).cloned() {
        headers.insert(FORWARDED_HOST, host);
    }
    if !goes_on(headers) {
        headers.insert(TRACEPARENT, names.traceparent());
        headers.remove(TRACESTATE);
    }
}

/// What a request is told to its upstream with.
pub(crate) struct Told<'a> {
    pub(crate) strip: &'a [HeaderName],
    pub(crate) pass_authorization: bool,
    pub(crate) permit: &'a Permit,
    pub(crate) request_id: &'a RequestId,
    pub(crate) peer: &'a Peer,
}

/// Whether a trace was begun that can go on: one `traceparent` of W3C's form.
fn goes_on(headers: &HeaderMap) -> bool {
    let mut all = headers.get_all(TRACEPARENT).iter();
    match (all.next(), all.next()) {
        (Some(value), None) => is_traceparent(value.as_bytes()),
        _ => false,
    }
}

fn is_traceparent(text: &[u8]) -> bool {
    let digits = |part: &[u8]| part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let number = |part: &[u8]| digits(part) && part.iter().any(|&byte| byte != b'0');
    let dashes = text.len() == 55 && text[2] == b'-' && text[35] == b'-' && text[52] == b'-';
    dashes && &text[..2] == b"00" && number(&text[3..35]) && number(&text[36..52]) && digits(&text[53..])
}

/// Takes away from an answer what was about the connection to the upstream alone.
pub(crate) fn rewrite_answer(headers: &mut HeaderMap, request_id: &RequestId) {
    const ENDS_HERE: [HeaderName; 5] = [
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
        header::TE,
    ];
    if headers.contains_key(header::CONNECTION) {
        for name in named_by_connection(headers) {
            headers.remove(name);
        }
        headers.remove(header::CONNECTION);
    }
    for name in &ENDS_HERE {
        if headers.contains_key(name) {
            headers.remove(name);
        }
    }
    headers.insert(REQUEST_ID, request_id.0.clone());
}

fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    // What nearly all say, and what names no field.
    let usual = |word: &&str| word.eq_ignore_ascii_case("keep-alive") || word.eq_ignore_ascii_case("close");
    let lines = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let words = lines.flat_map(|line| line.split(',')).map(str::trim).filter(|word| !usual(word));
    let essential = [header::CONTENT_LENGTH, header::CONTENT_TYPE];
    words.filter_map(|word| word.parse().ok()).filter(|name| !essential.contains(name)).collect()
}

/// Over HTTP/2 a cookie may come in pieces; over HTTP/1 it is one.
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    let mut pieces = headers.get_all(header::COOKIE).iter();
    if pieces.next().is_none() || pieces.next().is_none() {
        return;
    }
    let all: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    let joined = HeaderValue::from_maybe_shared(Bytes::from(all.join(&b"; "[..])));
    headers.insert(header::COOKIE, joined.expect("what fitted in pieces fits joined"));
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn rewritten(fields: &[(&'static str, &'static str)], strip: &[HeaderName], pass_authorization: bool) -> HeaderMap {
        let mut headers: HeaderMap = fields
            .iter()
            .map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        let mut names = Names::new().expect("the kernel has randomness");
        let permit =
            Permit::new("app:web".parse().expect("a subject"), Some("web".parse().expect("an app")), Instant::now());
        let peer = Peer { address: HeaderValue::from_static("192.0.2.7"), protocol: HeaderValue::from_static("https") };
        let request_id = names.request_id();
        let told = Told { strip, pass_authorization, permit: &permit, request_id: &request_id, peer: &peer };
        rewrite(&mut headers, &told, &mut names);
        headers
    }

    #[test]
    fn the_upstream_is_told_who_asks_and_not_the_token() {
        let fields = [("host", "a"), ("authorization", "Bearer t"), ("x-netpol-subject", "user:root")];
        let seen = rewritten(&fields, &[SUBJECT], false);
        assert_eq!(seen[SUBJECT], "app:web");
        assert_eq!(seen.get_all(SUBJECT).iter().count(), 1);
        assert_eq!(seen[SOURCE_APP], "web");
        assert_eq!(seen[FORWARDED_FOR], "192.0.2.7");
        assert_eq!(seen[FORWARDED_PROTO], "https");
        assert_eq!(seen[FORWARDED_HOST], "a");
        assert_eq!(seen[REQUEST_ID].len(), 32);
        assert!(!seen.contains_key(header::AUTHORIZATION));
        assert_eq!(rewritten(&fields, &[], true)[header::AUTHORIZATION], "Bearer t");
    }

    #[test]
    fn a_trace_goes_on_or_begins_anew() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let seen = rewritten(&[("traceparent", parent), ("tracestate", "a=1")], &[], false);
        assert_eq!(
            (&seen[TRACEPARENT], &seen[TRACESTATE]),
            (&parent.parse().expect("a value"), &"a=1".parse().expect("a value"))
        );
        for broken in ["00-0-0-00", "zz", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"] {
            let seen = rewritten(&[("traceparent", broken), ("tracestate", "a=1")], &[], false);
            assert!(is_traceparent(seen[TRACEPARENT].as_bytes()), "{seen:?}");
            assert!(!seen.contains_key(TRACESTATE));
        }
        assert!(is_traceparent(rewritten(&[], &[], false)[TRACEPARENT].as_bytes()));
    }

    #[test]
    fn a_cookie_in_pieces_becomes_one() {
        let mut headers = HeaderMap::new();
        for piece in ["a=1", "b=2"] {
            headers.append(header::COOKIE, HeaderValue::from_static(piece));
        }
        join_cookies(&mut headers);
        assert_eq!(headers[header::COOKIE], "a=1; b=2");
        assert_eq!(headers.get_all(header::COOKIE).iter().count(), 1);
    }

    #[test]
    fn an_answer_is_not_about_the_connection_behind() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, x-inner, content-length"),
            ("x-inner", "1"),
            ("keep-alive", "timeout=5"),
            ("content-length", "4"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        rewrite_answer(&mut headers, &Names::new().expect("randomness").request_id());
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-length", "x-request-id"]);
    }
}
