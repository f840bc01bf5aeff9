//! What a gatekeeper tells the history: whom it refused, whom it let in for the first time, and each request whose privilege it is told
//! to record. Told beside the requests, alike ones as one; what could not be told is counted, and that is told.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use policy_api::{
    client::Client,
    model::{Decision, GateReport, GateVerdict, ResourceId, Timestamp},
};
use tokio::{sync::mpsc, time::sleep};
use tracing::warn;

use crate::authority::Privilege;

/// What became of a request, as far as the history asks.
pub struct Noted<'a> {
    pub subject: Option<&'a str>,
    pub privilege: Option<&'a Privilege>,
    pub method: &'a str,
    pub path: &'a str,
    pub verdict: NotedVerdict,
    pub reason: &'static str,
    pub status: u16,
    pub request_id: &'a str,
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotedVerdict {
    /// By a permit that was used before.
    Allowed,
    /// By a new one.
    AllowedFirst,
    Denied,
}

/// Where decisions are told.
pub struct Reports {
    sender: mpsc::Sender<(Decision, Why)>,
    lost: Arc<AtomicU64>,
    recorded: Vec<Privilege>,
}

/// Sends what is told.
pub struct Reporter {
    receiver: mpsc::Receiver<(Decision, Why)>,
    lost: Arc<AtomicU64>,
    client: Client,
    resource: ResourceId,
    /// Who did what before.
    known: HashSet<(Option<String>, Option<String>)>,
}

/// Why a decision is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Denied,
    First,
    Recorded,
}

/// Decisions that wait to be sent; beyond these they are counted.
const WAITING: usize = 1_024;
/// What comes together is sent together.
const GATHER: Duration = Duration::from_millis(500);
/// After a report that did not arrive.
const PAUSE: Duration = Duration::from_secs(2);
const MOST_KNOWN: usize = 65_536;

impl Reports {
    /// And who has to be run for anything to be sent.
    pub fn new(client: Client, resource: ResourceId, recorded: Vec<Privilege>) -> (Self, Reporter) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let reporter = Reporter { receiver, lost: lost.clone(), client, resource, known: HashSet::new() };
        (Self { sender, lost, recorded }, reporter)
    }

    /// On every request's way: what is not told costs next to nothing.
    pub fn note(&self, noted: &Noted<'_>) {
        let is_recorded = noted.privilege.is_some_and(|privilege| self.recorded.contains(privilege));
        let why = match noted.verdict {
            NotedVerdict::Denied => Why::Denied,
            NotedVerdict::Allowed | NotedVerdict::AllowedFirst if is_recorded => Why::Recorded,
            NotedVerdict::AllowedFirst => Why::First,
            NotedVerdict::Allowed => return,
        };
        if self.sender.try_send((noted.decision(), why)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Noted<'_> {
    fn decision(&self) -> Decision {
        Decision {
            at: Timestamp::now(),
            subject: self.subject.map(str::to_owned),
            privilege: self.privilege.and_then(|privilege| privilege.as_str().parse().ok()),
            method: self.method.to_owned(),
            path: self.path.to_owned(),
            verdict: match self.verdict {
                NotedVerdict::Denied => GateVerdict::Deny,
                NotedVerdict::Allowed | NotedVerdict::AllowedFirst => GateVerdict::Allow,
            },
            reason: self.reason.to_owned(),
            status: Some(self.status),
            request_id: Some(self.request_id.to_owned()),
            count: 1,
        }
    }
}

impl Reporter {
    /// Sends what is told, until nobody tells anything any more.
    pub async fn run(mut self) {
        while let Some(first) = self.receiver.recv().await {
            sleep(GATHER).await;
            let mut told = vec![first];
            while let Ok(next) = self.receiver.try_recv() {
                told.push(next);
            }
            let mut decisions = self.gather(told);
            let beyond = decisions.split_off(decisions.len().min(GateReport::MOST_DECISIONS));
            self.lost.fetch_add(beyond.iter().map(|decision| decision.count).sum(), Ordering::Relaxed);
            if !decisions.is_empty() {
                self.send(decisions).await;
            }
        }
    }

    /// Alike ones as one, and of those who were let in those who were not before.
    fn gather(&mut self, told: Vec<(Decision, Why)>) -> Vec<Decision> {
        let mut order = Vec::new();
        let mut alike: HashMap<String, Decision> = HashMap::new();
        for (decision, why) in told {
            let who = (decision.subject.clone(), decision.privilege.as_ref().map(ToString::to_string));
            if why != Why::Denied {
                if self.known.len() >= MOST_KNOWN {
                    self.known.clear();
                }
                let is_new = self.known.insert(who.clone());
                if why == Why::First && !is_new {
                    continue;
                }
            }
            // Of strangers, who choose what they ask for, only why is told apart.
            let what = if decision.subject.is_some() {
                format!("{} {}", decision.method, decision.path)
            } else {
                String::new()
            };
            let key = format!("{who:?} {what} {:?} {}", decision.verdict, decision.reason);
            match alike.get_mut(&key) {
                Some(before) => *before = Decision { count: before.count + 1, ..decision },
                None => {
                    order.push(key.clone());
                    alike.insert(key, decision);
                }
            }
        }
        order.into_iter().filter_map(|key| alike.remove(&key)).collect()
    }

    async fn send(&mut self, decisions: Vec<Decision>) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        let count: u64 = decisions.iter().map(|decision| decision.count).sum();
        let report = GateReport { resource: self.resource.clone(), decisions, lost };
        if let Err(error) = self.client.gate_report(&report).await {
            // Whether it was written is not known, and twice would say what never was.
            warn!(%error, decisions = count, "decisions are missing in the history");
            self.lost.fetch_add(lost + count, Ordering::Relaxed);
            sleep(PAUSE.max(error.retry_after().unwrap_or_default())).await;
        }
    }
}
