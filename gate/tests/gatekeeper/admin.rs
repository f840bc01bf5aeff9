//! What operators and orchestrators are told, at an address of its own.

use std::{fs, net::SocketAddr, thread};

use crate::{
    app::App,
    command_line::{free_port, serve},
    raw::{Answer, Raw},
    world::CI,
};

fn ask(address: SocketAddr, method: &str, path: &str, fields: &str) -> Answer {
    let mut connection = Raw::connect(address);
    connection.send(&format!("{method} {path} HTTP/1.1\r\nHost: gate\r\n{fields}\r\n"));
    connection.answer()
}

fn get(address: SocketAddr, path: &str) -> Answer {
    ask(address, "GET", path, "")
}

/// Asks the app, as who may.
fn get_as_ci(address: SocketAddr) -> Answer {
    ask(address, "GET", "/", &format!("{CI}\r\n"))
}

#[test]
fn operators_hear_of_health_and_counters_and_clients_do_not() {
    let (app, admin) = (App::start(), free_port());
    let address = serve(&format!("http://{}", app.address), &["--admin", &admin.to_string()]);
    assert_eq!((get(admin, "/healthz").status, get(admin, "/readyz").status), (200, 200));
    assert_eq!(get_as_ci(address).status, 200);
    let metrics = get(admin, "/metrics");
    assert!(metrics.field("content-type").is_some_and(|kind| kind.contains("openmetrics-text")), "{metrics:?}");
    let counted = "netpol_gate_requests_total{verdict=\"allow\",reason=\"allowed\"} 1\n";
    assert!(metrics.body.contains(counted) && metrics.body.ends_with("# EOF\n"), "{metrics:?}");

    assert_eq!((get(admin, "/").status, ask(admin, "POST", "/metrics", "Content-Length: 0\r\n").status), (404, 405));
    assert_eq!(app.requests(), 1, "what operators ask goes to no app");
    assert_eq!(get(address, "/metrics").status, 401, "and what clients ask is theirs to prove");
}

#[test]
fn before_the_ready_file_is_there_nobody_is_let_in_and_it_is_said_why() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("ready");
    let (app, admin) = (App::start(), free_port());
    let flags = ["--admin", &admin.to_string(), "--ready-file", &file.display().to_string()];
    let address = serve(&format!("http://{}", app.address), &flags);
    let refused = get_as_ci(address);
    assert_eq!((refused.status, refused.reason().as_str()), (503, "not-ready"));
    assert_eq!(refused.field("retry-after").as_deref(), Some("1"));
    assert_eq!((get(admin, "/healthz").status, get(admin, "/readyz").status), (200, 503));
    let counted = "netpol_gate_requests_total{verdict=\"error\",reason=\"not-ready\"} 1\n";
    assert!(get(admin, "/metrics").body.contains(counted), "{}", get(admin, "/metrics").body);
    assert_eq!(app.requests(), 0);

    fs::write(&file, "").expect("a file");
    while get(admin, "/readyz").status != 200 {
        thread::yield_now();
    }
    assert_eq!(get_as_ci(address).status, 200);
}
