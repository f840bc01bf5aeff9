//! One gatekeeper after the other behind the same address: nobody who asks hears of it, and what is open stays open.

use std::{
    net::SocketAddr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    thread,
};

use http_body_util::BodyExt as _;

use crate::{
    app::App,
    command_line::{Running, free_port, start},
    grpc,
    load::{Load, ask_http1, ask_http2},
    raw::Raw,
    world::CI,
};

const RESTARTS: usize = 5;

/// Gatekeepers that follow one another, each from its command line to its end.
struct Succession {
    address: SocketAddr,
    handover: PathBuf,
    line: Vec<String>,
    generations: Vec<Running>,
}

impl Succession {
    fn begin(directory: &Path, name: &str, upstream: SocketAddr, more: &[&str]) -> Self {
        let (address, admin) = (free_port(), free_port());
        let (handover, ready) = (directory.join(format!("{name}.sock")), directory.join(format!("{name}.ready")));
        std::fs::write(&ready, "").expect("a file");
        let pairs = [
            ("--listen", address.to_string()),
            ("--admin", admin.to_string()),
            ("--upstream", format!("http://{upstream}")),
            ("--access-log", directory.join(format!("{name}.log")).display().to_string()),
            ("--handover", handover.display().to_string()),
            ("--ready-file", ready.display().to_string()),
        ];
        let pairs = pairs.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
        let words = ["gatekeeper", "--app", "echo", "--resource", "echo"].iter().chain(more).map(ToString::to_string);
        let mut succession = Self { address, handover, line: words.chain(pairs).collect(), generations: Vec::new() };
        succession.next();
        succession
    }

    /// Starts one more, and waits until it has relieved the one before: then it waits for a successor itself.
    fn next(&mut self) {
        let before = self.offered();
        let mut newest = Some(start(&self.line));
        while self.offered().is_none_or(|now| Some(now) == before) {
            if newest.as_ref().is_some_and(Running::is_finished) {
                panic!("it ended: {:?}", newest.take().map(Running::join));
            }
            thread::yield_now();
        }
        self.generations.extend(newest);
    }

    /// What tells one socket at the path from the next.
    fn offered(&self) -> Option<(u64, i64, i64)> {
        let found = std::fs::metadata(&self.handover).ok()?;
        Some((found.ino(), found.ctime(), found.ctime_nsec()))
    }

    /// Waits until all but the newest have ended.
    fn await_ends(&mut self) {
        let newest = self.generations.pop();
        for older in self.generations.drain(..) {
            older.join().expect("it does not panic").expect("it ends well");
        }
        self.generations.extend(newest);
    }
}

#[test]
fn five_restarts_under_load_fail_no_request_and_cut_no_websocket() {
    let directory = tempfile::tempdir().expect("a directory");
    let app = App::start();
    let mut succession = Succession::begin(directory.path(), "http1", app.address, &[]);
    let address = succession.address;
    let load = Load::start(4, move |stop, answered| ask_http1(address, stop, answered));
    let mut socket = Raw::connect(address);
    socket.send(&format!("GET /ws HTTP/1.1\r\nHost: app\r\n{CI}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"));
    assert_eq!(socket.answer().status, 101);
    assert_eq!(socket.bytes(6), "hello ");
    for restart in 0..RESTARTS {
        load.go_on_for(100);
        succession.next();
        let text = format!("restart {restart}");
        socket.send(&text);
        assert_eq!(socket.bytes(text.len()), text);
    }
    load.go_on_for(100);
    load.end();
    drop(socket);
    succession.await_ends();
}

#[test]
fn five_restarts_under_load_fail_no_call_and_cut_no_grpc_stream() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let directory = tempfile::tempdir().expect("a directory");
    let service = runtime.block_on(grpc::echo_service());
    let mut succession = Succession::begin(directory.path(), "http2", service, &["--upstream-http2"]);
    let address = succession.address;
    let handle = runtime.handle().clone();
    let load = Load::start(2, move |stop, answered| handle.block_on(ask_http2(address, stop, answered)));
    let (pieces, body) = grpc::stream();
    let mut answered = runtime.block_on(async {
        let mut client = grpc::connect(address).await;
        client.send_request(grpc::call(address, body)).await.expect("an answer").into_body()
    });
    for piece in ["one", "two", "three", "four", "five"] {
        load.go_on_for(100);
        succession.next();
        runtime.block_on(async {
            pieces.send(piece).await.expect("it flows");
            let frame = answered.frame().await.expect("a piece").expect("whole");
            assert_eq!(frame.into_data().expect("data"), piece);
        });
    }
    load.go_on_for(100);
    load.end();
    drop(pieces);
    let last = runtime.block_on(answered.frame()).expect("a trailer").expect("whole");
    assert_eq!(last.into_trailers().expect("a trailer")["grpc-status"], "0");
    succession.await_ends();
}
