//! What belongs to one connection and not to the message (RFC 9110, 7.6.1): it is not passed on, in either direction.

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Those that never pass, named by nobody.
const ALWAYS: [HeaderName; 5] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];
const ALSO: [&str; 3] = ["keep-alive", "proxy-connection", "proxy-status"];

/// What a message is to become on this connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Upgrade(Option<HeaderValue>);

impl Upgrade {
    pub(super) fn is_wanted(&self) -> bool {
        self.0.is_some()
    }

    /// Puts it back, for the next connection.
    pub(super) fn restore(self, headers: &mut HeaderMap) {
        if let Some(protocol) = self.0 {
            headers.insert(header::UPGRADE, protocol);
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        }
    }
}

/// Takes out what belongs to the connection that a message came by; returns which protocol it is to change to, if any.
pub(super) fn strip(headers: &mut HeaderMap) -> Upgrade {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let upgrade = headers.get(header::UPGRADE).filter(|_| named.contains(&header::UPGRADE)).cloned();
    let takes_trailers = headers.get(header::TE).is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    for name in named.iter().filter(|name| !is_end_to_end(name)).chain(&ALWAYS) {
        headers.remove(name);
    }
    for name in ALSO {
        headers.remove(name);
    }
    headers.remove(header::TE);
    if takes_trailers {
        // Between two connections of which each takes them; gRPC asks for it.
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    Upgrade(upgrade)
}

/// What nobody can have taken out by naming it: who a request is for and who it is of.
fn is_end_to_end(name: &HeaderName) -> bool {
    [header::HOST, header::AUTHORIZATION, header::CONTENT_LENGTH, header::COOKIE].contains(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn what_belongs_to_the_connection_is_taken_out() {
        let mut message = headers(&[
            ("connection", "close, X-Mine, authorization"),
            ("keep-alive", "timeout=5"),
            ("proxy-authorization", "Basic c2VjcmV0"),
            ("proxy-connection", "keep-alive"),
            ("x-mine", "1"),
            ("x-yours", "2"),
            ("authorization", "Bearer mine"),
            ("te", "gzip"),
        ]);
        assert!(!strip(&mut message).is_wanted());
        assert_eq!(message, headers(&[("x-yours", "2"), ("authorization", "Bearer mine")]));
    }

    #[test]
    fn a_change_of_protocol_is_wanted_where_the_connection_names_it() {
        let mut message = headers(&[("connection", "Upgrade"), ("upgrade", "websocket"), ("te", "trailers")]);
        let upgrade = strip(&mut message);
        assert!(upgrade.is_wanted());
        assert_eq!(message, headers(&[("te", "trailers")]));
        upgrade.restore(&mut message);
        assert_eq!(message.get("upgrade").map(HeaderValue::as_bytes), Some(&b"websocket"[..]));
        let mut unnamed = headers(&[("upgrade", "h2c")]);
        assert!(!strip(&mut unnamed).is_wanted() && unnamed.is_empty());
    }
}
