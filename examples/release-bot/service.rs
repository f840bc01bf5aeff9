//! A release service, with no line of code about who may use it: whoever gets here may do what he asks for, and the gatekeeper
//! says who it was. Standard library only; a thread for each connection.
//!
//! | | |
//! |---|---|
//! | `POST /releases/VERSION` | 201: it is published |
//! | `DELETE /releases/VERSION` | 200: it is withdrawn; 404: it never was |
//! | `GET /releases` | 200: what is published, and by whom, a line for each |
//! | `GET /events` | 200: a line now and then, for ever |

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Versions, and who published them.
type Releases = Arc<Mutex<BTreeMap<String, String>>>;

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9000".to_owned());
    let listener = TcpListener::bind(&address)?;
    let releases = Releases::default();
    for stream in listener.incoming() {
        let (stream, releases) = (stream?, releases.clone());
        // Who hangs up ends his own thread.
        thread::spawn(move || serve(stream, &releases));
    }
    Ok(())
}

struct Request {
    method: String,
    path: String,
    /// Who the gatekeeper says it is: nobody else can set this header.
    subject: String,
}

fn serve(stream: TcpStream, releases: &Releases) -> io::Result<()> {
    let (mut reader, mut writer) = (BufReader::new(stream.try_clone()?), stream);
    while let Some(request) = read(&mut reader)? {
        let mut releases = releases.lock().unwrap_or_else(PoisonError::into_inner);
        let version = request.path.strip_prefix("/releases/").map(str::to_owned);
        let (status, body) = match (request.method.as_str(), version) {
            ("POST", Some(version)) => {
                let said = format!("{version} published by {}\n", request.subject);
                releases.insert(version, request.subject);
                ("201 Created", said)
            }
            ("DELETE", Some(version)) => match releases.remove(&version) {
                Some(_) => ("200 OK", format!("{version} withdrawn by {}\n", request.subject)),
                None => ("404 Not Found", format!("{version} was never published\n")),
            },
            ("GET", None) if request.path == "/releases" => {
                ("200 OK", releases.iter().map(|(version, by)| format!("{version} {by}\n")).collect())
            }
            ("GET", None) if request.path == "/events" => {
                drop(releases);
                return events(&mut writer);
            }
            _ => ("404 Not Found", "there is nothing here\n".to_owned()),
        };
        drop(releases);
        let length = body.len();
        write!(writer, "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{body}")?;
    }
    Ok(())
}

/// A line now and then, until nobody listens.
fn events(writer: &mut TcpStream) -> io::Result<()> {
    write!(writer, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n")?;
    loop {
        writeln!(writer, "still here")?;
        thread::sleep(Duration::from_millis(20));
    }
}

/// The next request of a connection; none at its end.
fn read(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (mut subject, mut length) = ("nobody".to_owned(), 0);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "x-netpol-subject" => value.trim().clone_into(&mut subject),
            "content-length" => length = value.trim().parse().unwrap_or(0),
            _ => {}
        }
    }
    io::copy(&mut reader.by_ref().take(length), &mut io::sink())?;
    Ok(Some(Request { method, path, subject }))
}
