//! What a refusal is worth: how soon the refused one knows, beside a port that is closed; and what a flood of refused
//! packets does to an allowed flow beside it.

use std::{
    fs,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{
    Row, Target as Wanted,
    clock::{stay_on_cpu, stay_on_one_cpu},
    end_progress,
    load::{ECHO, Services, Target, request_response},
    median, progress,
};
use crate::world::{Plan, World, instance::Instance, namespace::Namespace, node::Node};

const BENCH: &str = "deny";
/// In a row.
const REFUSALS: usize = 1_000;
const FLOODS: usize = 15;
/// Allowed, and nobody listens.
const CLOSED: u16 = 8_084;
/// Allowed by no rule.
const DENIED: u16 = 8_085;
const PATIENCE: Duration = Duration::from_secs(1);

pub fn run() -> Result<Vec<Row>> {
    let mut world = World::start(Plan::nodes(&["n1", "n2"]))?;
    let client = world.run_instance("appA", "n1")?;
    let noisy = world.run_instance("appC", "n1")?;
    let server = world.run_instance("appB", "n2")?;
    world.netpol(&["allow", "appA", "appB", "--port", "8080-8084", "--wait"])?.expect_exit(0)?;
    world.netpol(&["allow", "appA", "appB", "--protocol", "udp", "--port", "8084", "--wait"])?.expect_exit(0)?;
    let target = Target { namespace: &server.namespace, address: server.address()? };
    let services = Services::start(target)?;
    let mut rows = refusals(&client, target)?;
    rows.extend(floods(world.node("n1")?, &client, &noisy, &services)?);
    services.stop(target)?;
    Ok(rows)
}

/// One try, which must end in a refusal, and how long that took in microseconds.
type Try = fn(SocketAddr) -> Result<f64>;

fn refusals(client: &Instance, server: Target<'_>) -> Result<Vec<Row>> {
    // A closed port's own answer is limited to a few per second otherwise.
    server.namespace.inside(|| Ok(fs::write("/proc/sys/net/ipv4/icmp_ratemask", "0")?))?;
    let tries: [(&str, Try); 2] = [("tcp connect", connect), ("udp send and receive", send)];
    let mut rows = Vec::new();
    for (name, try_once) in tries {
        progress(format_args!("bench {BENCH}: {name}"));
        let [closed, denied] = client.namespace.inside(|| in_turn(try_once, server.address))?;
        let ratio = median(&closed) / median(&denied);
        rows.push(Row::of(BENCH, format!("{name}, closed port"), 0, "us", &closed));
        let row = Row::of(BENCH, format!("{name}, denied"), 0, "us", &denied);
        // Twice the time of a closed port is half its speed.
        rows.push(row.against("closed port", ratio).wanting(Wanted::at_least(ratio, 0.5)));
    }
    Ok(rows)
}

fn in_turn(try_once: Try, server: Ipv4Addr) -> Result<[Vec<f64>; 2]> {
    stay_on_one_cpu()?;
    let mut samples: [Vec<f64>; 2] = Default::default();
    for number in 0..REFUSALS {
        for (samples, port) in samples.iter_mut().zip([CLOSED, DENIED]) {
            let took = try_once((server, port).into());
            samples.push(took.with_context(|| format!("number {} in a row at port {port}", number + 1))?);
        }
    }
    Ok(samples)
}

fn connect(server: SocketAddr) -> Result<f64> {
    let started = Instant::now();
    match TcpStream::connect_timeout(&server, PATIENCE) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(microseconds(started)),
        Err(error) => Err(error).context("refused in another way, or not at all"),
        Ok(_) => bail!("somebody answered"),
    }
}

fn send(server: SocketAddr) -> Result<f64> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let started = Instant::now();
    socket.send(b"?")?;
    match socket.recv(&mut [0]) {
        Err(error) if is_refusal(&error) => Ok(microseconds(started)),
        Err(error) => Err(error).context("refused in another way, or not at all"),
        Ok(_) => bail!("somebody answered"),
    }
}

/// A closed port says that it is unreachable, and a policy that it is prohibited.
fn is_refusal(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable | ErrorKind::PermissionDenied)
}

fn microseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e6
}

fn floods(node: &Node, client: &Instance, noisy: &Instance, services: &Services) -> Result<Vec<Row>> {
    let server = services.at(ECHO);
    let (mut alone, mut beside, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    for flood in 0..FLOODS {
        progress(format_args!("bench {BENCH}: flood {} of {FLOODS}", flood + 1));
        alone.push(request_response(&client.namespace, server)?[0]);
        let counted = || Ok::<_, anyhow::Error>(node.drops()?.values().sum::<u64>());
        let before = counted()?;
        let started = Instant::now();
        beside.push(beside_flood(&noisy.namespace, server, || request_response(&client.namespace, server))?[0]);
        let packets = counted()? - before;
        refused.push(packets as f64 / started.elapsed().as_secs_f64());
    }
    end_progress();
    let ratios: Vec<f64> = beside.iter().zip(&alone).map(|(beside, alone)| beside / alone).collect();
    Ok(vec![
        Row::of(BENCH, "packets refused, flood from one instance", 0, "1/s", &refused),
        Row::of(BENCH, "request/response, undisturbed", 0, "1/s", &alone),
        Row::of(BENCH, "request/response beside the flood", 0, "1/s", &beside).against("undisturbed", median(&ratios)),
    ])
}

/// Does some work while another instance sends what nobody allowed, as fast as it can, on another CPU if there is one.
fn beside_flood<T>(noisy: &Namespace, server: SocketAddr, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            noisy.enter()?;
            flood_until(&stop, SocketAddr::new(server.ip(), DENIED))
        });
        let done = work();
        stop.store(true, Ordering::Relaxed);
        match flood.join() {
            Ok(flooded) => flooded.and(done),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn flood_until(stop: &AtomicBool, server: SocketAddr) -> Result<()> {
    let cpus = std::thread::available_parallelism()?.get();
    stay_on_cpu(cpus - 1)?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    while !stop.load(Ordering::Relaxed) {
        match socket.send_to(&[0x5a; 64], server) {
            Ok(_) => {}
            // The refusal of an earlier packet.
            Err(error) if is_refusal(&error) => {}
            Err(error) => return Err(error).context("flood"),
        }
    }
    Ok(())
}
