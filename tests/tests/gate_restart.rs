//! The real gatekeeper, replaced by the next one again and again: nobody who asks hears of it, what is open stays open, and whoever
//! was replaced ends when that has.

#[expect(dead_code, reason = "the crate of the gatekeeper has other tests that use the rest")]
#[path = "../../gate/tests/gatekeeper/app.rs"]
mod app;
#[path = "../../gate/tests/gatekeeper/grpc.rs"]
mod grpc;
#[path = "../../gate/tests/gatekeeper/load.rs"]
mod load;
#[expect(dead_code, reason = "the crate of the gatekeeper has other tests that use the rest")]
#[path = "../../gate/tests/gatekeeper/raw.rs"]
mod raw;

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::{fs, iter};

use anyhow::{Context, Result, ensure};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tests::world::binary;
use tests::world::daemon::Daemon;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use load::{Load, ask_http1, ask_http2};
use raw::Raw;

/// What is said on streams, a word after each restart.
const WORDS: [&str; 5] = ["one", "two", "three", "four", "five"];
/// So many are answered between two restarts, by each gatekeeper.
const ANSWERS: usize = 100;

/// Gatekeepers that follow one another at the same address.
struct Succession {
    name: &'static str,
    address: SocketAddr,
    directory: PathBuf,
    line: Vec<String>,
    generations: Vec<Daemon>,
}

impl Succession {
    fn begin(name: &'static str, directory: &Path, upstream: SocketAddr, more: &[&str]) -> Result<Self> {
        let (address, admin) = (free_port()?, free_port()?);
        let at = |ending: &str| directory.join(format!("{name}.{ending}")).display().to_string();
        let pairs = [
            ("--app", "echo".to_owned()),
            ("--resource", "echo".to_owned()),
            ("--listen", address.to_string()),
            ("--admin", admin.to_string()),
            ("--upstream", format!("http://{upstream}")),
            ("--config", directory.join("gatekeeper.toml").display().to_string()),
            ("--access-log", at("access")),
            ("--handover", at("handover")),
            ("--ready-file", at("ready")),
            ("--threads", "2".to_owned()),
        ];
        fs::write(at("ready"), "")?;
        let pairs = pairs.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
        let line = iter::once("gatekeeper").chain(more.iter().copied()).map(str::to_owned).chain(pairs).collect();
        let mut succession = Self { name, address, directory: directory.to_owned(), line, generations: Vec::new() };
        succession.next()?;
        Ok(succession)
    }

    /// Starts one more, and waits until it serves: by then it has relieved the one before.
    fn next(&mut self) -> Result<()> {
        let name = format!("{}-{}", self.name, self.generations.len());
        let mut command = Command::new(binary("netpol-agent")?);
        let mut daemon = Daemon::start(&name, command.args(&self.line), &self.directory)?;
        let log = self.directory.join(format!("{name}.log"));
        daemon.await_ready(|| Ok(fs::read_to_string(&log)?.contains(" serving ")))?;
        self.generations.push(daemon);
        Ok(())
    }

    /// The first, the newest, and those between them.
    fn parts(&mut self) -> Result<(&mut Daemon, &mut Daemon, &mut [Daemon])> {
        let (first, rest) = self.generations.split_first_mut().context("it was begun")?;
        let (newest, between) = rest.split_last_mut().context("it goes on")?;
        Ok((first, newest, between))
    }

    /// Waits until all have ended that nobody is connected to, and checks that the first, which has a stream, has not.
    fn await_ends_between(&mut self) -> Result<()> {
        let (first, newest, between) = self.parts()?;
        between.iter_mut().try_for_each(Daemon::await_end)?;
        ensure!(first.is_running()?, "it left the stream that is open\n{}", first.log_tail());
        ensure!(newest.is_running()?, "nobody replaced it\n{}", newest.log_tail());
        Ok(())
    }

    fn await_end_of_first(&mut self) -> Result<()> {
        let (first, newest, _) = self.parts()?;
        first.await_end()?;
        newest.terminate()
    }
}

fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Writes the file of a gatekeeper that asks a service which knows everybody.
fn configure(directory: &Path) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/", listener.local_addr()?);
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            // Who hangs up is asked nothing.
            thread::spawn(move || agree(&socket));
        }
    });
    let text = format!("[[authority]]\nkind = \"remote\"\nshape = \"auth-request\"\nurl = \"{url}\"\n");
    fs::write(directory.join("gatekeeper.toml"), text).context("write the gatekeeper's file")
}

fn agree(mut socket: &TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(socket);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 {
        if line == "\r\n" {
            socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
        }
        line.clear();
    }
    Ok(())
}

fn open_websocket(address: SocketAddr) -> Raw {
    let mut socket = Raw::connect(address);
    socket.send(
        "GET /ws HTTP/1.1\r\nHost: app\r\nAuthorization: Bearer ci-token\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    assert_eq!(socket.answer().status, 101);
    assert_eq!(socket.bytes(6), "hello ");
    socket
}

/// A call that is open, and what is answered to it.
struct Stream<'a> {
    runtime: &'a Runtime,
    pieces: mpsc::Sender<&'static str>,
    answered: Incoming,
}

impl<'a> Stream<'a> {
    fn open(runtime: &'a Runtime, address: SocketAddr) -> Self {
        let (pieces, body) = grpc::stream();
        let answered = runtime.block_on(async {
            let mut client = grpc::connect(address).await;
            client.send_request(grpc::call(address, body)).await.expect("an answer").into_body()
        });
        Self { runtime, pieces, answered }
    }

    fn say(&mut self, piece: &'static str) {
        self.runtime.block_on(async {
            self.pieces.send(piece).await.expect("it flows");
            let frame = self.answered.frame().await.expect("a piece").expect("whole");
            assert_eq!(frame.into_data().expect("data"), piece);
        });
    }

    /// Ends it, and reads its status.
    fn end(mut self) {
        drop(self.pieces);
        let last = self.runtime.block_on(self.answered.frame()).expect("a trailer").expect("whole");
        assert_eq!(last.into_trailers().expect("a trailer")["grpc-status"], "0");
    }
}

#[test]
fn five_restarts_under_load_fail_no_request_and_cut_no_stream() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let directory = tempfile::tempdir()?;
    configure(directory.path())?;
    let (app, service) = (app::App::start(), runtime.block_on(grpc::echo_service()));
    let mut web = Succession::begin("web", directory.path(), app.address, &[])?;
    let mut rpc = Succession::begin("rpc", directory.path(), service, &["--upstream-http2"])?;

    let (web_address, rpc_address, handle) = (web.address, rpc.address, runtime.handle().clone());
    let requests = Load::start(2, move |stop, answered| ask_http1(web_address, stop, answered));
    let calls = Load::start(2, move |stop, answered| handle.block_on(ask_http2(rpc_address, stop, answered)));
    let (mut socket, mut stream) = (open_websocket(web_address), Stream::open(&runtime, rpc_address));
    for word in WORDS {
        requests.go_on_for(ANSWERS);
        calls.go_on_for(ANSWERS);
        web.next()?;
        rpc.next()?;
        socket.send(word);
        assert_eq!(socket.bytes(word.len()), word);
        stream.say(word);
    }
    requests.go_on_for(ANSWERS);
    calls.go_on_for(ANSWERS);
    requests.end();
    calls.end();

    web.await_ends_between()?;
    rpc.await_ends_between()?;
    socket.send("still here");
    assert_eq!(socket.bytes(10), "still here");
    stream.say("still here");
    drop(socket);
    stream.end();
    web.await_end_of_first()?;
    rpc.await_end_of_first()
}

#[test]
fn who_connects_to_a_socket_of_systemd_while_nobody_runs_is_served_by_the_next() -> Result<()> {
    let directory = tempfile::tempdir()?;
    configure(directory.path())?;
    let (app, socket) = (app::App::start(), TcpListener::bind("127.0.0.1:0")?);
    let address = socket.local_addr()?;
    let mut command = Command::new(binary("netpol-agent")?);
    command.args(["gatekeeper", "--app", "echo", "--resource", "echo", "--access-log", "off"]);
    command.args(["--listen", &address.to_string(), "--upstream", &format!("http://{}", app.address)]);
    command.arg("--config").arg(directory.path().join("gatekeeper.toml"));
    for name in ["socket-0", "socket-1"] {
        let mut client = Raw::connect(address);
        client.send("GET /a HTTP/1.1\r\nHost: app\r\nAuthorization: Bearer ci-token\r\n\r\n");
        let mut gatekeeper = Daemon::start_listening(&socket, name, &command, directory.path())?;
        assert_eq!(client.answer().status, 200);
        drop(client);
        gatekeeper.terminate()?;
    }
    Ok(())
}
