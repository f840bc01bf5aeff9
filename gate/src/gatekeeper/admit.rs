//! Whether the head of a request is well-formed and says each thing once: a pure function, the same over HTTP/1 and HTTP/2.
//! Nothing is looked up here, and nobody is asked.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header, request::Parts};

use super::{path::NormalPath, refusal::Refusal};
use crate::authority::{Credential, Scheme};

/// A request that says each thing once.
#[derive(Debug)]
pub struct Admitted<'a> {
    pub authorization: &'a HeaderValue,
    pub credential: Credential<'a>,
    pub path: NormalPath<'a>,
    /// Who is asked, as the client said.
    pub host: &'a str,
    /// It asks for WebSocket.
    pub websocket: bool,
    /// Fields that end here: hop-by-hop ones, and those that only we may set.
    pub strip: Vec<HeaderName>,
}

/// What is taken of a body at most, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct LongestBody(pub u64);

/// Fields and parameters by which frameworks let a request be another than it says.
const METHOD_OVERRIDES: [&str; 4] =
    ["x-http-method-override", "x-http-method", "x-method-override", "x-original-method"];
const PATH_OVERRIDES: [&str; 5] =
    ["x-original-url", "x-original-uri", "x-rewrite-url", "x-forwarded-uri", "x-forwarded-path"];
const METHOD_PARAMETERS: [&str; 4] = ["_method", "x-http-method-override", "x-http-method", "x-method-override"];

/// What `Connection` may name: anything else would have a field taken away on which somebody relies.
const CONNECTION_WORDS: [&str; 6] = ["close", "keep-alive", "te", "upgrade", "http2-settings", "trailer"];

/// What RFC 7235's token68 is of: no comma and no blank, so that two credentials in one field are none.
const TOKEN68: [bool; 256] = {
    let mut letters = [false; 256];
    let mut byte = 0;
    while byte < u8::MAX {
        letters[byte as usize] =
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/');
        byte += 1;
    }
    letters
};

/// Judges a head.
///
/// # Errors
///
/// The first thing that is said twice, unclearly or not at all.
pub fn admit(head: &Parts, longest: LongestBody) -> Result<Admitted<'_>, Refusal> {
    if matches!(head.method, Method::TRACE | Method::CONNECT) {
        return Err(Refusal::MethodForbidden);
    }
    let path = NormalPath::read(head.uri.path())?;
    check_parameters(head.uri.query().unwrap_or_default())?;
    let fields = Fields::read(&head.headers, longest)?;
    let host = host(&head.uri, fields.host, head.version)?;
    let websocket = fields.websocket(head)?;
    let authorization = fields.authorization.ok_or(Refusal::CredentialMissing)?;
    let credential = credential(authorization)?;
    Ok(Admitted { authorization, credential, path, host, websocket, strip: fields.strip })
}

/// Fields that mean something to us.
#[derive(Default)]
struct Fields<'a> {
    host: Option<&'a HeaderValue>,
    authorization: Option<&'a HeaderValue>,
    asks_for_websocket: bool,
    names_upgrade: bool,
    strip: Vec<HeaderName>,
}

impl<'a> Fields<'a> {
    fn read(headers: &'a HeaderMap, longest: LongestBody) -> Result<Self, Refusal> {
        let mut fields = Self::default();
        for (name, value) in headers {
            fields.take(name, value, longest)?;
        }
        Ok(fields)
    }

    fn take(&mut self, name: &'a HeaderName, value: &'a HeaderValue, longest: LongestBody) -> Result<(), Refusal> {
        match *name {
            header::HOST => once(&mut self.host, value, Refusal::HostTwice)?,
            header::AUTHORIZATION => once(&mut self.authorization, value, Refusal::CredentialTwice)?,
            header::CONTENT_LENGTH => check_length(value, longest)?,
            header::EXPECT if !value.as_bytes().eq_ignore_ascii_case(b"100-continue") => {
                return Err(Refusal::ExpectationUnknown);
            }
            header::CONNECTION => self.connection(value)?,
            header::UPGRADE => self.asks_for_websocket |= value.as_bytes().eq_ignore_ascii_case(b"websocket"),
            _ => {}
        }
        let word = name.as_str();
        if METHOD_OVERRIDES.contains(&word) {
            return Err(Refusal::MethodOverridden);
        }
        if PATH_OVERRIDES.contains(&word) {
            return Err(Refusal::PathOverridden);
        }
        if ends_here(word) {
            self.strip.push(name.clone());
        }
        Ok(())
    }

    fn connection(&mut self, value: &HeaderValue) -> Result<(), Refusal> {
        let words = value.to_str().map_err(|_| Refusal::ConnectionField)?;
        for word in words.split(',').map(|word| word.trim_matches([' ', '\t'])).filter(|word| !word.is_empty()) {
            self.names_upgrade |= word.eq_ignore_ascii_case("upgrade");
            if !CONNECTION_WORDS.iter().any(|known| word.eq_ignore_ascii_case(known)) {
                return Err(Refusal::ConnectionField);
            }
        }
        Ok(())
    }

    /// Other upgrades are not granted, and their requests answered as if they did not ask.
    fn websocket(&self, head: &Parts) -> Result<bool, Refusal> {
        if !self.asks_for_websocket {
            return Ok(false);
        }
        let fits = head.method == Method::GET && head.version == Version::HTTP_11 && self.names_upgrade;
        if fits { Ok(true) } else { Err(Refusal::UpgradeMalformed) }
    }
}

fn once<'a>(place: &mut Option<&'a HeaderValue>, value: &'a HeaderValue, twice: Refusal) -> Result<(), Refusal> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(twice),
    }
}

fn check_length(value: &HeaderValue, longest: LongestBody) -> Result<(), Refusal> {
    let length = value.to_str().ok().and_then(|digits| digits.parse::<u64>().ok()).ok_or(Refusal::LengthMalformed)?;
    if length > longest.0 { Err(Refusal::BodyTooLarge) } else { Ok(()) }
}

/// Whether a field is not passed on: it is about this connection alone, it is ours to set, or its name is one that servers
/// which speak CGI cannot tell from another (`X_Netpol_Subject`).
fn ends_here(name: &str) -> bool {
    const ENDS_HERE: [&str; 12] = [
        "connection",
        "expect",
        "forwarded",
        "http2-settings",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-real-ip",
    ];
    let own = |rest: &str| rest.starts_with("netpol-") || rest.starts_with("forwarded-") || rest == "request-id";
    ENDS_HERE.contains(&name)
        || name.strip_prefix("x-").is_some_and(own)
        || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Parameters by which frameworks let a request have another method.
fn check_parameters(query: &str) -> Result<(), Refusal> {
    let overrides = |parameter: &str| {
        let name = parameter.split('=').next().unwrap_or_default();
        METHOD_PARAMETERS.iter().any(|known| spells(name.as_bytes(), known.as_bytes()))
    };
    if query.split(['&', ';']).any(overrides) { Err(Refusal::MethodOverridden) } else { Ok(()) }
}

/// Whether an encoded name is a known one, in any case.
fn spells(mut name: &[u8], known: &[u8]) -> bool {
    for letter in known {
        let (byte, rest) = match *name {
            [b'%', high, low, ref rest @ ..] => {
                let digits = [high, low];
                let byte = std::str::from_utf8(&digits).ok().and_then(|digits| u8::from_str_radix(digits, 16).ok());
                (byte, rest)
            }
            [byte, ref rest @ ..] => (Some(byte), rest),
            [] => return false,
        };
        if !byte.is_some_and(|byte| byte.eq_ignore_ascii_case(letter)) {
            return false;
        }
        name = rest;
    }
    name.is_empty()
}

/// Who is asked: `Host` over HTTP/1, `:authority` over HTTP/2; where both or a whole URL are there, they say the same.
fn host<'a>(uri: &'a Uri, field: Option<&'a HeaderValue>, version: Version) -> Result<&'a str, Refusal> {
    let field = match field {
        Some(value) => Some(value.to_str().map_err(|_| Refusal::HostMalformed)?),
        None => None,
    };
    let host = match (uri.authority().map(|authority| authority.as_str()), field) {
        (Some(target), Some(field)) if !target.eq_ignore_ascii_case(field) => return Err(Refusal::HostConflict),
        (Some(target), None) if version == Version::HTTP_2 => target,
        (_, Some(field)) => field,
        (_, None) => return Err(Refusal::HostMissing),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    if host.is_empty() || !host.bytes().all(plain) { Err(Refusal::HostMalformed) } else { Ok(host) }
}

/// Takes a credential out of the value of `Authorization`.
///
/// # Errors
///
/// Another scheme, or no token.
pub fn credential(value: &HeaderValue) -> Result<Credential<'_>, Refusal> {
    let text = value.to_str().map_err(|_| Refusal::CredentialMalformed)?;
    let (scheme, rest) = text.split_once(' ').ok_or(match text {
        word if word.eq_ignore_ascii_case("bearer") || word.eq_ignore_ascii_case("token") => {
            Refusal::CredentialMalformed
        }
        _ => Refusal::SchemeUnknown,
    })?;
    let rest = rest.trim_matches(' ');
    let (scheme, token) = if scheme.eq_ignore_ascii_case("bearer") {
        (Scheme::Bearer, rest)
    } else if scheme.eq_ignore_ascii_case("token") {
        let quoted = rest.strip_prefix("token=\"").and_then(|rest| rest.strip_suffix('"'));
        (Scheme::Token, quoted.ok_or(Refusal::CredentialMalformed)?)
    } else {
        return Err(Refusal::SchemeUnknown);
    };
    let bare = token.trim_end_matches('=');
    if bare.is_empty() || !bare.bytes().all(|byte| TOKEN68[usize::from(byte)]) {
        return Err(Refusal::CredentialMalformed);
    }
    Ok(Credential { scheme, token })
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    const LONGEST: LongestBody = LongestBody(100);

    fn head(method: &str, uri: &str, fields: &[(&str, &str)]) -> Parts {
        let request = Request::builder().method(method).uri(uri);
        let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.body(()).expect("a request").into_parts().0
    }

    fn with(fields: &[(&str, &str)]) -> Result<Vec<String>, Refusal> {
        let all = [&[("host", "a"), ("authorization", "Bearer t")], fields].concat();
        let head = head("GET", "/", &all);
        admit(&head, LONGEST).map(|admitted| admitted.strip.iter().map(ToString::to_string).collect())
    }

    fn target(method: &str, uri: &str) -> Result<(), Refusal> {
        admit(&head(method, uri, &[("host", "a"), ("authorization", "Bearer t")]), LONGEST).map(drop)
    }

    #[test]
    fn a_plain_request_is_admitted_with_nothing_taken_away() {
        assert_eq!(with(&[("accept", "*/*"), ("cookie", "a=b")]), Ok(Vec::new()));
    }

    #[test]
    fn two_credentials_are_none() {
        assert_eq!(with(&[("authorization", "Bearer t")]), Err(Refusal::CredentialTwice));
        assert_eq!(with(&[("authorization", "Bearer u")]), Err(Refusal::CredentialTwice));
        for value in
            ["Bearer a, Bearer b", "Bearer a b", "Bearer a,b", "Bearer", "Bearer ", "Bearer \"a\"", "Bearer =="]
        {
            assert_eq!(credential(&HeaderValue::from_str(value).expect("a value")), Err(Refusal::CredentialMalformed));
        }
        let basic = HeaderValue::from_static("Basic dTpw");
        assert_eq!(credential(&basic), Err(Refusal::SchemeUnknown));
    }

    #[test]
    fn both_spellings_of_a_token_are_read() {
        let bearer = HeaderValue::from_static("bearer a.b-c_d");
        assert_eq!(credential(&bearer).expect("one").token, "a.b-c_d");
        let conjur = HeaderValue::from_static("Token token=\"eyJ==\"");
        assert_eq!(credential(&conjur), Ok(Credential { scheme: Scheme::Token, token: "eyJ==" }));
    }

    #[test]
    fn who_is_asked_is_said_once() {
        assert_eq!(with(&[("host", "a")]), Err(Refusal::HostTwice));
        assert_eq!(target("GET", "http://b/"), Err(Refusal::HostConflict));
        assert_eq!(target("GET", "http://a/"), Ok(()));
        let missing = head("GET", "/", &[("authorization", "Bearer t")]);
        assert_eq!(admit(&missing, LONGEST).map(drop), Err(Refusal::HostMissing));
    }

    #[test]
    fn a_request_is_what_it_says() {
        for name in ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"] {
            assert_eq!(with(&[(name, "DELETE")]), Err(Refusal::MethodOverridden), "{name}");
        }
        assert_eq!(with(&[("X-Original-URL", "/admin")]), Err(Refusal::PathOverridden));
        for query in ["_method=DELETE", "a=b&_method=PUT", "%5fmethod=PUT", "_Method=PUT", "x-http-method-override=PUT"]
        {
            assert_eq!(target("POST", &format!("/?{query}")), Err(Refusal::MethodOverridden), "{query}");
        }
        assert_eq!(target("POST", "/?my_method=PUT&_methods=1"), Ok(()));
        assert_eq!(target("TRACE", "/"), Err(Refusal::MethodForbidden));
    }

    #[test]
    fn connection_takes_no_field_away_on_which_somebody_relies() {
        for value in ["authorization", "close, x-netpol-subject", "Keep-Alive, Cookie", "x-forwarded-for"] {
            assert_eq!(with(&[("connection", value)]), Err(Refusal::ConnectionField), "{value}");
        }
        assert_eq!(with(&[("connection", "Keep-Alive, TE")]), Ok(vec!["connection".into()]));
    }

    #[test]
    fn what_only_we_may_say_is_taken_away_in_every_spelling() {
        let names = [
            "X-Netpol-Subject",
            "x_netpol_subject",
            "X-Netpol_Source-App",
            "x-netpol-new",
            "X-Request-Id",
            "Forwarded",
            "X-Forwarded-For",
            "X_Forwarded_For",
            "X-Real-IP",
            "X.Netpol.Subject",
            "Content_Length",
        ];
        for name in names {
            assert_eq!(with(&[(name, "user:root")]), Ok(vec![name.to_ascii_lowercase()]), "{name}");
        }
    }

    #[test]
    fn an_upgrade_is_whole_or_refused() {
        let fields = [("upgrade", "websocket"), ("connection", "Upgrade")];
        assert!(with(&fields).is_ok());
        assert_eq!(with(&fields[..1]), Err(Refusal::UpgradeMalformed));
        assert_eq!(
            with(&[("upgrade", "h2c"), ("connection", "Upgrade, HTTP2-Settings")]).map(|strip| strip.len()),
            Ok(2)
        );
    }

    #[test]
    fn a_body_that_is_too_long_is_refused_before_it_comes() {
        assert_eq!(with(&[("content-length", "100")]), Ok(Vec::new()));
        assert_eq!(with(&[("content-length", "101")]), Err(Refusal::BodyTooLarge));
    }
}
