//! Every reason for which a request is not passed on, and the one place where each is given its status and its words.
//!
//! An answer is problem+json, never a redirect and never HTML; where a token would help, it says so in `WWW-Authenticate`.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use thiserror::Error;

use crate::authority::{Denial, Outage};

/// Why a request is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[error("{}", self.detail())]
pub enum Refusal {
    /// The head of a request over HTTP/1 is no head.
    BareLineEnd,
    FoldedField,
    RequestLine,
    Version,
    FieldName,
    FieldValue,
    /// Where a body ends is said twice, or unclearly.
    LengthTwice,
    LengthMalformed,
    LengthAndEncoding,
    EncodingUnknown,
    ChunkMalformed,
    ChunkExtension,
    /// More than is taken.
    HeadTooLarge,
    TooManyFields,
    BodyTooLarge,
    /// Slower than is waited for.
    HeadTimedOut,
    BodyTimedOut,
    /// Who or what is asked for is said twice, or unclearly.
    HostMissing,
    HostTwice,
    HostMalformed,
    HostConflict,
    TargetMalformed,
    PathNotNormal,
    MethodForbidden,
    MethodOverridden,
    PathOverridden,
    ConnectionField,
    UpgradeMalformed,
    ExpectationUnknown,
    /// Who asks is not said, or unclearly.
    CredentialMissing,
    CredentialTwice,
    CredentialMalformed,
    SchemeUnknown,
    /// Nothing says which privilege the request takes.
    NoPrivilege,
    Denied(Denial),
    Unavailable(Outage),
    /// What stands behind us.
    NotReady,
    UpstreamUnreachable,
    UpstreamBroken,
    UpstreamTimedOut,
}

/// What a client is told.
#[derive(Serialize)]
struct Problem {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'static str,
    reason: &'static str,
}

/// Seconds after which somebody may ask again where it is not for him to change anything.
const RETRY_AFTER: &str = "1";

/// What a client is asked to prove itself with.
const CHALLENGE: &str = "Bearer";
const CHALLENGE_INVALID: &str = "Bearer error=\"invalid_token\"";
const CHALLENGE_PRIVILEGE: &str = "Bearer error=\"insufficient_scope\"";

impl Refusal {
    pub fn status(self) -> StatusCode {
        match self {
            Self::BareLineEnd | Self::FoldedField | Self::RequestLine | Self::Version | Self::FieldName => {
                StatusCode::BAD_REQUEST
            }
            Self::FieldValue | Self::LengthTwice | Self::LengthMalformed | Self::LengthAndEncoding => {
                StatusCode::BAD_REQUEST
            }
            Self::EncodingUnknown | Self::ChunkMalformed | Self::ChunkExtension => StatusCode::BAD_REQUEST,
            Self::HostMissing | Self::HostTwice | Self::HostMalformed | Self::HostConflict => StatusCode::BAD_REQUEST,
            Self::TargetMalformed | Self::PathNotNormal | Self::MethodForbidden => StatusCode::BAD_REQUEST,
            Self::MethodOverridden | Self::PathOverridden | Self::ConnectionField => StatusCode::BAD_REQUEST,
            Self::UpgradeMalformed | Self::CredentialTwice => StatusCode::BAD_REQUEST,
            Self::ExpectationUnknown => StatusCode::EXPECTATION_FAILED,
            Self::HeadTooLarge | Self::TooManyFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::HeadTimedOut | Self::BodyTimedOut => StatusCode::REQUEST_TIMEOUT,
            Self::CredentialMissing | Self::CredentialMalformed | Self::SchemeUnknown => StatusCode::UNAUTHORIZED,
            Self::NoPrivilege | Self::Denied(Denial::NotPermitted) => StatusCode::FORBIDDEN,
            Self::Denied(_) => StatusCode::UNAUTHORIZED,
            Self::Unavailable(_) | Self::NotReady => StatusCode::SERVICE_UNAVAILABLE,
            Self::UpstreamUnreachable | Self::UpstreamBroken => StatusCode::BAD_GATEWAY,
            Self::UpstreamTimedOut => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// The word for it in logs, metrics and answers.
    pub fn word(self) -> &'static str {
        match self {
            Self::BareLineEnd => "bare-line-end",
            Self::FoldedField => "folded-field",
            Self::RequestLine => "request-line",
            Self::Version => "version",
            Self::FieldName => "field-name",
            Self::FieldValue => "field-value",
            Self::LengthTwice => "length-twice",
            Self::LengthMalformed => "length-malformed",
            Self::LengthAndEncoding => "length-and-encoding",
            Self::EncodingUnknown => "encoding-unknown",
            Self::ChunkMalformed => "chunk-malformed",
            Self::ChunkExtension => "chunk-extension",
            Self::HeadTooLarge => "head-too-large",
            Self::TooManyFields => "too-many-fields",
            Self::BodyTooLarge => "body-too-large",
            Self::HeadTimedOut => "head-timed-out",
            Self::BodyTimedOut => "body-timed-out",
            Self::HostMissing => "host-missing",
            Self::HostTwice => "host-twice",
            Self::HostMalformed => "host-malformed",
            Self::HostConflict => "host-conflict",
            Self::TargetMalformed => "target-malformed",
            Self::PathNotNormal => "path-not-normal",
            Self::MethodForbidden => "method-forbidden",
            Self::MethodOverridden => "method-overridden",
            Self::PathOverridden => "path-overridden",
            Self::ConnectionField => "connection-field",
            Self::UpgradeMalformed => "upgrade-malformed",
            Self::ExpectationUnknown => "expectation-unknown",
            Self::CredentialMissing => "credential-missing",
            Self::CredentialTwice => "credential-twice",
            Self::CredentialMalformed => "credential-malformed",
            Self::SchemeUnknown => "scheme-unknown",
            Self::NoPrivilege => "no-privilege",
            Self::Denied(denial) => denial.word(),
            Self::Unavailable(outage) => outage.word(),
            Self::NotReady => "not-ready",
            Self::UpstreamUnreachable => "upstream-unreachable",
            Self::UpstreamBroken => "upstream-broken",
            Self::UpstreamTimedOut => "upstream-timed-out",
        }
    }

    /// What is wrong and what would be right, for whoever sent the request.
    pub fn detail(self) -> &'static str {
        match self {
            Self::BareLineEnd => "a line of the request ends otherwise than by CR LF",
            Self::FoldedField => "a field goes on in the next line; write it on one",
            Self::RequestLine => "the first line is not METHOD SP TARGET SP HTTP/1.1",
            Self::Version => "the version is neither HTTP/1.1 nor HTTP/1.0",
            Self::FieldName => "the name of a field is empty or has a letter that no name has, such as a blank",
            Self::FieldValue => "the value of a field has a control character",
            Self::LengthTwice => "Content-Length is there more than once",
            Self::LengthMalformed => "Content-Length is no decimal number",
            Self::LengthAndEncoding => "both Content-Length and Transfer-Encoding are there; send one",
            Self::EncodingUnknown => "the only Transfer-Encoding taken is `chunked`, once, over HTTP/1.1",
            Self::ChunkMalformed => "the body is not chunked as RFC 9112 has it",
            Self::ChunkExtension => "chunks have extensions; nobody here understands any",
            Self::HeadTooLarge => "the request line and fields are longer than is taken here",
            Self::TooManyFields => "there are more fields than are taken here",
            Self::BodyTooLarge => "the body is longer than is taken here",
            Self::HeadTimedOut => "the head of the request did not come in time",
            Self::BodyTimedOut => "the body of the request did not come in time",
            Self::HostMissing => "no Host says who is asked",
            Self::HostTwice => "Host is there more than once",
            Self::HostMalformed => "Host is no name or address with or without a port",
            Self::HostConflict => "the target names another host than Host does",
            Self::TargetMalformed => "the target is no path, or has a letter that no target has",
            Self::PathNotNormal => {
                "the path has `.` or `..`, `//`, `;`, `\\`, or one of `/`, `\\`, `.`, `;`, `%` or control characters encoded; \
                 send it in its shortest form"
            }
            Self::MethodForbidden => "TRACE and CONNECT are not passed on",
            Self::MethodOverridden => "a field or parameter asks for another method; send the method itself",
            Self::PathOverridden => "a field asks for another path; send the path itself",
            Self::ConnectionField => "Connection may name close, keep-alive, te and upgrade, and no other fields",
            Self::UpgradeMalformed => "an upgrade to WebSocket is a GET over HTTP/1.1 without a body",
            Self::ExpectationUnknown => "the only expectation met is 100-continue",
            Self::CredentialMissing => "no Authorization says who asks; send `Authorization: Bearer TOKEN`",
            Self::CredentialTwice => "Authorization is there more than once",
            Self::CredentialMalformed => "Authorization holds no token; send `Authorization: Bearer TOKEN`",
            Self::SchemeUnknown => "Authorization is neither `Bearer TOKEN` nor `Token token=\"TOKEN\"`",
            Self::NoPrivilege => "no privilege stands for this method and path, so nobody has it",
            Self::Denied(denial) => denial.detail(),
            Self::Unavailable(outage) => outage.detail(),
            Self::NotReady => "the app behind here is not ready yet",
            Self::UpstreamUnreachable => "the app behind here does not take connections",
            Self::UpstreamBroken => "the app behind here broke off",
            Self::UpstreamTimedOut => "the app behind here did not answer in time",
        }
    }

    fn challenge(self) -> Option<&'static str> {
        match self.status() {
            StatusCode::UNAUTHORIZED => Some(match self {
                Self::CredentialMissing | Self::SchemeUnknown => CHALLENGE,
                _ => CHALLENGE_INVALID,
            }),
            StatusCode::FORBIDDEN => Some(CHALLENGE_PRIVILEGE),
            _ => None,
        }
    }

    /// The answer, whole.
    pub fn answer(self) -> Response<Bytes> {
        let status = self.status();
        let title = status.canonical_reason().unwrap_or("Refused");
        let detail = self.detail();
        let problem = Problem { r#type: "about:blank", title, status: status.as_u16(), detail, reason: self.word() };
        let body = serde_json::to_vec(&problem).expect("words and a number are JSON");
        let mut answer = Response::new(Bytes::from(body));
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(challenge) = self.challenge() {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_not_known_is_asked_for_a_token_and_whoever_may_not_is_told_so() {
        let stranger = Refusal::CredentialMissing.answer();
        assert_eq!(stranger.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(stranger.headers()[header::WWW_AUTHENTICATE], "Bearer");
        let expired = Refusal::Denied(Denial::Expired).answer();
        assert_eq!(expired.status(), StatusCode::UNAUTHORIZED);
        let may_not = Refusal::Denied(Denial::NotPermitted).answer();
        assert_eq!(may_not.status(), StatusCode::FORBIDDEN);
    }

    #[test]
    fn an_outage_is_to_be_tried_again() {
        let answer = Refusal::Unavailable(Outage::Unreachable).answer();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.headers()[header::RETRY_AFTER], RETRY_AFTER);
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/problem+json");
    }
}
