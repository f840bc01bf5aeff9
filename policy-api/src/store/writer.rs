//! The one writer of this process: many queued writes, one transaction, one wait for it to be durable, then all answers.
//!
//! While it waits the next writes queue up, so the number of writes per transaction follows the load. It works on a state
//! of its own that is ahead of the published one by what is not durable yet; readers and watches see a revision only when
//! it is. Where others write too, it follows them: what was planned on a state that is not the last one is planned again.
//! It also takes away what has ended, and makes counts of usage durable from time to time.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    runtime::Runtime,
    sync::{Notify, mpsc, oneshot},
    time::sleep,
};
use tracing::{error, info, warn};

use super::{
    Shared, chain,
    delta::changes_json,
    engine::{AnswerKey, Batch, Engine, Entry, GivenAnswer, Heard, Outcome},
    error::DatabaseError,
    note::Due,
    plan::{Answer, Command, EXPIRY, Expiry, expire, plan},
    principal::Principal,
    refusal::Refusal,
    retention::{Limit, Retention},
    state::State,
};
use crate::model::{Change, ETag, HistoryEntry, Origin, Revision, Timestamp};

/// A request to the store.
#[derive(Clone, Debug)]
pub struct Write {
    pub command: Command,
    pub by: Principal,
    /// Where it came from, and why it was asked for.
    pub origin: Origin,
    /// The state of the rules that the asker wants to change.
    pub if_match: Option<ETag>,
    pub idempotency: Option<Idempotency>,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
    /// The last revision that every registered node has acknowledged, where the asker knows.
    pub acknowledged: Option<Revision>,
}

impl Write {
    pub fn new(command: Command, by: Principal) -> Self {
        Self {
            command,
            by,
            origin: Origin::default(),
            if_match: None,
            idempotency: None,
            dry_run: false,
            acknowledged: None,
        }
    }
}

/// A key under which the same request gets the same answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    pub key: String,
    /// A hash of the request.
    pub request: [u8; 32],
}

/// A write, and where its answer goes.
pub(super) struct Job {
    pub(super) write: Write,
    pub(super) answer: oneshot::Sender<Result<Answer, Refusal>>,
}

/// Writes per transaction: bounds how long the first waits for the last.
const MOST_PER_COMMIT: usize = 512;

/// How long it sleeps at most if nobody asks: so often counts reach the disk, and so soon it sees that the clock was set.
const NAP: Duration = Duration::from_secs(2);

/// How long what is in no hurry waits for company.
const COMPANY: Duration = Duration::from_millis(200);

/// How often what is old is forgotten.
const BETWEEN_FORGETTING: Duration = Duration::from_secs(600);

/// How long to wait before trying again what the engine could not do: whatever ails it is not helped by haste.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Writer {
    /// For waiting with an end.
    runtime: Runtime,
    engine: Box<dyn Engine>,
    bell: Arc<Notify>,
    state: State,
    shared: Arc<Shared>,
    jobs: mpsc::Receiver<Job>,
    /// Taken from the queue, but not done yet.
    waiting: VecDeque<Job>,
    retention: Retention,
    clock: Clock,
}

/// Tells the time by which things end.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Why the writer's loop goes on.
enum Woken {
    /// What was asked for waits to be done.
    Asked,
    /// Others may have done something, or time has passed.
    Otherwise,
    /// Nobody can ask any more.
    Left,
}

impl Writer {
    pub(super) fn new(
        runtime: Runtime,
        engine: Box<dyn Engine>,
        state: State,
        shared: Arc<Shared>,
        jobs: mpsc::Receiver<Job>,
        retention: Retention,
        clock: Clock,
    ) -> Self {
        let bell = engine.bell();
        Self { runtime, engine, bell, state, shared, jobs, waiting: VecDeque::new(), retention, clock }
    }

    /// Works until nobody can ask any more.
    pub(super) fn run(mut self) {
        let mut kept = Instant::now();
        self.forget();
        let mut forgotten = Instant::now();
        loop {
            self.hear();
            self.end_what_has_ended();
            self.write_notes();
            match self.wait() {
                Woken::Asked => {
                    self.await_company();
                    self.do_queued();
                }
                Woken::Otherwise => {}
                Woken::Left => break,
            }
            if forgotten.elapsed() >= BETWEEN_FORGETTING {
                self.forget();
                forgotten = Instant::now();
            }
            if kept.elapsed() >= NAP {
                self.keep_usage();
                self.tidy();
                kept = Instant::now();
            }
        }
        self.keep_usage();
        self.write_notes();
    }

    fn wait(&mut self) -> Woken {
        if !self.waiting.is_empty() {
            return Woken::Asked;
        }
        let (nap, bell, noted) = (self.nap(), &self.bell, &self.shared.noted);
        // Made inside: a timer belongs to the runtime that it is made in.
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = bell.notified() => Woken::Otherwise,
                () = noted.notified() => Woken::Otherwise,
                job = self.jobs.recv() => match job {
                    Some(job) => {
                        self.waiting.push_back(job);
                        Woken::Asked
                    }
                    None => Woken::Left,
                },
                () = sleep(nap) => Woken::Otherwise,
            }
        })
    }

    /// As long as nothing is asked for that is in a hurry, more may come that shares its commit.
    fn await_company(&mut self) {
        let end = Instant::now() + COMPANY;
        while self.waiting.len() < MOST_PER_COMMIT && self.waiting.iter().all(|job| job.write.command.can_wait()) {
            match self.wait_until(end) {
                Woken::Asked => {}
                // What others did is in a hurry.
                Woken::Otherwise if Instant::now() < end => self.hear(),
                Woken::Otherwise | Woken::Left => return,
            }
        }
    }

    /// Waits for the next job, or for what others did.
    fn wait_until(&mut self, end: Instant) -> Woken {
        let (jobs, waiting, bell) = (&mut self.jobs, &mut self.waiting, &self.bell);
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = bell.notified() => Woken::Otherwise,
                job = jobs.recv() => match job {
                    Some(job) => {
                        waiting.push_back(job);
                        Woken::Asked
                    }
                    None => Woken::Left,
                },
                () = sleep(end.saturating_duration_since(Instant::now())) => Woken::Otherwise,
            }
        })
    }

    /// Forgets what is past for longer than it is kept.
    fn forget(&mut self) {
        self.forget_owners();
        self.forget_history();
    }

    fn forget_owners(&mut self) {
        let Some(before) = (self.clock)().before(self.retention.owners) else { return };
        match self.engine.forget_owners(before) {
            Ok(0) => {}
            Ok(intervals) => info!(intervals, %before, "forgot who had addresses that were given up before"),
            Err(failure) => error!(error = %failure, "cannot forget old owners of addresses; trying again"),
        }
    }

    fn forget_history(&mut self) {
        let Some(before) = (self.clock)().before(self.retention.history) else { return };
        match self.engine.forget_history(&Limit { before, most_bytes: self.retention.history_bytes }) {
            Ok(0) => {}
            Ok(entries) => info!(entries, %before, "forgot the oldest entries of the history"),
            Err(failure) => error!(error = %failure, "cannot forget the oldest entries of the history; trying again"),
        }
    }

    fn tidy(&mut self) {
        if let Err(failure) = self.engine.tidy(&self.state) {
            warn!(error = %failure, "cannot make room of what nobody needs any more; trying again");
        }
        let follows = self.engine.is_following();
        self.shared.note_following(follows);
        if !follows {
            self.shared.failed();
        } else if !self.shared.is_healthy() && self.engine.has_recovered() {
            self.shared.succeeded();
        }
    }

    /// Until the next end of something.
    fn nap(&self) -> Duration {
        let next = self.state.next_expiry().map(|end| (self.clock)().until(end));
        // At least a moment: a clock that stands must not make a busy loop.
        next.map_or(NAP, |wait| wait.clamp(Duration::from_millis(1), NAP))
    }

    /// Follows what others did.
    fn hear(&mut self) {
        if let Err(failure) = self.follow() {
            error!(error = %failure, "cannot follow what others wrote; trying again");
            self.shared.failed();
            std::thread::sleep(PAUSE);
        }
    }

    fn follow(&mut self) -> Result<(), DatabaseError> {
        for heard in self.engine.heard()? {
            match heard {
                Heard::Commit { entries, tip, capacities } => {
                    for entry in &entries {
                        self.state.apply(entry.revision, &entry.changes);
                    }
                    for (node, rows) in &capacities {
                        self.state.set_capacity(node.clone(), *rows);
                    }
                    self.state.set_tip(tip);
                    self.shared.publish(entries, tip, capacities);
                }
                Heard::Usage(node, rule, count) if self.state.rule(rule).is_some() => {
                    self.shared.usage().hear(node, rule, count);
                }
                // Of a rule that is gone.
                Heard::Usage(..) => {}
                Heard::Anew(loaded) => {
                    self.state = loaded.state.clone();
                    self.shared.begin_anew(*loaded);
                }
            }
        }
        Ok(())
    }

    fn do_queued(&mut self) {
        while self.waiting.len() < MOST_PER_COMMIT
            && let Ok(next) = self.jobs.try_recv()
        {
            self.waiting.push_back(next);
        }
        let mut jobs = std::mem::take(&mut self.waiting);
        let answers = match self.commit(&jobs) {
            Ok(answers) => answers,
            Err(failure) => {
                error!(error = %failure, writes = jobs.len(), "cannot store");
                self.take_back();
                self.shared.failed();
                if matches!(failure, DatabaseError::Unsure(_)) {
                    self.refuse_waiting();
                }
                vec![Err(failure.into()); jobs.len()]
            }
        };
        self.waiting = jobs.split_off(answers.len());
        for (job, answer) in jobs.into_iter().zip(answers) {
            // Whoever asked may have gone; what was done stays done.
            let _gone = job.answer.send(answer);
        }
    }

    /// Refuses what came while the engine was silent: its askers have waited as long as anybody should, and nothing was done.
    fn refuse_waiting(&mut self) {
        while let Ok(job) = self.jobs.try_recv() {
            let silent = Refusal::Store("it does not answer; nothing was tried".to_owned());
            // Whoever asked may have gone.
            let _gone = job.answer.send(Err(silent));
        }
    }

    /// Forgets what was planned but not made durable.
    fn take_back(&mut self) {
        self.state = self.shared.state();
    }

    /// Takes away what has ended by the clock, as one revision.
    fn end_what_has_ended(&mut self) {
        while self.state.next_expiry().is_some_and(|end| end <= (self.clock)()) {
            match self.commit_expiry() {
                Ok(Some(expiry)) => return tell(&expiry),
                // Somebody else may have taken it away.
                Ok(None) => self.hear(),
                Err(failure) => {
                    error!(error = %failure, "cannot take away what has ended; trying again");
                    self.take_back();
                    self.shared.failed();
                    std::thread::sleep(PAUSE);
                    return;
                }
            }
        }
    }

    /// What has ended, if nobody came before us.
    fn commit_expiry(&mut self) -> Result<Option<Expiry>, DatabaseError> {
        let mut batch = Batch::new((self.clock)());
        let mut expiry =
            expire(&self.state, batch.time).map_err(|refusal| DatabaseError::Damaged(refusal.to_string()))?;
        let origin = Origin::default();
        make(&mut self.state, EXPIRY, &origin, std::mem::take(&mut expiry.changes), &mut batch)?;
        match self.engine.commit(&batch, self.state.head())? {
            Outcome::Done => {
                self.shared.publish(batch.entries, self.state.tip(), batch.capacities);
                Ok(Some(expiry))
            }
            Outcome::Behind => {
                self.take_back();
                Ok(None)
            }
        }
    }

    /// Writes what is to be in the journal besides revisions. Where that fails it is lost, and the log says so.
    fn write_notes(&mut self) {
        let due = self.shared.notes().take_due(Instant::now());
        if due.is_empty() {
            return;
        }
        match self.commit_notes(&due) {
            Ok(()) => due.written(),
            Err(failure) => {
                error!(error = %failure, "cannot write who was refused what, or what is in force");
                self.take_back();
                self.shared.failed();
            }
        }
    }

    fn commit_notes(&mut self, due: &Due) -> Result<(), DatabaseError> {
        loop {
            let mut batch = Batch::new((self.clock)());
            let mut tip = self.state.tip();
            for entry in due.entries(batch.time, self.state.revision(), tip.in_force) {
                batch.lines.push(tip.append(entry)?);
            }
            if batch.is_empty() {
                return Ok(());
            }
            self.state.set_tip(tip);
            match self.engine.commit(&batch, self.state.head())? {
                Outcome::Done => {
                    self.shared.publish(batch.entries, tip, batch.capacities);
                    return Ok(());
                }
                Outcome::Behind => {
                    self.take_back();
                    self.follow()?;
                }
            }
        }
    }

    /// Makes counts of usage durable. They are no part of any answer, so that a failure only delays them.
    fn keep_usage(&mut self) {
        let unwritten = self.shared.usage().take_unwritten();
        if unwritten.is_empty() {
            return;
        }
        if let Err(failure) = self.engine.write_usage(&unwritten) {
            error!(error = %failure, "cannot store what rules are used for; trying again");
            self.shared.usage().put_back(unwritten);
        }
    }

    /// Does writes in one transaction; answers the first ones, as many as fit into it.
    fn commit(&mut self, jobs: &VecDeque<Job>) -> Result<Vec<Result<Answer, Refusal>>, DatabaseError> {
        let keys: Vec<AnswerKey> = jobs.iter().filter_map(|job| answer_key(&job.write)).collect();
        loop {
            // Looked up anew after each time that we were behind: somebody else may have been asked the same.
            let given = keys.iter().cloned().zip(self.engine.given_answers(&keys)?);
            let mut given: HashMap<AnswerKey, GivenAnswer> =
                given.filter_map(|(key, given)| Some((key, given?))).collect();
            let mut batch = Batch::new((self.clock)());
            let mut answers = Vec::new();
            for Job { write, .. } in jobs {
                if !answers.is_empty() && batch.effects() >= self.engine.room() {
                    break;
                }
                answers.push(do_one(&mut self.state, write, &mut given, &mut batch)?);
            }
            match self.engine.commit(&batch, self.state.head())? {
                Outcome::Done => {
                    if !batch.is_empty() {
                        self.shared.publish(batch.entries, self.state.tip(), batch.capacities);
                    }
                    return Ok(answers);
                }
                Outcome::Behind => {
                    self.take_back();
                    self.follow()?;
                }
            }
        }
    }
}

fn answer_key(write: &Write) -> Option<AnswerKey> {
    let idempotency = write.idempotency.as_ref()?;
    Some(AnswerKey { who: write.by.to_string(), key: idempotency.key.clone() })
}

/// Plans one write behind those of the batch. An inner error is the asker's, an outer one takes the whole batch back.
fn do_one(
    state: &mut State,
    write: &Write,
    given: &mut HashMap<AnswerKey, GivenAnswer>,
    batch: &mut Batch,
) -> Result<Result<Answer, Refusal>, DatabaseError> {
    let key = answer_key(write).zip(write.idempotency.as_ref());
    if let Some((key, idempotency)) = &key
        && let Some(given) = given.get(key)
    {
        return repeat(given, idempotency);
    }
    if write.if_match.as_ref().is_some_and(|expected| *expected != state.etag()) {
        return Ok(Err(Refusal::Precondition(state.etag())));
    }
    let plan = match plan(state, &write.command, &write.by, batch.time, write.acknowledged) {
        Ok(plan) => plan,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if write.dry_run {
        return Ok(Ok(plan.answer.into_dry_run()));
    }
    if let Some((key, idempotency)) = key {
        let answer =
            GivenAnswer { request: idempotency.request.to_vec(), answer: serde_json::to_string(&plan.answer)? };
        given.insert(key.clone(), answer.clone());
        batch.answers.push((key, answer));
    }
    if let Some((node, rows)) = plan.capacity {
        state.set_capacity(node.clone(), rows);
        batch.capacities.push((node, rows));
    }
    make(state, &write.by.to_string(), &origin_of(write), plan.changes, batch)?;
    Ok(Ok(plan.answer))
}

fn repeat(given: &GivenAnswer, idempotency: &Idempotency) -> Result<Result<Answer, Refusal>, DatabaseError> {
    if given.request != idempotency.request {
        return Ok(Err(Refusal::KeyReused));
    }
    Ok(Ok(serde_json::from_str(&given.answer)?))
}

/// Says what has ended, and what still allows the pair.
fn tell(expiry: &Expiry) {
    for ended in &expiry.rules {
        let still: Vec<String> = ended.still_allowed_by.iter().map(|rule| rule.id.to_string()).collect();
        let (rule, still) = (&ended.rule, still.join(","));
        info!(
            rule = %rule.id, source = %rule.source, destination = %rule.destination, revision = %ended.revision,
            still_allowed_by = %still, "a rule has expired"
        );
    }
    for target in &expiry.isolations {
        info!(%target, "an isolation has expired");
    }
}

/// Where a write came from; it is made for the reason that it gives a rule or an isolation, where it has no other.
fn origin_of(write: &Write) -> Origin {
    let of_command = || match &write.command {
        Command::PutRule(spec) => spec.reason.clone(),
        Command::Isolate(spec) => spec.reason.clone(),
        _ => None,
    };
    let reason = write.origin.reason.clone().or_else(of_command);
    Origin { reason, ..write.origin.clone() }
}

/// Makes changes in the writer's own state and in the batch: one revision, or none if there are no changes.
fn make(
    state: &mut State,
    who: &str,
    origin: &Origin,
    changes: Vec<Change>,
    batch: &mut Batch,
) -> Result<(), DatabaseError> {
    if changes.is_empty() {
        return Ok(());
    }
    let (entry, mut tip) = (chain::revision(state, &changes, who, origin, batch.time), state.tip());
    let json = changes_json(&changes)?;
    state.apply(entry.revision, &changes);
    let digest = Some(state.replica().digest());
    batch.lines.push(tip.append(HistoryEntry { digest, ..entry })?);
    state.set_tip(tip);
    batch.entries.push(Entry { revision: state.revision(), time: batch.time, changes, json });
    Ok(())
}
