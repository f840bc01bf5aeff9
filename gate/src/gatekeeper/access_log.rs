//! One line of JSON for each request: who, what, and what came of it. Lines are put together where the request was served and
//! written elsewhere; when writing does not keep up they are dropped, and counted.

use std::{
    cell::{Cell, RefCell},
    fs::OpenOptions,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    thread::{self, JoinHandle},
};

use http::{Method, Uri};
use prometheus_client::metrics::counter::Counter;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tracing::warn;

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    Off,
    Stdout,
    File(PathBuf),
}

/// Writes what workers hand over.
pub(crate) struct AccessLog {
    blocks: Option<SyncSender<Block>>,
    writer: Option<JoinHandle<()>>,
    lost: Counter,
}

/// One worker's end of it.
pub(crate) struct WorkerLog {
    blocks: Option<SyncSender<Block>>,
    lost: Counter,
    buffer: RefCell<Vec<u8>>,
    lines: Cell<u64>,
    clock: RefCell<Clock>,
}

struct Block {
    text: Vec<u8>,
    lines: u64,
}

/// What a line tells.
pub(crate) struct Line<'a> {
    pub(crate) client: &'a str,
    pub(crate) protocol: &'static str,
    pub(crate) method: &'a Method,
    /// Its path alone is told: what follows may hold secrets.
    pub(crate) uri: &'a Uri,
    pub(crate) subject: Option<&'a str>,
    pub(crate) source_app: Option<&'a str>,
    pub(crate) privilege: Option<&'a str>,
    pub(crate) reason: &'static str,
    pub(crate) status: u16,
    pub(crate) bytes: u64,
    pub(crate) microseconds: u128,
    pub(crate) request_id: &'a str,
}

/// A block is handed over when it is so long.
const BLOCK: usize = 32_768;
/// Blocks that may wait to be written.
const WAITING: usize = 64;

impl AccessLog {
    /// Begins to write.
    ///
    /// # Errors
    ///
    /// The file cannot be opened.
    pub(crate) fn open(target: &LogTarget, lost: Counter) -> io::Result<Self> {
        let sink: Box<dyn io::Write + Send> = match target {
            LogTarget::Off => return Ok(Self { blocks: None, writer: None, lost }),
            LogTarget::Stdout => Box::new(io::stdout()),
            LogTarget::File(path) => Box::new(append_to(path)?),
        };
        let (blocks, waiting) = sync_channel(WAITING);
        let counted = lost.clone();
        let writer =
            thread::Builder::new().name("access-log".into()).spawn(move || write_all(waiting, sink, &counted))?;
        Ok(Self { blocks: Some(blocks), writer: Some(writer), lost })
    }

    pub(crate) fn worker(&self) -> WorkerLog {
        WorkerLog {
            blocks: self.blocks.clone(),
            lost: self.lost.clone(),
            buffer: RefCell::default(),
            lines: Cell::new(0),
            clock: RefCell::default(),
        }
    }

    /// Waits until everything that was handed over is written; workers have ended before.
    pub(crate) fn close(mut self) {
        drop(self.blocks.take());
        if let Some(writer) = self.writer.take() {
            let _ended = writer.join();
        }
    }
}

fn append_to(path: &Path) -> io::Result<std::fs::File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn write_all(blocks: Receiver<Block>, mut sink: Box<dyn io::Write + Send>, lost: &Counter) {
    for block in blocks {
        if let Err(error) = sink.write_all(&block.text).and_then(|()| sink.flush()) {
            warn!(%error, "lines of the access log cannot be written");
            lost.inc_by(block.lines);
        }
    }
}

impl WorkerLog {
    /// Whether lines go anywhere.
    pub(crate) fn is_on(&self) -> bool {
        self.blocks.is_some()
    }

    pub(crate) fn write(&self, line: &Line<'_>) {
        let mut buffer = self.buffer.borrow_mut();
        line.write_to(self.clock.borrow_mut().now(), &mut buffer);
        self.lines.set(self.lines.get() + 1);
        if buffer.len() >= BLOCK {
            drop(buffer);
            self.flush();
        }
    }

    /// Hands over what was put together.
    pub(crate) fn flush(&self) {
        let Some(blocks) = &self.blocks else { return };
        let lines = self.lines.take();
        if lines == 0 {
            return;
        }
        let text = self.buffer.replace(Vec::with_capacity(BLOCK + 512));
        match blocks.try_send(Block { text, lines }) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.lost.inc_by(lines);
            }
        }
    }
}

impl Drop for WorkerLog {
    fn drop(&mut self) {
        self.flush();
    }
}

impl Line<'_> {
    fn write_to(&self, now: &str, buffer: &mut Vec<u8>) {
        let mut text = |key: &str, value: &str| {
            buffer.extend_from_slice(key.as_bytes());
            escape(value, buffer);
        };
        text("{\"at\":\"", now);
        text("\",\"client\":\"", self.client);
        text("\",\"protocol\":\"", self.protocol);
        text("\",\"method\":\"", self.method.as_str());
        text("\",\"path\":\"", self.uri.path());
        for (key, value) in [
            ("\",\"subject\":\"", self.subject),
            ("\",\"source_app\":\"", self.source_app),
            ("\",\"privilege\":\"", self.privilege),
        ] {
            if let Some(value) = value {
                text(key, value);
            }
        }
        text("\",\"reason\":\"", self.reason);
        text("\",\"request_id\":\"", self.request_id);
        let numbers = writeln!(
            buffer,
            "\",\"status\":{},\"bytes\":{},\"microseconds\":{}}}",
            self.status, self.bytes, self.microseconds
        );
        numbers.expect("a vector takes what is written");
    }
}

/// Writes a text as the inside of a JSON string.
fn escape(text: &str, buffer: &mut Vec<u8>) {
    if text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\') {
        buffer.extend_from_slice(text.as_bytes());
        return;
    }
    let quoted = serde_json::to_vec(text).expect("a text is JSON");
    buffer.extend_from_slice(&quoted[1..quoted.len() - 1]);
}

/// The time of day as text, put together once a second but for its milliseconds.
#[derive(Default)]
struct Clock {
    second: i64,
    text: String,
}

impl Clock {
    fn now(&mut self) -> &str {
        let now = OffsetDateTime::now_utc();
        if now.unix_timestamp() != self.second || self.text.is_empty() {
            self.second = now.unix_timestamp();
            let whole = now.replace_nanosecond(0).unwrap_or(now);
            self.text = whole.format(&Rfc3339).expect("the year has four digits");
            self.text.truncate(self.text.len() - 1);
            self.text.push_str(".000Z");
        }
        let digits = usize::from(now.millisecond());
        let at = self.text.len() - 4;
        let mut text = std::mem::take(&mut self.text).into_bytes();
        for (place, power) in [(at, 100), (at + 1, 10), (at + 2, 1)] {
            text[place] = b"0123456789"[digits / power % 10];
        }
        self.text = String::from_utf8(text).expect("digits are ASCII");
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_json_whatever_the_path_is() {
        let uri: Uri = "/a\"b?token=s3cret".parse().expect("a target");
        let line = Line {
            client: "192.0.2.7",
            protocol: "http/1",
            method: &Method::GET,
            uri: &uri,
            subject: Some("host:ci-1"),
            source_app: None,
            privilege: Some("read"),
            reason: "allowed",
            status: 200,
            bytes: 12,
            microseconds: 340,
            request_id: "0a",
        };
        let mut buffer = Vec::new();
        line.write_to(Clock::default().now(), &mut buffer);
        let told: serde_json::Value = serde_json::from_slice(&buffer).expect("JSON");
        assert_eq!(told["path"], "/a\"b");
        assert_eq!((&told["subject"], &told["status"]), (&"host:ci-1".into(), &200.into()));
        assert!(OffsetDateTime::parse(told["at"].as_str().expect("a text"), &Rfc3339).is_ok());
        assert!(!String::from_utf8_lossy(&buffer).contains("s3cret"));
    }

    #[test]
    fn what_is_not_written_in_time_is_counted() {
        let lost = Counter::default();
        let (blocks, waiting) = sync_channel(1);
        let log = WorkerLog {
            blocks: Some(blocks),
            lost: lost.clone(),
            buffer: RefCell::default(),
            lines: Cell::new(0),
            clock: RefCell::default(),
        };
        for lines in [2, 3] {
            log.buffer.borrow_mut().extend_from_slice(b"{}\n");
            log.lines.set(lines);
            log.flush();
        }
        assert_eq!(lost.get(), 3);
        drop(waiting);
    }
}
