//! Paths that whoever stands behind might read otherwise.

use crate::world::{CI, World};

#[test]
fn a_path_with_two_spellings_is_refused() {
    let world = World::start();
    let paths = [
        "/a/../admin",
        "/a/..",
        "/./a",
        "/%2e%2e/a",
        "/a/.%2E/b",
        "//admin",
        "/a//b",
        "/a%2fb",
        "/a%2Fb",
        "/a%5cb",
        "/a\\b",
        "/a%00",
        "/a%0d%0aX-Netpol-Subject:%20user:root",
        "/a;x=y",
        "/a%3bx",
        "/a%252e%252e/b",
        "/a%zz",
        "/a%",
    ];
    for path in paths {
        world.refuses(&format!("GET {path} HTTP/1.1\r\nHost: app\r\n{CI}\r\n\r\n"), 400, "path-not-normal");
    }
    for target in ["/a#b", "a", "/\u{e9}", "*", "file:///etc/passwd", "http://user@app/"] {
        world.refuses(&format!("GET {target} HTTP/1.1\r\nHost: app\r\n{CI}\r\n\r\n"), 400, "target-malformed");
    }
}

#[test]
fn a_plain_path_arrives_as_it_was_sent() {
    let world = World::start();
    for path in ["/", "/a/b.c/", "/a%20b?c=d%2fe&f=../g", "/%E2%82%AC", "/.well-known/x"] {
        let answer = world.ask(&format!("GET {path} HTTP/1.1\r\nHost: app\r\n{CI}\r\n\r\n"));
        assert!(answer.body.starts_with(&format!("GET {path} HTTP/1.1\r\n")), "{answer:?}");
    }
}
