//! Flow events: taken off the ring, given names, kept for a while and handed to whoever listens.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use common::{Identity, Protocol, event::Event};
use nix::time::{ClockId, clock_gettime};
use policy_api::model::{AppName, Replica};
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{
    sync::broadcast,
    time::{MissedTickBehavior, interval},
};

use crate::{
    datapath::EventReader,
    node::{StateReceiver, current},
};

/// How often the ring is looked into. The programs wake nobody, because that costs more than the packet; the ring holds
/// what half a million packets a second leave between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const BATCH: usize = 1_024;
/// Events that stay readable after they were handed out.
const KEPT: usize = 4_096;

/// What happened to a packet, with names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FlowEvent {
    pub time: String,
    /// `drop` or `new-flow`.
    pub kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub direction: &'static str,
    pub protocol: &'static str,
    pub source: FlowEnd,
    pub destination: FlowEnd,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
}

/// One end of a flow; what is not known is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FlowEnd {
    pub ip: IpAddr,
    pub port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

/// Where events can be read.
#[derive(Clone)]
pub struct FlowLog {
    kept: Arc<Mutex<VecDeque<Arc<FlowEvent>>>>,
    live: broadcast::Sender<Arc<FlowEvent>>,
}

impl FlowLog {
    pub fn new() -> Self {
        Self { kept: Arc::default(), live: broadcast::Sender::new(KEPT) }
    }

    /// The events that are kept, oldest first, and those that follow.
    pub fn read(&self) -> (Vec<Arc<FlowEvent>>, broadcast::Receiver<Arc<FlowEvent>>) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.iter().cloned().collect(), self.live.subscribe())
    }

    fn add(&self, events: Vec<FlowEvent>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        for event in events.into_iter().map(Arc::new) {
            if kept.len() == KEPT {
                kept.pop_front();
            }
            kept.push_back(event.clone());
            // Nobody listening is fine.
            let _ = self.live.send(event);
        }
    }
}

impl Default for FlowLog {
    fn default() -> Self {
        Self::new()
    }
}

/// Takes events off the ring for ever.
pub async fn read_events(mut reader: EventReader, state: StateReceiver, log: FlowLog) {
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        loop {
            let events = reader.drain(BATCH);
            if events.is_empty() {
                break;
            }
            let state = current(&state);
            let names = Names::new(state.as_deref().map(|(_, replica)| replica));
            log.add(events.iter().map(|event| names.describe(event)).collect());
            tokio::task::yield_now().await;
        }
    }
}

/// What numbers are called right now.
struct Names<'a> {
    replica: Option<&'a Replica>,
    apps: HashMap<Identity, &'a AppName>,
    boot: SystemTime,
}

impl<'a> Names<'a> {
    fn new(replica: Option<&'a Replica>) -> Self {
        let apps = replica.into_iter().flat_map(|replica| replica.apps.values()).map(|app| (app.identity, &app.name));
        Self { replica, apps: apps.collect(), boot: boot_time() }
    }

    fn describe(&self, event: &Event) -> FlowEvent {
        let (source, destination) = event.identities();
        let reason = event.drop_reason().map(|reason| match reason {
            Ok(reason) => reason.name().to_owned(),
            Err(number) => format!("reason-{number}"),
        });
        FlowEvent {
            time: self.time(event.time),
            kind: if reason.is_some() { "drop" } else { "new-flow" },
            reason,
            direction: event.direction().map_or("unknown", |direction| direction.name()),
            protocol: Protocol::from_number(event.protocol).map_or("unknown", Protocol::name),
            source: self.end(event.source.ip(), event.source_port, source),
            destination: self.end(event.destination.ip(), event.destination_port, destination),
            rule: event.rule().map(|rule| format!("r{}", rule.0)),
        }
    }

    /// An end by its proven identity; instance and node only where the address is placed with the same identity.
    fn end(&self, ip: IpAddr, port: u16, identity: Identity) -> FlowEnd {
        let binding = self
            .replica
            .and_then(|replica| replica.bindings.get(&ip))
            .filter(|binding| binding.identity == identity || identity == Identity::UNKNOWN);
        let app = match identity {
            Identity::HOST => Some("host".to_owned()),
            Identity::UNKNOWN => binding.map(|binding| binding.app.to_string()),
            _ => self.apps.get(&identity).map(ToString::to_string),
        };
        FlowEnd {
            ip,
            port,
            app,
            instance: binding.map(|binding| binding.instance_name()),
            node: binding.map(|binding| binding.node.to_string()),
        }
    }

    fn time(&self, nanoseconds: u64) -> String {
        let time = self.boot + Duration::from_nanos(nanoseconds);
        let time = OffsetDateTime::from(time).replace_nanosecond(0).map_or(time.into(), |whole| {
            whole + Duration::from_millis(u64::from(OffsetDateTime::from(time).millisecond()))
        });
        time.format(&Rfc3339).unwrap_or_default()
    }
}

/// When the clock that the programs count by began.
fn boot_time() -> SystemTime {
    let now = SystemTime::now();
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(now, |monotonic| now - Duration::from(monotonic))
}
