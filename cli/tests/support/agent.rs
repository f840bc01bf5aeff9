//! The agent's end of its socket, with answers that the test chooses: it shows what `netpol` asks an agent for.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde_json::{Value, json};

/// A request, and the namespace that its descriptor meant when it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) body: Value,
    pub(crate) netns: Option<String>,
}

/// The listening end.
pub(crate) struct AgentSocket {
    asked: Arc<Mutex<Vec<Asked>>>,
    /// Signals each arrival, before it is answered.
    arrivals: Receiver<String>,
}

/// Status and body for a path.
pub(crate) type Answers = fn(&str) -> (u16, Value);

/// Everything works.
pub(crate) fn willing(path: &str) -> (u16, Value) {
    match path {
        "/v1/attach" => (
            200,
            json!({
                "app": "appA", "instance": 3, "identity": 256, "node": "n1", "addresses": ["10.255.1.2"],
                "interface": "eth0", "host_interface": "np3", "revision": 9, "in_force": ["n1"], "missing": ["n2"],
                "later": "a member that this version does not know",
            }),
        ),
        "/v1/detach" => (200, json!({"app": "appA", "instance": 3, "addresses": ["10.255.1.2"]})),
        _ => (200, json!({"node": "n1", "revision": 9, "ready": true, "endpoints": []})),
    }
}

impl AgentSocket {
    pub(crate) fn listen(path: &Path, answers: Answers) -> Self {
        let listener = UnixListener::bind(path).expect("a socket");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (arrived, arrivals) = channel();
        let shared = Arc::clone(&asked);
        // Ends with the test's process: a listener has nothing to clean up but its directory.
        thread::spawn(move || {
            for stream in listener.incoming() {
                serve(&stream.expect("a connection"), answers, &shared, &arrived);
            }
        });
        Self { asked, arrivals }
    }

    /// Everything asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no test panics while it holds this").clone()
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.path).collect()
    }

    /// Waits until a request for this path has arrived; it may not be answered yet.
    #[track_caller]
    pub(crate) fn wait_for(&self, path: &str) {
        while self.arrivals.recv_timeout(std::time::Duration::from_secs(20)).expect("a request") != path {}
    }
}

fn serve(stream: &UnixStream, answers: Answers, asked: &Mutex<Vec<Asked>>, arrived: &Sender<String>) {
    let (path, body) = read_request(stream);
    let netns = netns_of(stream, &body);
    asked.lock().expect("no test panics while it holds this").push(Asked { path: path.clone(), body, netns });
    let _ = arrived.send(path.clone());
    let (status, answer) = answers(&path);
    let answer = answer.to_string();
    let head = format!("HTTP/1.1 {status} Whatever\r\ncontent-length: {}\r\n\r\n", answer.len());
    // Who asked may be gone by now; that is theirs to decide.
    let _ = (&mut &*stream).write_all(format!("{head}{answer}").as_bytes());
}

pub(super) fn read_request(stream: &UnixStream) -> (String, Value) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).expect("a request line");
    let path = line.split(' ').nth(1).expect("a path").to_owned();
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).expect("a header");
        match header.trim().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().expect("a length");
            }
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    (path, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

/// Finds the namespace as an agent does: by the peer's pid and the number of its descriptor.
fn netns_of(stream: &UnixStream, body: &Value) -> Option<String> {
    let number = body["netns_fd"].as_i64()?;
    let peer = getsockopt(stream, PeerCredentials).expect("a peer");
    let link = fs::read_link(format!("/proc/{}/fd/{number}", peer.pid())).expect("an open descriptor");
    Some(link.to_string_lossy().into_owned())
}
