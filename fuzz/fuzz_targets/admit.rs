//! Heads of requests: whatever they say, one that is admitted has one host, one credential and a path with one spelling.
#![no_main]

use gate::gatekeeper::{LongestBody, admit};
use http::{Request, Version};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut lines = bytes.split(|&byte| byte == b'\n');
    let (Some(method), Some(target)) = (lines.next(), lines.next()) else { return };
    let mut request = Request::builder().method(method).uri(target);
    if bytes.len() % 2 == 0 {
        request = request.version(Version::HTTP_2);
    }
    for line in lines {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        request = request.header(&line[..colon], line[colon + 1..].trim_ascii());
    }
    let Ok(request) = request.body(()) else { return };
    let (head, ()) = request.into_parts();
    let Ok(admitted) = admit(&head, LongestBody(1_000)) else { return };
    assert_eq!(head.headers.get_all("authorization").iter().count(), 1);
    assert!(head.headers.get_all("host").iter().count() <= 1);
    assert!(!admitted.host.is_empty());
    assert!(admitted.credential.token.bytes().all(|byte| byte.is_ascii_graphic() && byte != b','));
    let decoded = admitted.path.decoded();
    let inner = decoded.strip_suffix(b"/").unwrap_or(&decoded);
    for segment in inner.split(|&byte| byte == b'/').skip(1) {
        assert!(!matches!(segment, b"" | b"." | b".."), "{:?}", admitted.path);
    }
    assert!(!decoded.iter().any(|byte| byte.is_ascii_control() || matches!(byte, b'\\' | b';')));
    for name in head.headers.keys().map(http::HeaderName::as_str) {
        if name.starts_with("x-netpol-") || name.contains('_') {
            assert!(admitted.strip.iter().any(|strip| strip == name), "{name} would be passed on");
        }
    }
});
