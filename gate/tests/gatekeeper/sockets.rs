//! Unix sockets instead of ports: an app behind one, and clients before one.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpStream},
    os::unix::net::UnixListener,
    path::Path,
    thread,
};

use crate::{
    app::App,
    command_line::serve,
    raw::Raw,
    world::{CI, World},
};

/// Has an app listen at a path too.
fn listen_at(path: &Path, app: SocketAddr) {
    let listener = UnixListener::bind(path).expect("it listens");
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let app = TcpStream::connect(app).expect("it listens");
            let (mut from_client, mut to_app) =
                (client.try_clone().expect("a descriptor"), app.try_clone().expect("one"));
            thread::spawn(move || {
                // Who breaks off has ended.
                let _ended = io::copy(&mut from_client, &mut to_app);
                let _closed = to_app.shutdown(Shutdown::Both);
            });
            thread::spawn(move || io::copy(&mut &app, &mut &client));
        }
    });
}

#[test]
fn an_app_behind_a_unix_socket_gets_requests_and_upgrades() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("app.sock");
    let app = App::start();
    listen_at(&path, app.address);
    let address = serve(&format!("unix:{}", path.display()), &[]);
    let mut client = Raw::connect(address);
    for number in 0..3 {
        client.send(&format!("POST /{number} HTTP/1.1\r\nHost: app\r\n{CI}\r\nContent-Length: 4\r\n\r\nbody"));
        let answer = client.answer();
        assert!(answer.body.starts_with(&format!("POST /{number} ")) && answer.body.ends_with("body"), "{answer:?}");
    }
    assert_eq!(app.connections(), 1, "it is kept, as over TCP");
    client.send(&format!("GET /ws HTTP/1.1\r\nHost: app\r\n{CI}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"));
    assert_eq!(client.answer().status, 101);
    client.send("there");
    assert_eq!(client.bytes(11), "hello there");
}

#[test]
fn an_app_whose_unix_socket_is_gone_cannot_be_reached() {
    let directory = tempfile::tempdir().expect("a directory");
    let world = World::with(|settings| {
        let path = directory.path().join("gone.sock");
        settings.upstream.address = format!("unix:{}", path.display()).parse().expect("an address");
    });
    world.refuses(&format!("GET / HTTP/1.1\r\nHost: app\r\n{CI}\r\n\r\n"), 502, "upstream-unreachable");
}
