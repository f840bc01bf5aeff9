//! A stream of JSON lines without end, as watches are.

use std::time::Duration;

use reqwest::Response;
use serde::de::DeserializeOwned;

use super::ClientError;

/// Lines as they come.
pub(super) struct Lines {
    response: Response,
    api: String,
    /// After so long without anything nobody is there.
    silence: Duration,
    buffer: LineBuffer,
}

/// Pieces of a stream, until they are lines.
#[derive(Debug, Default)]
pub struct LineBuffer {
    bytes: Vec<u8>,
    /// How much of it has been handed out, and how much is known to hold no line end.
    taken: usize,
    searched: usize,
}

impl LineBuffer {
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.taken);
        self.searched -= self.taken;
        self.taken = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole line, without its end. Where there is none and nothing is begun, no memory is kept: the next may be long
    /// in coming, and its room was that of a whole state.
    pub fn next_line(&mut self) -> Option<&[u8]> {
        let Some(length) = memchr::memchr(b'\n', &self.bytes[self.searched..]) else {
            self.searched = self.bytes.len();
            if self.taken == self.bytes.len() {
                *self = Self::default();
            }
            return None;
        };
        let (start, end) = (self.taken, self.searched + length);
        self.taken = end + 1;
        self.searched = self.taken;
        Some(&self.bytes[start..end])
    }
}

/// Reads a line. That it is text is checked once, and not of each string in it.
pub fn read_line<T: DeserializeOwned>(line: &[u8]) -> serde_json::Result<T> {
    // What is no text is said by who reads bytes.
    std::str::from_utf8(line).map_or_else(|_| serde_json::from_slice(line), serde_json::from_str)
}

impl Lines {
    pub(super) fn new(response: Response, api: String, silence: Duration) -> Self {
        Self { response, api, silence, buffer: LineBuffer::default() }
    }

    pub(super) fn api(&self) -> &str {
        &self.api
    }

    /// Waits for the next line. Safe to drop and call again: nothing that arrived is lost.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> Result<T, ClientError> {
        loop {
            if let Some(line) = self.buffer.next_line() {
                return read_line(line)
                    .map_err(|error| ClientError::Protocol(format!("unreadable watch line: {error}")));
            }
            let chunk = tokio::time::timeout(self.silence, self.response.chunk()).await;
            match chunk {
                Ok(Ok(Some(bytes))) => self.buffer.push(&bytes),
                Ok(Ok(None)) => return Err(self.lost("it ended the watch")),
                Ok(Err(error)) => return Err(self.lost(&super::error::whole(&error))),
                Err(_) => return Err(self.lost("it is silent")),
            }
        }
    }

    fn lost(&self, why: &str) -> ClientError {
        ClientError::Unreachable { api: self.api.clone(), why: why.to_owned() }
    }
}
