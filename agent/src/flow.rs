//! Flow events: taken off the ring, given names, kept for a while and handed to whoever listens.

use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use common::{
    DropReason, Protocol, RuleId,
    event::{Event, EventKind},
};
use nix::time::{ClockId, clock_gettime};
use policy_api::model::Overlay;
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{
    sync::{broadcast, mpsc},
    time::{MissedTickBehavior, interval},
};

use crate::{
    datapath::EventReader,
    names::{Names, Who},
    node::{NodeHandle, StateReceiver, current},
};

/// How often the ring is looked into. The programs wake nobody, because that costs more than the packet; the ring holds
/// what half a million packets a second leave between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often it is counted what was lost.
const COUNT_EVERY: Duration = Duration::from_secs(1);
const BATCH: usize = 1_024;
/// Events that stay readable after they were handed out.
const KEPT: usize = 4_096;

/// What happened to a packet, with names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FlowEvent {
    pub time: String,
    /// What happened ([`EventKind`]).
    pub kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub direction: &'static str,
    pub protocol: &'static str,
    pub source: FlowEnd,
    pub destination: FlowEnd,
    /// The rule that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The rule that would have decided otherwise, were it enforced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub would: Option<String>,
    /// What the flow carried, where it is over or cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packets: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
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

/// An event as the programs told it, and whose numbers those were then. What costs more than a connection, writing it out,
/// is done for whoever reads, not for every event.
#[derive(Clone, Debug)]
pub struct Seen {
    pub(crate) event: Event,
    pub(crate) source: Who,
    pub(crate) destination: Who,
}

/// What a reader is told.
#[derive(Clone, Debug)]
pub enum Told {
    Event(Box<Seen>),
    /// So many events were not told: a ring was full, or an endpoint said more than it may.
    Lost(u64),
}

/// Where events can be read.
#[derive(Clone)]
pub struct FlowLog {
    kept: Arc<Mutex<VecDeque<Told>>>,
    live: broadcast::Sender<Told>,
}

impl FlowLog {
    pub fn new() -> Self {
        Self { kept: Arc::default(), live: broadcast::Sender::new(KEPT) }
    }

    /// The events that are kept, oldest first, and those that follow.
    pub fn read(&self) -> (Vec<Told>, broadcast::Receiver<Told>) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.iter().cloned().collect(), self.live.subscribe())
    }

    pub(crate) fn add(&self, events: Vec<Told>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let surplus = (kept.len() + events.len()).saturating_sub(KEPT).min(kept.len());
        kept.drain(..surplus);
        let somebody_listens = self.live.receiver_count() > 0;
        for told in events {
            if somebody_listens {
                // Whoever left in the meantime misses nothing.
                let _ = self.live.send(told.clone());
            }
            kept.push_back(told);
        }
    }
}

impl Default for FlowLog {
    fn default() -> Self {
        Self::new()
    }
}

/// Takes events off the rings for ever, and tells how many were lost.
///
/// Whom this node was not told of, the policy API may know: those events go by `strangers`, as far as it takes them.
pub async fn read_events(
    mut reader: EventReader,
    state: StateReceiver,
    node: NodeHandle,
    log: FlowLog,
    overlay: Overlay,
    strangers: mpsc::Sender<Seen>,
) {
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut count = interval(COUNT_EVERY);
    count.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut names = Names::new(overlay);
    let mut lost: Option<u64> = None;
    loop {
        tokio::select! {
            _ = look.tick() => loop {
                let events = reader.drain(BATCH);
                if events.is_empty() {
                    break;
                }
                names.update(current(&state));
                let seen = events.into_iter().map(|event| names.see(event));
                log.add(seen.filter_map(|seen| tell_or_ask(seen, &strangers)).collect());
                tokio::task::yield_now().await;
            },
            _ = count.tick() => {
                let Ok(now) = node.events_lost().await else { return };
                let more = now.saturating_sub(lost.replace(now).unwrap_or(now));
                if more > 0 {
                    log.add(vec![Told::Lost(more)]);
                }
            }
        }
    }
}

/// What is told at once; nothing if it is to be asked first who somebody is. Where too much is asked already, it is told as
/// it is.
fn tell_or_ask(seen: Seen, strangers: &mpsc::Sender<Seen>) -> Option<Told> {
    if !seen.source.is_stranger() && !seen.destination.is_stranger() {
        return Some(Told::Event(Box::new(seen)));
    }
    let refused = strangers.try_send(seen).err()?;
    Some(Told::Event(Box::new(refused.into_inner())))
}

impl Seen {
    /// The event in words.
    pub fn describe(&self) -> FlowEvent {
        let event = &self.event;
        let reason = event.drop_reason().map(|reason| match reason {
            // The programs cannot know that it is somebody's; that no rule lets anybody here speak with them is why.
            Ok(DropReason::UnknownDestination) if self.destination.is_live_elsewhere() => {
                DropReason::NoRule.name().to_owned()
            }
            Ok(reason) => reason.name().to_owned(),
            Err(number) => format!("reason-{number}"),
        });
        let rule = |rule: RuleId| format!("r{}", rule.0);
        let whole = event.kind().filter(|kind| matches!(kind, EventKind::End | EventKind::Cut));
        FlowEvent {
            time: time(event.time),
            kind: event.kind().map_or("unknown", EventKind::name),
            reason,
            direction: event.direction().map_or("unknown", |direction| direction.name()),
            protocol: Protocol::from_number(event.protocol).map_or("unknown", Protocol::name),
            source: self.source.describe(event.source.ip(), event.source_port),
            destination: self.destination.describe(event.destination.ip(), event.destination_port),
            rule: event.rule().map(rule),
            would: event.would().map(rule),
            packets: whole.map(|_| event.packets),
            bytes: whole.map(|_| event.bytes),
        }
    }
}

/// A time of the clock that the programs count by, as people write it, to the millisecond.
fn time(nanoseconds: u64) -> String {
    let time = wall_time(nanoseconds);
    let whole = time.replace_nanosecond(u32::from(time.millisecond()) * 1_000_000).unwrap_or(time);
    whole.format(&Rfc3339).unwrap_or_default()
}

/// A time of the clock that the programs count by, by this node's wall clock.
pub fn wall_time(nanoseconds: u64) -> OffsetDateTime {
    OffsetDateTime::from(boot_time() + Duration::from_nanos(nanoseconds))
}

/// When the clock that the programs count by began.
fn boot_time() -> SystemTime {
    let now = SystemTime::now();
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(now, |monotonic| now - Duration::from(monotonic))
}
