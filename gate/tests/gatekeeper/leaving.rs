//! A gatekeeper that leaves: nobody is cut off, and nobody is kept.

use std::net::TcpStream;

use crate::world::{CI, World};

#[test]
fn whoever_is_connected_is_served_once_more_and_told_to_go_elsewhere() {
    let world = World::start();
    let mut connection = world.connect();
    let get = format!("GET / HTTP/1.1\r\nHost: app\r\n{CI}\r\n\r\n");
    connection.send(&get);
    assert_eq!(connection.answer().status, 200);
    world.gatekeeper.as_ref().expect("it runs").leave();
    while TcpStream::connect(world.address).is_ok() {
        std::thread::yield_now();
    }
    connection.send(&get);
    let answer = connection.answer();
    assert_eq!((answer.status, answer.field("connection").as_deref()), (200, Some("close")));
    assert_eq!(connection.rest(), "");
}

#[test]
fn a_tunnel_lasts_until_its_ends_do_and_then_the_gatekeeper_has_ended() {
    let mut world = World::start();
    let mut connection = world.connect();
    connection
        .send(&format!("GET /ws HTTP/1.1\r\nHost: app\r\n{CI}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"));
    assert_eq!(connection.answer().status, 101);
    let gatekeeper = world.gatekeeper.take().expect("it runs");
    gatekeeper.leave();
    while TcpStream::connect(world.address).is_ok() {
        std::thread::yield_now();
    }
    connection.send("still here");
    assert_eq!(connection.bytes(16), "hello still here");
    assert!(!gatekeeper.has_ended());
    drop(connection);
    gatekeeper.join();
}
