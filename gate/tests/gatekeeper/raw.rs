//! A client that sends whatever bytes it likes.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

pub(crate) struct Raw {
    pub(crate) socket: TcpStream,
    come: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Raw {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).expect("it listens");
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a limit");
        socket.set_nodelay(true).expect("no delay");
        Self { socket, come: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: &str) {
        self.socket.write_all(bytes.as_bytes()).expect("it takes what is sent");
    }

    /// The next answer.
    #[track_caller]
    pub(crate) fn answer(&mut self) -> Answer {
        let end = loop {
            if let Some(at) = self.come.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.more(), "closed before an answer: {:?}", String::from_utf8_lossy(&self.come));
        };
        let head = String::from_utf8_lossy(&self.come[..end]).into_owned();
        self.come.drain(..end);
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let length = field(&head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        while self.come.len() < length {
            assert!(self.more(), "closed within a body");
        }
        let body = self.come.drain(..length).collect::<Vec<u8>>();
        Answer { status, head, body: String::from_utf8_lossy(&body).into_owned() }
    }

    /// So many bytes that are no answer.
    pub(crate) fn bytes(&mut self, length: usize) -> String {
        while self.come.len() < length {
            assert!(self.more(), "closed after {:?}", String::from_utf8_lossy(&self.come));
        }
        String::from_utf8(self.come.drain(..length).collect()).expect("text")
    }

    /// Reads until the other end closes, and returns what came.
    pub(crate) fn rest(&mut self) -> String {
        while self.more() {}
        String::from_utf8_lossy(&std::mem::take(&mut self.come)).into_owned()
    }

    fn more(&mut self) -> bool {
        let mut bytes = [0; 16_384];
        match self.socket.read(&mut bytes) {
            Ok(0) => false,
            Ok(length) => {
                self.come.extend_from_slice(&bytes[..length]);
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("nothing came: {error}; before: {:?}", String::from_utf8_lossy(&self.come)),
        }
    }
}

impl Answer {
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        field(&self.head, name)
    }

    /// The word that a refusal has.
    pub(crate) fn reason(&self) -> String {
        let problem: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_default();
        problem["reason"].as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    pub(crate) fn assert_is_problem(&self) {
        assert_eq!(self.field("content-type").as_deref(), Some("application/problem+json"), "{self:?}");
        assert_eq!(self.field("location"), None, "{self:?}");
        assert_eq!(self.field("www-authenticate").is_some(), matches!(self.status, 401 | 403), "{self:?}");
        let problem: serde_json::Value = serde_json::from_str(&self.body).expect("JSON");
        assert_eq!(problem["status"], self.status, "{self:?}");
    }
}

fn field(head: &str, name: &str) -> Option<String> {
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).next()
}
