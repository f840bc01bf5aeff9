//! The one writer: many queued writes, one transaction, one wait for the disk, then all answers.
//!
//! While it waits for the disk the next writes queue up, so the number of writes per transaction follows the load. It works
//! on a state of its own that is ahead of the published one by what is not on disk yet; readers and watches see a revision
//! only when it is.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tracing::error;

use super::{
    Shared,
    database::{Commit, Database, DatabaseError, GivenAnswer},
    delta::{Delta, changes_json},
    plan::{Answer, Command, Plan, plan},
    principal::Principal,
    refusal::Refusal,
    state::State,
};
use crate::model::{Change, ETag, NodeName, Timestamp};

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
}

impl Write {
    pub fn new(command: Command, by: Principal) -> Self {
        Self { command, by, if_match: None, idempotency: None, dry_run: false }
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

pub(super) struct Writer {
    pub(super) database: Database,
    pub(super) state: State,
    pub(super) shared: Arc<Shared>,
    pub(super) jobs: mpsc::Receiver<Job>,
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
        while let Some(first) = self.jobs.blocking_recv() {
            let mut jobs = vec![first];
            while jobs.len() < MOST_PER_COMMIT
                && let Ok(next) = self.jobs.try_recv()
            {
                jobs.push(next);
            }
            self.do_all(jobs);
        }
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
    let plan = match plan(state, &write.command, &write.by, now) {
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
    make(state, commit, &who, now, plan, batch).map(Ok)
}

fn repeat(given: &GivenAnswer, idempotency: &Idempotency) -> Result<Result<Answer, Refusal>, DatabaseError> {
    if given.request != idempotency.request {
        return Ok(Err(Refusal::KeyReused));
    }
    Ok(Ok(serde_json::from_str(&given.answer)?))
}

/// Makes a plan's changes in the transaction and in the writer's own state.
fn make(
    state: &mut State,
    commit: &Commit<'_>,
    who: &str,
    now: Timestamp,
    plan: Plan,
    batch: &mut Batch,
) -> Result<Answer, DatabaseError> {
    if let Some((node, rows)) = plan.capacity {
        commit.set_capacity(&node, rows)?;
        state.set_capacity(node.clone(), rows);
        batch.capacities.push((node, rows));
    }
    if !plan.changes.is_empty() {
        let base = state.revision();
        let json = changes_json(&plan.changes)?;
        state.apply(base.next(), &plan.changes);
        commit.write(state.revision(), now, who, &plan.changes, &json)?;
        let delta = Delta::new(state.history(), base, state.revision(), Some(state.replica().digest()), &json);
        batch.revisions.push((delta, plan.changes));
    }
    Ok(plan.answer)
}
