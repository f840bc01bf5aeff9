//! An agent that only tells events: those it has kept, and those that the test lets happen.

use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use super::agent::read_request;

/// The listening end.
pub(crate) struct EventSource {
    asked: Arc<Mutex<Vec<String>>>,
    /// Gone once the source has ended.
    live: Option<Sender<String>>,
}

impl EventSource {
    /// Listens; one reader may follow.
    pub(crate) fn listen(path: &Path, kept: &[&str]) -> Self {
        let listener = UnixListener::bind(path).expect("a socket");
        let kept: String = kept.iter().map(|line| format!("{line}\n")).collect();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (live, happens) = channel();
        let (shared, mut happens) = (Arc::clone(&asked), Some(happens));
        // Ends with the test's process: a listener has nothing to clean up but its directory.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.expect("a connection");
                let (path, _) = read_request(&stream);
                shared.lock().expect("no test panics while it holds this").push(path.clone());
                if path.ends_with("follow=true") {
                    let (kept, happens) = (kept.clone(), happens.take().expect("one follower"));
                    thread::spawn(move || follow(&stream, kept, &happens));
                } else {
                    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", kept.len());
                    // Who asked may be gone by now; that is theirs to decide.
                    let _ = (&stream).write_all(format!("{head}{kept}").as_bytes());
                }
            }
        });
        Self { asked, live: Some(live) }
    }

    /// Tells whoever follows.
    pub(crate) fn tell(&self, line: &str) {
        self.live.as_ref().expect("it has not ended").send(format!("{line}\n")).expect("somebody follows");
    }

    /// Ends the answer that is being followed.
    pub(crate) fn end(&mut self) {
        self.live = None;
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.asked.lock().expect("no test panics while it holds this").clone()
    }
}

fn follow(mut stream: &UnixStream, kept: String, happens: &Receiver<String>) {
    let mut write = |text: String| stream.write_all(text.as_bytes());
    let mut told = write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_owned());
    for line in std::iter::once(kept).filter(|kept| !kept.is_empty()).chain(happens) {
        // The middle of a line is as good a place for a chunk to end as any.
        let (first, second) = line.split_at(line.len() / 2);
        told = told.and_then(|()| write(chunk(first))).and_then(|()| write(chunk(second)));
    }
    // A follower that has left hears no end.
    let _ = told.and_then(|()| write(chunk("")));
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}
