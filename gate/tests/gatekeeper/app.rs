//! The app behind the gatekeeper, at its barest: over HTTP/1.1 it answers each request with the bytes that it got, and counts.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

pub(crate) struct App {
    pub(crate) address: SocketAddr,
    requests: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
}

impl App {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("it listens");
        let address = listener.local_addr().expect("it has an address");
        let (requests, connections) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (counted, opened) = (requests.clone(), connections.clone());
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                opened.fetch_add(1, Ordering::SeqCst);
                let counted = counted.clone();
                thread::spawn(move || serve(socket, &counted));
            }
        });
        Self { address, requests, connections }
    }

    /// Requests whose heads have come.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn serve(socket: TcpStream, counted: &AtomicUsize) {
    let mut reader = BufReader::new(socket.try_clone().expect("a descriptor is left"));
    while let Some(head) = read_head(&mut reader) {
        counted.fetch_add(1, Ordering::SeqCst);
        if answer(&head, &mut reader, &socket).is_err() {
            return;
        }
    }
}

fn read_head(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

fn answer(head: &str, reader: &mut BufReader<TcpStream>, mut socket: &TcpStream) -> std::io::Result<()> {
    let path = head.split(' ').nth(1).unwrap_or_default();
    match path {
        "/ws" => return echo(reader, socket),
        "/ws-denied" => return socket.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"),
        "/silent" => loop {
            thread::sleep(Duration::from_secs(60));
        },
        "/drip" => return drip(socket),
        "/hop" => {
            let fields = "Connection: x-inner\r\nX-Inner: 1\r\nKeep-Alive: timeout=9\r\nX-Outer: 2";
            return write!(socket, "HTTP/1.1 200 OK\r\n{fields}\r\nContent-Length: 2\r\n\r\nok");
        }
        _ => {}
    }
    let body = read_body(head, reader)?;
    if path == "/large" {
        let length = 4 << 20;
        write!(socket, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n")?;
        return socket.write_all(&vec![b'x'; length]);
    }
    let seen = format!("{head}{body}");
    write!(socket, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{seen}", seen.len())
}

fn read_body(head: &str, reader: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let lower = head.to_ascii_lowercase();
    if lower.contains("transfer-encoding: chunked") {
        let mut body = String::new();
        while !body.ends_with("0\r\n\r\n") {
            if reader.read_line(&mut body)? == 0 {
                break;
            }
        }
        return Ok(body);
    }
    let length = lower.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// Leaves HTTP, and says everything back.
fn echo(reader: &mut BufReader<TcpStream>, mut socket: &TcpStream) -> std::io::Result<()> {
    socket.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello ")?;
    let mut bytes = [0; 1_024];
    loop {
        match reader.read(&mut bytes)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            length => socket.write_all(&bytes[..length])?,
        }
    }
}

/// An answer that never ends.
fn drip(mut socket: &TcpStream) -> std::io::Result<()> {
    socket.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    loop {
        socket.write_all(b"4\r\ndrip\r\n")?;
        thread::sleep(Duration::from_millis(20));
    }
}
