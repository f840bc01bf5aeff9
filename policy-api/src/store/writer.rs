//! The one writer: many queued writes, one transaction, one wait for the disk, then all answers.
//!
//! While it waits for the disk the next writes queue up, so the number of writes per transaction follows the load. It works
//! on a state of its own that is ahead of the published one by what is not on disk yet; readers and watches see a revision
//! only when it is. It also takes away what has ended, and puts counts of usage on disk from time to time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    runtime::Runtime,
    sync::{mpsc, oneshot},
    time::timeout,
};
use tracing::{error, info};

use super::{
    Shared,
    database::{Commit, Database, DatabaseError, GivenAnswer},
    delta::{Delta, changes_json},
    plan::{Answer, Command, EXPIRY, Expiry, expire, plan},
    principal::Principal,
    refusal::Refusal,
    state::State,
    usage::Unwritten,
};
use crate::model::{Change, ETag, NodeName, Revision, Timestamp};

/// A request to the store.
#[derive(Clone, Debug)]
pub struct Write {
    pub command: Command,
    pub by: Principal,
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
        Self { command, by, if_match: None, idempotency: None, dry_run: false, acknowledged: None }
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

/// How often old owners of addresses are forgotten.
const BETWEEN_FORGETTING: Duration = Duration::from_secs(600);

pub(super) struct Writer {
    /// For waiting with an end.
    pub(super) runtime: Runtime,
    pub(super) database: Database,
    pub(super) state: State,
    pub(super) shared: Arc<Shared>,
    pub(super) jobs: mpsc::Receiver<Job>,
    /// How long after its end an interval of an address's ownership is kept.
    pub(super) owners_kept: Duration,
}

/// What one transaction changed, in order.
#[derive(Default)]
struct Batch {
    answers: Vec<Result<Answer, Refusal>>,
    revisions: Vec<(Delta, Vec<Change>)>,
    capacities: Vec<(NodeName, u64)>,
}

impl Writer {
    /// Works until nobody can ask any more.
    pub(super) fn run(mut self) {
        let mut kept = Instant::now();
        self.forget_owners();
        let mut forgotten = Instant::now();
        loop {
            self.end_what_has_ended();
            let nap = self.nap();
            // Made inside: a timer belongs to the runtime that it is made in.
            match self.runtime.block_on(async { timeout(nap, self.jobs.recv()).await }) {
                Ok(Some(first)) => self.do_queued(first),
                Ok(None) => break,
                Err(_) => {}
            }
            if forgotten.elapsed() >= BETWEEN_FORGETTING {
                self.forget_owners();
                forgotten = Instant::now();
            }
            if kept.elapsed() >= NAP {
                self.keep_usage();
                kept = Instant::now();
            }
        }
        self.keep_usage();
    }

    fn forget_owners(&self) {
        let Some(before) = Timestamp::now().before(self.owners_kept) else { return };
        match self.database.forget_owners(before) {
            Ok(0) => {}
            Ok(intervals) => info!(intervals, %before, "forgot who had addresses that were given up before"),
            Err(failure) => error!(error = %failure, "cannot forget old owners of addresses; trying again"),
        }
    }

    /// Until the next end of something.
    fn nap(&self) -> Duration {
        let next = self.state.next_expiry().map(|end| Timestamp::now().until(end));
        // At least a moment: a clock that stands must not make a busy loop.
        next.map_or(NAP, |wait| wait.clamp(Duration::from_millis(1), NAP))
    }

    fn do_queued(&mut self, first: Job) {
        let mut jobs = vec![first];
        while jobs.len() < MOST_PER_COMMIT
            && let Ok(next) = self.jobs.try_recv()
        {
            jobs.push(next);
        }
        self.do_all(jobs);
    }

    /// Takes away what has ended by the clock, as one revision.
    fn end_what_has_ended(&mut self) {
        if self.state.next_expiry().is_none_or(|end| end > Timestamp::now()) {
            return;
        }
        match self.commit_expiry() {
            Ok((batch, expiry)) => {
                self.shared.publish(batch.revisions, batch.capacities);
                tell(&expiry);
            }
            Err(failure) => {
                error!(error = %failure, "cannot take away what has ended; trying again");
                self.state = self.shared.failed();
                // Whatever ails the disk is not helped by trying without a pause.
                std::thread::sleep(NAP);
            }
        }
    }

    fn commit_expiry(&mut self) -> Result<(Batch, Expiry), DatabaseError> {
        let now = Timestamp::now();
        let mut expiry = expire(&self.state, now).map_err(|refusal| DatabaseError::Damaged(refusal.to_string()))?;
        let commit = self.database.begin()?;
        let mut batch = Batch::default();
        let changes = std::mem::take(&mut expiry.changes);
        make(&mut self.state, &commit, EXPIRY, now, changes, &mut batch)?;
        commit.set_head(self.state.head())?;
        commit.commit()?;
        Ok((batch, expiry))
    }

    /// Puts counts of usage on disk. They are no part of any answer, so that a failure only delays them.
    fn keep_usage(&mut self) {
        let unwritten = self.shared.usage().take_unwritten();
        if unwritten.is_empty() {
            return;
        }
        if let Err(failure) = self.write_usage(&unwritten) {
            error!(error = %failure, "cannot store what rules are used for; trying again");
            self.shared.usage().put_back(unwritten);
        }
    }

    fn write_usage(&mut self, unwritten: &Unwritten) -> Result<(), DatabaseError> {
        let commit = self.database.begin()?;
        for rule in &unwritten.forgotten {
            commit.forget_usage(*rule)?;
        }
        for (node, rule, count) in &unwritten.told {
            commit.set_usage(node, *rule, count)?;
        }
        commit.commit()
    }

    fn do_all(&mut self, jobs: Vec<Job>) {
        let writes: Vec<&Write> = jobs.iter().map(|job| &job.write).collect();
        let answers = match self.commit(&writes) {
            Ok(batch) => {
                self.shared.publish(batch.revisions, batch.capacities);
                batch.answers
            }
            Err(failure) => {
                error!(error = %failure, writes = writes.len(), "cannot store");
                self.state = self.shared.failed();
                vec![Err(Refusal::Store(failure.to_string())); writes.len()]
            }
        };
        for (job, answer) in jobs.into_iter().zip(answers) {
            // Whoever asked may have gone; what was done stays done.
            let _gone = job.answer.send(answer);
        }
    }

    fn commit(&mut self, writes: &[&Write]) -> Result<Batch, DatabaseError> {
        let now = Timestamp::now();
        let commit = self.database.begin()?;
        let mut batch = Batch::default();
        for write in writes {
            let answer = do_one(&mut self.state, &commit, write, now, &mut batch)?;
            batch.answers.push(answer);
        }
        if !batch.revisions.is_empty() {
            commit.set_head(self.state.head())?;
        }
        commit.commit()?;
        Ok(batch)
    }
}

/// Does one write within the transaction. An inner error is the asker's, an outer one takes the whole batch back.
fn do_one(
    state: &mut State,
    commit: &Commit<'_>,
    write: &Write,
    now: Timestamp,
    batch: &mut Batch,
) -> Result<Result<Answer, Refusal>, DatabaseError> {
    let who = write.by.to_string();
    if let Some(idempotency) = &write.idempotency
        && let Some(given) = commit.given_answer(&who, &idempotency.key)?
    {
        return repeat(&given, idempotency);
    }
    if write.if_match.as_ref().is_some_and(|expected| *expected != state.etag()) {
        return Ok(Err(Refusal::Precondition(state.etag())));
    }
    let plan = match plan(state, &write.command, &write.by, now, write.acknowledged) {
        Ok(plan) => plan,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if write.dry_run {
        return Ok(Ok(plan.answer.into_dry_run()));
    }
    if let Some(idempotency) = &write.idempotency {
        let given = GivenAnswer { request: idempotency.request.to_vec(), answer: serde_json::to_string(&plan.answer)? };
        commit.remember_answer(&who, &idempotency.key, &given, now)?;
    }
    if let Some((node, rows)) = plan.capacity {
        commit.set_capacity(&node, rows)?;
        state.set_capacity(node.clone(), rows);
        batch.capacities.push((node, rows));
    }
    make(state, commit, &who, now, plan.changes, batch)?;
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

/// Makes changes in the transaction and in the writer's own state: one revision, or none if there are no changes.
fn make(
    state: &mut State,
    commit: &Commit<'_>,
    who: &str,
    now: Timestamp,
    changes: Vec<Change>,
    batch: &mut Batch,
) -> Result<(), DatabaseError> {
    if changes.is_empty() {
        return Ok(());
    }
    let base = state.revision();
    let json = changes_json(&changes)?;
    state.apply(base.next(), &changes);
    commit.write(state.revision(), now, who, &changes, &json)?;
    let delta = Delta::new(state.history(), base, state.revision(), Some(state.replica().digest()), &json);
    batch.revisions.push((delta, changes));
    Ok(())
}
