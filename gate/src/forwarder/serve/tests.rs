//! The forwarder as its clients see it, with real sockets on all sides: an agent's listener that issues tokens and knows who is
//! placed where, destinations in the clear and by TLS, and clients that write their own bytes.

use std::{
    collections::HashSet,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr as UnixAddress, UnixListener as StdUnixListener},
    },
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
    time::Instant,
};

use policy_api::{jose::believing, model::Timestamp};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, UnixListener},
    task::JoinSet,
};

use super::*;
use crate::{
    authority::testing::Server,
    forwarder::{source::Source, upstream::Tls},
};

/// An agent's listener at a name of its own: which addresses are placed as `release-bot`, and how tokens last.
struct Agent {
    name: &'static str,
    placed: Arc<Mutex<HashSet<String>>>,
    issued: Arc<AtomicUsize>,
    is_down: Arc<AtomicBool>,
}

impl Agent {
    fn start(lasts: i64, renew: i64) -> Self {
        static NAMES: AtomicU32 = AtomicU32::new(0);
        let name = format!("netpol-test-{}-{}", std::process::id(), NAMES.fetch_add(1, Ordering::SeqCst));
        let name: &'static str = Box::leak(name.into_boxed_str());
        let listener = UnixAddress::from_abstract_name(name).and_then(|address| StdUnixListener::bind_addr(&address));
        let listener = listener.expect("a free name");
        listener.set_nonblocking(true).expect("set");
        let listener = UnixListener::from_std(listener).expect("a listener");
        let agent = Self { name, placed: Arc::default(), issued: Arc::default(), is_down: Arc::default() };
        let (placed, issued, is_down) = (agent.placed.clone(), agent.issued.clone(), agent.is_down.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = String::new();
                while !request.contains("\r\n\r\n") || (request.starts_with("POST") && !request.ends_with('}')) {
                    let mut buffer = [0; 4_096];
                    match stream.read(&mut buffer).await {
                        Ok(read @ 1..) => request.push_str(&String::from_utf8_lossy(&buffer[..read])),
                        Ok(0) | Err(_) => break,
                    }
                }
                let (status, body) = if is_down.load(Ordering::SeqCst) {
                    (503, json!({"detail": "the policy API is away"}))
                } else if request.starts_with("POST /v1/identity-tokens ") {
                    let number = issued.fetch_add(1, Ordering::SeqCst);
                    let audience: serde_json::Value =
                        serde_json::from_str(request.split("\r\n\r\n").nth(1).unwrap_or_default()).unwrap_or_default();
                    let after = |seconds: i64| {
                        let ms = Timestamp::now().unix_milliseconds() + seconds * 1_000;
                        Timestamp::of_unix_milliseconds(ms).expect("a time").to_string()
                    };
                    let token = format!("token-{number}-for-{}", audience["audience"].as_str().unwrap_or("nobody"));
                    (201, json!({"token": token, "expires_at": after(lasts), "renew_at": after(renew)}))
                } else {
                    let query =
                        request.split(' ').nth(1).and_then(|path| path.split_once('?')).map_or("", |(_, query)| query);
                    (200, json!({"placed": placed.lock().expect("nobody panics").contains(query)}))
                };
                let body = body.to_string();
                let answer = format!(
                    "HTTP/1.1 {status} Said\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                let _sent = stream.write_all(answer.as_bytes()).await;
            }
        });
        agent
    }

    fn place(&self, query: &str) {
        self.placed.lock().expect("nobody panics").insert(query.to_owned());
    }
}

/// A forwarder, and the tasks that keep its tokens.
struct World {
    agent: Agent,
    forwarder: Arc<Forwarder>,
    _tasks: JoinSet<()>,
}

struct Plan<'a> {
    to: &'a [String],
    pass: &'a [&'a str],
    door: Door,
    own: OwnAuthorization,
    ca_pem: &'a str,
    tokens: (i64, i64),
}

impl Default for Plan<'_> {
    fn default() -> Self {
        let (door, own) = (Door::Open, OwnAuthorization::Kept);
        Self { to: &[], pass: &[], door, own, ca_pem: "", tokens: (300, 200) }
    }
}

impl World {
    fn of(plan: Plan<'_>) -> Self {
        let agent = Agent::start(plan.tokens.0, plan.tokens.1);
        let destinations = Arc::new(Destinations {
            to: plan.to.iter().map(|text| text.parse().expect(text)).collect(),
            pass: plan.pass.iter().map(|text| text.parse().expect(text)).collect(),
        });
        let source = Arc::new(Source::Agent(agent.name));
        let mut tasks = JoinSet::new();
        let audiences: HashSet<Audience> = destinations.to.iter().map(|to| to.audience.clone()).collect();
        let tls = match believing(plan.ca_pem.as_bytes()) {
            Some(config) => Tls::believing(&config),
            None => Tls::of_nobody(),
        };
        let forwarder = Arc::new(Forwarder {
            tokens: Tokens::keep(audiences, &source, &mut tasks),
            upstream: Upstream::new(destinations.clone(), source, tls),
            destinations,
            door: plan.door,
            own_authorization: plan.own,
        });
        Self { agent, forwarder, _tasks: tasks }
    }

    /// A client's connection.
    fn connect(&self, form: Form) -> tokio::io::DuplexStream {
        let (client, server) = tokio::io::duplex(1 << 20);
        tokio::spawn(serve(self.forwarder.clone(), server, form, std::future::pending()));
        client
    }

    /// Sends these bytes on a connection of their own, and returns all that comes back.
    async fn send(&self, bytes: &str) -> String {
        self.send_as(Form::Absolute, bytes).await
    }

    async fn send_as(&self, form: Form, bytes: &str) -> String {
        let mut client = self.connect(form);
        client.write_all(bytes.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.expect("answered");
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn get(&self, url: &str, headers: &str) -> String {
        self.send(&format!("GET {url} HTTP/1.1\r\nHost: ignored.example\r\nConnection: close\r\n{headers}\r\n")).await
    }
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
}

fn host(server: &Server) -> String {
    server.url.split("//").nth(1).expect("a URL").to_owned()
}

async fn ok() -> Server {
    Server::plain(|_| (200, "hello".to_owned())).await
}

const PLACED: &str = "ip=127.0.0.1&app=release-bot";

#[tokio::test]
async fn a_destination_whose_address_is_placed_as_the_app_gets_its_token() {
    let server = ok().await;
    let world = World::of(Plan { to: &[format!("{}=release-bot", host(&server))], ..Plan::default() });
    let url = format!("http://{}/releases?x=1", host(&server));
    let refused = world.get(&url, "").await;
    assert_eq!((status(&refused), server.count()), (502, 0), "{refused}");
    assert!(refused.contains("127.0.0.1 is no address of that app") && refused.contains("problem+json"), "{refused}");
    world.agent.place(PLACED);
    let answer = world.get(&url, "X-Mine: 1\r\nProxy-Connection: keep-alive\r\nKeep-Alive: 5\r\n").await;
    assert!(status(&answer) == 200 && answer.ends_with("hello"), "{answer}");
    let head = server.last();
    assert!(head.starts_with("GET /releases?x=1 HTTP/1.1\r\n"), "{head}");
    assert!(
        head.contains("authorization: Bearer token-0-for-release-bot\r\n") && head.contains("x-mine: 1\r\n"),
        "{head}"
    );
    assert!(head.contains(&format!("host: {}\r\n", host(&server))), "the target, not what the client wrote: {head}");
    for hop in ["proxy-connection", "keep-alive", "ignored.example"] {
        assert!(!head.contains(hop), "{hop}: {head}");
    }
}

#[tokio::test]
async fn a_destination_proves_itself_by_tls_or_gets_nothing() {
    let (server, stranger) =
        (Server::tls(|_| (200, "hello".to_owned())).await, Server::tls(|_| (200, String::new())).await);
    let to = [format!("{}=production/bot,tls", host(&server)), format!("{}=production/bot,tls", host(&stranger))];
    let world = World::of(Plan { to: &to, ca_pem: &server.certificate, ..Plan::default() });
    let answer = world.get(&format!("http://{}/", host(&server)), "").await;
    assert_eq!(status(&answer), 200, "{answer}");
    assert!(server.last().contains("authorization: Bearer token-0-for-production/bot\r\n"), "{}", server.last());
    let refused = world.get(&format!("http://{}/", host(&stranger)), "").await;
    assert_eq!((status(&refused), stranger.count()), (502, 0), "{refused}");
    assert!(refused.contains("does not prove to be production/bot"), "{refused}");
    // The same server by an address, for which its certificate is not.
    let by_address = host(&server).replace("localhost", "127.0.0.1");
    let world = World::of(Plan {
        to: &[format!("{by_address}=production/bot,tls")],
        ca_pem: &server.certificate,
        ..Plan::default()
    });
    assert_eq!(status(&world.get(&format!("http://{by_address}/"), "").await), 502);
}

#[tokio::test]
async fn nothing_but_what_is_named_is_passed_to_and_without_a_token() {
    let (server, other) = (ok().await, ok().await);
    let to = [format!("{}=release-bot,unproven", host(&server))];
    let world = World::of(Plan { to: &to, ..Plan::default() });
    let refused = world.get(&format!("http://{}/", host(&other)), "").await;
    assert_eq!((status(&refused), other.count()), (403, 0), "{refused}");
    assert!(refused.contains("--pass"), "{refused}");
    let passing = World::of(Plan { to: &to, pass: &[&host(&other)], ..Plan::default() });
    assert_eq!(status(&passing.get(&format!("http://{}/", host(&other)), "").await), 200);
    assert!(!other.last().to_lowercase().contains("authorization"), "{}", other.last());
    for target in ["/", "ftp://a/", "http://user@a/", "http:///x", "*"] {
        let answer = world.send(&format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).await;
        assert_eq!(status(&answer), 400, "{target}: {answer}");
    }
}

#[tokio::test]
async fn redirects_are_the_clients_to_follow() {
    let elsewhere = ok().await;
    let location = elsewhere.url.clone();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let place = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _request = stream.read(&mut [0; 4_096]).await;
            let answer =
                format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
            let _sent = stream.write_all(answer.as_bytes()).await;
        }
    });
    let world = World::of(Plan { to: &[format!("{place}=release-bot,unproven")], ..Plan::default() });
    let answer = world.get(&format!("http://{place}/"), "").await;
    assert!(status(&answer) == 302 && answer.contains("location:"), "{answer}");
    assert_eq!(elsewhere.count(), 0);
}

#[tokio::test]
async fn an_authorization_of_the_clients_own_is_left_alone_unless_told() {
    let server = ok().await;
    let to = [format!("{}=release-bot,unproven", host(&server))];
    let url = format!("http://{}/", host(&server));
    let kept = World::of(Plan { to: &to, ..Plan::default() });
    assert_eq!(status(&kept.get(&url, "Authorization: Bearer mine\r\n").await), 200);
    assert!(server.last().contains("authorization: Bearer mine\r\n"), "{}", server.last());
    let replaced = World::of(Plan { to: &to, own: OwnAuthorization::Replaced, ..Plan::default() });
    assert_eq!(status(&replaced.get(&url, "Authorization: Bearer mine\r\nAuthorization: Basic x\r\n").await), 200);
    let head = server.last();
    assert!(head.contains("Bearer token-0-for-release-bot") && head.matches("authorization").count() == 1, "{head}");
}

#[tokio::test]
async fn a_tunnel_goes_where_it_may_and_never_around_the_token() {
    let (server, other) = (ok().await, ok().await);
    let to = [format!("{}=release-bot,unproven", host(&server))];
    let world = World::of(Plan { to: &to, pass: &[&host(&other)], ..Plan::default() });
    let connect = |place: &str| format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n");
    let refused = |answer: String| (status(&answer), answer.contains("problem+json"));
    assert_eq!(
        refused(world.send(&(connect(&host(&server)).replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"))).await),
        (403, true)
    );
    let nowhere = "CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert_eq!(refused(world.send(nowhere).await), (403, true));
    let through = format!("{}GET / HTTP/1.1\r\nHost: inside\r\n\r\n", connect(&host(&other)));
    let answer = world.send(&through).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
    assert!(other.last().contains("Host: inside") && !other.last().contains("uthorization"), "{}", other.last());
}

#[tokio::test]
async fn who_does_not_know_the_secret_is_not_served() {
    let server = ok().await;
    let door = Door::Secret(Secret::new("s3cret").expect("a secret"));
    let world = World::of(Plan { to: &[format!("{}=release-bot,unproven", host(&server))], door, ..Plan::default() });
    let url = format!("http://{}/", host(&server));
    let basic = |credentials: &str| format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(credentials));
    for wrong in [
        String::new(),
        basic("netpol:s3cre"),
        basic("netpol:s3cret2"),
        basic("s3cret"),
        "Proxy-Authorization: Bearer s3cret\r\n".to_owned(),
        "Authorization: Basic bmV0cG9sOnMzY3JldA==\r\n".to_owned(),
        basic("netpol:s3cret") + &basic("netpol:s3cret"),
    ] {
        let answer = world.get(&url, &wrong).await;
        assert!(status(&answer) == 407 && answer.contains("proxy-authenticate: Basic"), "{wrong}: {answer}");
    }
    assert_eq!(server.count(), 0);
    assert_eq!(status(&world.get(&url, &basic("anybody:s3cret")).await), 200);
    assert!(!server.last().contains("proxy-authorization"), "{}", server.last());
}

#[tokio::test]
async fn a_socket_of_ones_own_takes_requests_as_a_server_does() {
    let server = ok().await;
    let world = World::of(Plan { to: &[format!("{}=release-bot,unproven", host(&server))], ..Plan::default() });
    let origin = |hosts: &str| format!("GET /x HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n");
    let place = host(&server);
    let answer = world.send_as(Form::AbsoluteOrOrigin, &origin(&format!("Host: {place}\r\n"))).await;
    assert_eq!(status(&answer), 200, "{answer}");
    assert!(server.last().starts_with("GET /x HTTP/1.1"), "{}", server.last());
    for hosts in ["", "Host: a b\r\n", &format!("Host: {place}\r\nHost: {place}\r\n")] {
        let answer = world.send_as(Form::AbsoluteOrOrigin, &origin(hosts)).await;
        assert_eq!(status(&answer), 400, "{hosts}: {answer}");
    }
}

#[tokio::test]
async fn a_connection_may_change_its_protocol_and_bodies_stream() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let place = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut head = vec![0; 4_096];
        let read = stream.read(&mut head).await.expect("a request");
        let head = String::from_utf8_lossy(&head[..read]).to_lowercase();
        assert!(head.contains("upgrade: websocket") && head.contains("authorization: bearer token-0"), "{head}");
        let accept = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        stream.write_all(accept.as_bytes()).await.expect("sent");
        let (mut read, mut write) = stream.split();
        tokio::io::copy(&mut read, &mut write).await.expect("echoed");
    });
    let world = World::of(Plan { to: &[format!("{place}=release-bot,unproven")], ..Plan::default() });
    let mut client = world.connect(Form::Absolute);
    let request =
        format!("GET http://{place}/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    client.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(client.read_u8().await.expect("an answer"));
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    for word in ["one", "two", "three"] {
        client.write_all(word.as_bytes()).await.expect("sent");
        let mut echo = vec![0; word.len()];
        client.read_exact(&mut echo).await.expect("an echo");
        assert_eq!(echo, word.as_bytes());
    }
}

#[tokio::test]
async fn tokens_are_renewed_ahead_and_an_old_one_goes_on_while_no_new_one_is_to_be_had() {
    let server = ok().await;
    let to = [format!("{}=release-bot,unproven", host(&server))];
    let world = World::of(Plan { to: &to, tokens: (6, 1), ..Plan::default() });
    let url = format!("http://{}/", host(&server));
    assert_eq!(status(&world.get(&url, "").await), 200);
    let deadline = Instant::now() + Duration::from_secs(10);
    while world.agent.issued.load(Ordering::SeqCst) < 3 {
        assert!(Instant::now() < deadline, "tokens are not renewed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.agent.is_down.store(true, Ordering::SeqCst);
    assert_eq!(status(&world.get(&url, "").await), 200, "the old one goes on");
    assert!(server.last().contains("Bearer token-"), "{}", server.last());
    let deadline = Instant::now() + Duration::from_secs(20);
    let refused = loop {
        let answer = world.get(&url, "").await;
        if status(&answer) != 200 {
            break answer;
        }
        assert!(Instant::now() < deadline, "a token that has ended goes on");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(status(&refused) == 503 && refused.contains("the policy API is away"), "{refused}");
    world.agent.is_down.store(false, Ordering::SeqCst);
    let deadline = Instant::now() + Duration::from_secs(30);
    while status(&world.get(&url, "").await) != 200 {
        assert!(Instant::now() < deadline, "it does not come back");
    }
}

#[tokio::test]
async fn many_requests_at_once_are_one_token() {
    let server = ok().await;
    let world =
        Arc::new(World::of(Plan { to: &[format!("{}=release-bot,unproven", host(&server))], ..Plan::default() }));
    let url = format!("http://{}/", host(&server));
    let mut requests = JoinSet::new();
    for _ in 0..50 {
        let (world, url) = (world.clone(), url.clone());
        requests.spawn(async move { status(&world.get(&url, "").await) });
    }
    assert!(requests.join_all().await.iter().all(|status| *status == 200));
    assert_eq!(world.agent.issued.load(Ordering::SeqCst), 1);
}
