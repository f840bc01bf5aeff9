//! The model of the container network that this project means to replace, on the same machine: each agent asks every five
//! seconds for all rules of its apps, and gets a full answer. Favourable to it: no TLS, no store behind the answers, a
//! connection that stays open, and an agent that is done when it has read.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use policy_api::model::RuleSpec;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::{
    Row, progress, row,
    stage::{self, Stage},
};

const EVERY: Duration = Duration::from_secs(5);
const CHANGES: usize = 10;

/// Rules by the apps that they are about, as answers hold them.
struct Rules {
    by_app: Mutex<HashMap<usize, Vec<Arc<str>>>>,
    bytes: AtomicU64,
}

impl Rules {
    fn new(rules: &[RuleSpec]) -> Result<Self> {
        let mut by_app: HashMap<usize, Vec<Arc<str>>> = HashMap::new();
        for rule in rules {
            let text: Arc<str> = serde_json::to_string(rule)?.into();
            for side in [&rule.source, &rule.destination] {
                let number = side.to_string().trim_start_matches("app").parse()?;
                by_app.entry(number).or_default().push(text.clone());
            }
        }
        Ok(Self { by_app: Mutex::new(by_app), bytes: AtomicU64::new(0) })
    }

    fn add(&self, app: usize, text: &str) {
        self.by_app.lock().unwrap_or_else(PoisonError::into_inner).entry(app).or_default().push(text.into());
    }

    fn answer(&self, node: usize) -> Vec<u8> {
        let by_app = self.by_app.lock().unwrap_or_else(PoisonError::into_inner);
        let rules: Vec<&str> =
            stage::apps_of(node).filter_map(|app| by_app.get(&app)).flatten().map(AsRef::as_ref).collect();
        format!("[{}]", rules.join(",")).into_bytes()
    }
}

pub(super) async fn run(stage: &Stage) -> Result<Vec<Row>> {
    let rules = Arc::new(Rules::new(&stage.rules)?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (seen, mut news) = tokio::sync::mpsc::unbounded_channel::<(usize, Instant)>();
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(listener, rules.clone()));
    for node in 0..stage::NODES {
        tasks.spawn(poll(address, node, rules.clone(), seen.clone()));
    }
    // Once round, so that everybody is in step with himself.
    tokio::time::sleep(EVERY).await;
    let (started, bytes) = (Instant::now(), rules.bytes.load(Ordering::Relaxed));
    let mut times = Vec::new();
    for number in 0..CHANGES {
        progress(format_args!("bench control: polling, change {} of {CHANGES}", number + 1));
        let app = number * 37;
        let touched = (0..stage::NODES).filter(|node| stage::apps_of(*node).any(|own| own == app)).count();
        while news.try_recv().is_ok() {}
        let changed = Instant::now();
        rules.add(app, &format!(r#"{{"mark":{number}}}"#));
        let mut heard = 0;
        while heard < touched {
            let (mark, at) = news.recv().await.context("agents poll")?;
            heard += usize::from(mark == number && at >= changed);
        }
        times.push(changed.elapsed().as_secs_f64() * 1e3);
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..1_000))).await;
    }
    let bytes = (rules.bytes.load(Ordering::Relaxed) - bytes) as f64 / started.elapsed().as_secs_f64();
    Ok(vec![
        row("change in force, two apps, agents that poll", "ms", &times),
        row("payload an agent is told that polls", "B/s", &[bytes / stage::NODES as f64]),
    ])
}

async fn serve(listener: TcpListener, rules: Arc<Rules>) {
    while let Ok((stream, _)) = listener.accept().await {
        let rules = rules.clone();
        // Ends with its agent.
        tokio::spawn(async move { answer(stream, &rules).await });
    }
}

/// A node's number, and all rules of its apps behind their length, as often as it asks.
async fn answer(mut stream: TcpStream, rules: &Rules) -> Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let node = stream.read_u32().await?;
        let answer = rules.answer(usize::try_from(node)?);
        stream.write_u32(u32::try_from(answer.len())?).await?;
        stream.write_all(&answer).await?;
    }
}

async fn poll(
    address: std::net::SocketAddr,
    node: usize,
    rules: Arc<Rules>,
    seen: tokio::sync::mpsc::UnboundedSender<(usize, Instant)>,
) {
    let polling = async {
        tokio::time::sleep(EVERY.mul_f64(fastrand::f64())).await;
        let mut stream = BufReader::new(TcpStream::connect(address).await?);
        let (mut tick, mut marks) = (tokio::time::interval(EVERY), 0);
        loop {
            tick.tick().await;
            stream.write_u32(u32::try_from(node)?).await?;
            let length = usize::try_from(stream.read_u32().await?)?;
            let mut answer = vec![0; length];
            stream.read_exact(&mut answer).await?;
            rules.bytes.fetch_add(length as u64, Ordering::Relaxed);
            let read: Vec<serde_json::Value> = serde_json::from_slice(&answer)?;
            let found = read.iter().filter_map(|rule| rule.get("mark")?.as_u64()).collect::<Vec<_>>();
            for mark in found.iter().skip(marks) {
                seen.send((usize::try_from(*mark)?, Instant::now()))?;
            }
            marks = found.len();
        }
        #[expect(unreachable_code, reason = "names the error's type")]
        anyhow::Ok(())
    };
    // Over when the bench is.
    let _ended = polling.await;
}
