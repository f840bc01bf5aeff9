//! The agent's events: one line of JSON each, read as they come.
//!
//! What a line may say besides what is known here is passed over, so that an older `netpol` reads a newer agent.

use std::net::IpAddr;
use std::pin::{Pin, pin};

use clap::ValueEnum;
use futures_util::future::{Either, select};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{Connection, SendRequest, handshake};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;

use super::{Agent, refusal};
use crate::failure::{Exit, Failure};

/// More than any event takes: what is longer is no event.
const LONGEST_LINE: usize = 64 * 1024;

/// Which events are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Span {
    /// Those that the agent has kept.
    Kept,
    /// Those, and all that follow.
    Endless,
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// The first packet of a flow was let through.
    #[serde(alias = "new-flow")]
    Start,
    /// A flow is over.
    End,
    /// A packet was dropped.
    #[serde(alias = "drop")]
    Denied,
    /// A packet passed that would have been dropped if what is audited were enforced.
    WouldDeny,
    /// A packet was dropped that would have passed if what is audited were enforced.
    WouldAllow,
    /// A live flow is no longer allowed.
    Cut,
}

impl Kind {
    /// Whether something was kept from passing, so that there is a reason.
    pub(crate) fn is_denial(self) -> bool {
        match self {
            Self::Denied | Self::WouldAllow => true,
            Self::Start | Self::End | Self::WouldDeny | Self::Cut => false,
        }
    }
}

/// What happened to a packet or a flow.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Event {
    /// RFC 3339, UTC.
    pub(crate) time: String,
    pub(crate) kind: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    pub(crate) direction: String,
    pub(crate) protocol: String,
    pub(crate) source: FlowEnd,
    pub(crate) destination: FlowEnd,
    /// The rule that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rule: Option<String>,
    /// The rule that would have decided otherwise, were it enforced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) would: Option<String>,
    /// What the flow carried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) packets: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<u64>,
    /// How many of these the line stands for, where it is more than one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) count: Option<u64>,
}

/// One end of a flow.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct FlowEnd {
    pub(crate) ip: IpAddr,
    /// 0 where the protocol has none.
    pub(crate) port: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) app: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) instance: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<String>,
}

/// One line of the agent's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Event(Box<Event>),
    /// So many events went by faster than we read.
    Lost(u64),
    /// Something that this version has no word for.
    Unknown,
}

impl Line {
    fn parse(text: &[u8]) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Tagged {
            kind: String,
            #[serde(default)]
            events: u64,
        }
        let Tagged { kind, events } = serde_json::from_slice(text)?;
        match kind.as_str() {
            "lost" => Ok(Self::Lost(events)),
            "start" | "end" | "denied" | "would-deny" | "would-allow" | "cut" | "drop" | "new-flow" => {
                Ok(Self::Event(serde_json::from_slice(text)?))
            }
            _ => Ok(Self::Unknown),
        }
    }
}

/// Bytes as they arrive, cut into lines.
#[derive(Debug, Default)]
struct Cutter {
    bytes: Vec<u8>,
    /// Up to here there is no line's end.
    searched: usize,
}

impl Cutter {
    fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole line, without its end.
    fn cut(&mut self) -> Option<Vec<u8>> {
        let Some(end) = self.bytes[self.searched..].iter().position(|byte| *byte == b'\n') else {
            self.searched = self.bytes.len();
            return None;
        };
        let rest = self.bytes.split_off(self.searched + end + 1);
        let mut line = std::mem::replace(&mut self.bytes, rest);
        line.pop();
        self.searched = 0;
        Some(line)
    }
}

type Wire = Connection<TokioIo<UnixStream>, Full<Bytes>>;

/// A connection, which makes progress only while it is polled.
struct Driver {
    connection: Option<Pin<Box<Wire>>>,
}

impl Driver {
    /// Awaits something that comes over the connection.
    async fn alongside<T>(&mut self, answer: impl Future<Output = T>) -> T {
        let mut answer = pin!(answer);
        if let Some(connection) = &mut self.connection {
            if let Either::Left((answer, _)) = select(answer.as_mut(), connection.as_mut()).await {
                return answer;
            }
            // It has ended, and how is told by what was to come over it.
            self.connection = None;
        }
        answer.await
    }
}

/// The lines of an answer that may have no end.
pub(crate) struct Events<'a> {
    agent: &'a Agent,
    span: Span,
    driver: Driver,
    body: Incoming,
    cutter: Cutter,
    /// A connection that nobody can send on is closed.
    _sender: SendRequest<Full<Bytes>>,
}

impl Agent {
    /// Opens the agent's events. Once this returns, an endless reading misses nothing that happens.
    pub(crate) async fn events(&self, span: Span) -> Result<Events<'_>, Failure> {
        self.in_time(self.open(span)).await
    }

    async fn open(&self, span: Span) -> Result<Events<'_>, Failure> {
        let path = match span {
            Span::Kept => "/v1/events?follow=false",
            Span::Endless => "/v1/events?follow=true",
        };
        let request = Request::get(path).header("host", "agent").body(Full::default());
        let request = request.map_err(|error| self.unintelligible(&error))?;
        let (mut sender, connection) =
            handshake(TokioIo::new(self.connect().await?)).await.map_err(|error| self.unintelligible(&error))?;
        let mut driver = Driver { connection: Some(Box::pin(connection)) };
        let response = driver.alongside(sender.send_request(request)).await;
        let (head, body) = response.map_err(|error| self.unintelligible(&error))?.into_parts();
        if !head.status.is_success() {
            let body = driver.alongside(body.collect()).await.map_err(|error| self.unintelligible(&error))?;
            return Err(refusal(&Response::from_parts(head, body.to_bytes())));
        }
        Ok(Events { agent: self, span, driver, body, cutter: Cutter::default(), _sender: sender })
    }
}

impl Events<'_> {
    /// The next line; none after the last, which only kept events have.
    pub(crate) async fn next(&mut self) -> Result<Option<Line>, Failure> {
        loop {
            if let Some(line) = self.cutter.cut() {
                return Line::parse(&line).map(Some).map_err(|error| self.agent.unintelligible(&error));
            }
            if self.cutter.bytes.len() > LONGEST_LINE {
                return Err(self.agent.unintelligible(&std::io::Error::other("a line without an end")));
            }
            if !self.more().await? {
                return self.end();
            }
        }
    }

    /// Waits for more bytes; false if there are none to come.
    async fn more(&mut self) -> Result<bool, Failure> {
        let agent = self.agent;
        let frame = self.driver.alongside(self.body.frame());
        let frame = match self.span {
            Span::Kept => agent.in_time(async { Ok(frame.await) }).await?,
            Span::Endless => frame.await,
        };
        let Some(frame) = frame.transpose().map_err(|error| agent.unintelligible(&error))? else {
            return Ok(false);
        };
        if let Some(bytes) = frame.data_ref() {
            self.cutter.add(bytes);
        }
        Ok(true)
    }

    fn end(&self) -> Result<Option<Line>, Failure> {
        match self.span {
            Span::Kept if self.cutter.bytes.is_empty() => Ok(None),
            Span::Kept => Err(self.agent.unintelligible(&std::io::Error::other("a line is cut off"))),
            Span::Endless => {
                let socket = self.agent.socket.display();
                Err(Failure::new(Exit::Unreachable, format!("the agent at {socket} has ended, and its events with it")))
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const DENIED: &str = r#"{"time":"2026-01-31T12:00:00.5Z","kind":"denied","reason":"no-rule",
        "direction":"egress","protocol":"tcp",
        "source":{"ip":"10.255.1.1","port":43818,"app":"appA","instance":"appA/0","node":"n1"},
        "destination":{"ip":"10.255.2.1","port":8080,"app":"appB","instance":"appB/0","node":"n2"}}"#;
    pub(crate) const ALLOWED: &str = r#"{"time":"2026-01-31T12:00:01Z","kind":"start",
        "direction":"ingress","protocol":"icmp","rule":"r12","later":{"a member":"of a later version"},
        "source":{"ip":"192.0.2.1","port":0,"app":"host"},
        "destination":{"ip":"10.255.2.1","port":0,"app":"appB","instance":"appB/0","node":"n2","zone":"z"}}"#;
    pub(crate) const FROM_NOBODY: &str = r#"{"time":"2026-01-31T12:00:02.123Z","kind":"denied",
        "reason":"unknown-source","direction":"ingress","protocol":"udp",
        "source":{"ip":"fd00::9","port":53},
        "destination":{"ip":"fd00::2","port":5353,"app":"appB","instance":"appB/0","node":"n2"}}"#;

    #[track_caller]
    pub(crate) fn event(text: &str) -> Event {
        match Line::parse(text.as_bytes()).expect(text) {
            Line::Event(event) => *event,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn members_and_kinds_of_later_versions_are_passed_over() {
        let allowed = event(ALLOWED);
        assert_eq!((allowed.kind, allowed.rule.as_deref(), allowed.reason), (Kind::Start, Some("r12"), None));
        assert_eq!(Line::parse(br#"{"kind":"lost","events":7}"#).expect("lost"), Line::Lost(7));
        assert_eq!(Line::parse(br#"{"kind":"audit","of":"later"}"#).expect("unknown"), Line::Unknown);
        let earlier = DENIED.replace("denied", "drop");
        assert_eq!(event(&earlier), event(DENIED), "as an earlier agent says it");
        assert!(Line::parse(br#"{"kind":"denied"}"#).is_err(), "an event without its ends was taken");
    }

    #[test]
    fn lines_are_the_same_however_their_bytes_arrive() {
        let text = b"one\ntwo\n\nfour\nrest";
        for size in 1..=text.len() {
            let (mut cutter, mut lines) = (Cutter::default(), Vec::new());
            for bytes in text.chunks(size) {
                cutter.add(bytes);
                lines.extend(std::iter::from_fn(|| cutter.cut()));
            }
            assert_eq!(lines, [&b"one"[..], b"two", b"", b"four"], "{size} bytes at a time");
            assert_eq!(cutter.bytes, b"rest");
        }
    }
}
