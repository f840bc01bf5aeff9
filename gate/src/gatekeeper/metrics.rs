//! What is counted: requests by verdict and reason, where verdicts came from, how long authorities took, and what is open.
//! On a request's way counters are at hand, not looked up.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex, atomic::AtomicI64},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use super::refusal::Refusal;

/// The counters of a gatekeeper, shared by its workers.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    requests: Family<RequestLabels, Counter>,
    answers: Family<AnswerLabels, Counter>,
    verdicts: Family<VerdictLabels, Counter>,
    durations: Family<WorkerLabels, Histogram>,
    token_ages: Family<WorkerLabels, Histogram>,
    /// Seconds that an authority took.
    pub(crate) check_seconds: Histogram,
    /// Seconds that a permit held when it was given.
    pub(crate) permit_seconds: Histogram,
    pub(crate) log_lines_lost: Counter,
    pub(crate) connections: Gauge<i64, AtomicI64>,
    pub(crate) streams: Gauge<i64, AtomicI64>,
    pub(crate) upstream_connections: Counter,
}

/// The counters that one worker has at hand.
pub(crate) struct WorkerMetrics {
    pub(crate) all: Metrics,
    allowed: Counter,
    answers: [Counter; 6],
    pub(crate) remembered: Counter,
    pub(crate) asked: Counter,
    duration: Histogram,
    /// Seconds since a token was issued that an authority lets in.
    pub(crate) token_age: Histogram,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    verdict: Verdict,
    reason: Reason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "as labels are written")]
enum Verdict {
    allow,
    deny,
    error,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Reason {
    Allowed,
    /// Its client left before anything was answered.
    Abandoned,
    Refused(Refusal),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabels {
    class: Class,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Class(u8);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerdictLabels {
    from: Source,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "as labels are written")]
enum Source {
    cache,
    authority,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WorkerLabels {
    worker: u32,
}

impl EncodeLabelValue for Reason {
    fn encode(&self, encoder: &mut prometheus_client::encoding::LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.write_str(match self {
            Self::Allowed => "allowed",
            Self::Abandoned => "abandoned",
            Self::Refused(refusal) => refusal.word(),
        })
    }
}

impl EncodeLabelValue for Class {
    fn encode(&self, encoder: &mut prometheus_client::encoding::LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        write!(encoder, "{}xx", self.0)
    }
}

fn histogram(bounds: &[f64]) -> Histogram {
    Histogram::new(bounds.iter().copied())
}

const SECONDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
const LIFETIMES: [f64; 7] = [5.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0];

impl Metrics {
    pub fn new() -> Self {
        let metrics = Self {
            registry: Arc::default(),
            requests: Family::default(),
            answers: Family::default(),
            verdicts: Family::default(),
            durations: Family::new_with_constructor(|| histogram(&SECONDS)),
            token_ages: Family::new_with_constructor(|| histogram(&LIFETIMES)),
            check_seconds: histogram(&SECONDS),
            permit_seconds: histogram(&LIFETIMES),
            log_lines_lost: Counter::default(),
            connections: Gauge::default(),
            streams: Gauge::default(),
            upstream_connections: Counter::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&self) {
        let mut registry = self.registry();
        let gate = registry.sub_registry_with_prefix("netpol_gate");
        gate.register("requests", "Requests by verdict and reason", self.requests.clone());
        gate.register("answers", "Answers passed on, by class of status", self.answers.clone());
        gate.register("verdicts", "Verdicts by where they came from", self.verdicts.clone());
        gate.register("request_seconds", "From a head to the end of its answer", self.durations.clone());
        gate.register("check_seconds", "How long authorities took to answer", self.check_seconds.clone());
        gate.register("permit_seconds", "How long permits held when they were given", self.permit_seconds.clone());
        gate.register("token_age_seconds", "How old tokens were that authorities let in", self.token_ages.clone());
        gate.register("access_log_lost", "Lines of the access log that were dropped", self.log_lines_lost.clone());
        gate.register("connections", "Connections of clients that are open", self.connections.clone());
        gate.register("streams", "Upgraded connections that are open", self.streams.clone());
        gate.register("upstream_connections", "Connections made to the upstream", self.upstream_connections.clone());
    }

    /// Where others may register what they count.
    pub fn registry(&self) -> std::sync::MutexGuard<'_, Registry> {
        self.registry.lock().expect("nobody panics while registering")
    }

    /// All of it, as Prometheus reads it.
    pub fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry()).expect("a string takes what is written");
        text
    }

    pub(crate) fn worker(&self, worker: u32) -> WorkerMetrics {
        let labels = RequestLabels { verdict: Verdict::allow, reason: Reason::Allowed };
        let verdicts = |from| self.verdicts.get_or_create_owned(&VerdictLabels { from });
        let class = |class| self.answers.get_or_create_owned(&AnswerLabels { class: Class(class) });
        WorkerMetrics {
            all: self.clone(),
            allowed: self.requests.get_or_create_owned(&labels),
            answers: [class(0), class(1), class(2), class(3), class(4), class(5)],
            remembered: verdicts(Source::cache),
            asked: verdicts(Source::authority),
            duration: self.durations.get_or_create_owned(&WorkerLabels { worker }),
            token_age: self.token_ages.get_or_create_owned(&WorkerLabels { worker }),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl WorkerMetrics {
    pub(crate) fn passed(&self, status: u16, took: Duration) {
        self.allowed.inc();
        self.answers[usize::from(status / 100).min(5)].inc();
        self.duration.observe(took.as_secs_f64());
    }

    pub(crate) fn refused(&self, refusal: Refusal) {
        let verdict = if refusal.status().is_server_error() { Verdict::error } else { Verdict::deny };
        self.count(verdict, Reason::Refused(refusal));
    }

    pub(crate) fn abandoned(&self) {
        self.count(Verdict::error, Reason::Abandoned);
    }

    fn count(&self, verdict: Verdict, reason: Reason) {
        self.all.requests.get_or_create(&RequestLabels { verdict, reason }).inc();
    }
}
