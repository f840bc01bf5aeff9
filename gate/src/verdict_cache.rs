//! Answers that are remembered for a while, so that an authority is asked once for many requests.
//!
//! What is remembered belongs to one token, one privilege and one resource: their digest is the key, and nothing of one token is
//! ever found by another. Allows last as long as their permits, refusals for a few seconds; they have room of their own, so that
//! whoever tries tokens pushes out nobody who has a good one. Who authorities are and how they know is not known here.

mod generations;
mod key;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;

use self::{generations::Generations, key::Key};
use crate::authority::{
    Answer, Authority, Credential, Denial, Outage, Permit, Privilege, Question, Resource, Scheme, Stack,
};

/// What a gatekeeper does with a request. `NotMine` is no verdict: the stack turned it into a denial.
#[derive(Clone, Debug)]
#[must_use]
pub enum Verdict {
    Allow(Arc<Permit>),
    Deny(Denial),
    /// As `Denial::NotPermitted`, and known who.
    Forbid(Arc<Permit>),
    Unavailable(Outage),
}

/// How much is remembered, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Allows that are remembered at most; of refusals a quarter of that.
    pub entries: usize,
    /// How long a refusal is remembered.
    pub refusals: Duration,
    /// How long it is not asked again what could not be answered.
    pub outages: Duration,
    /// Questions that are being answered at a time. Beyond these nobody is asked.
    pub questions: usize,
}

/// What the cache has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Verdicts that were known.
    pub hits: u64,
    /// Questions that an authority was asked.
    pub asked: u64,
    /// Those who waited for an answer that somebody else had asked for.
    pub joined: u64,
    /// Permits that were taken back.
    pub revoked: u64,
}

/// Remembered answers of a stack of authorities; shared by all workers.
pub struct VerdictCache(Arc<Shared>);

struct Shared {
    stack: Arc<Stack>,
    limits: Limits,
    shards: Box<[Mutex<Shard>]>,
    /// Rises with each review: an answer that was found before one is not remembered after it.
    turn: AtomicU64,
}

/// Those keys that begin alike. Never locked for longer than a look.
struct Shard {
    allowed: Generations<Allowed>,
    refused: Generations<Refused>,
    /// Pushed out of `allowed`, and still held by streams, which have to hear when it is taken back.
    held: Vec<Allowed>,
    asking: HashMap<Key, watch::Receiver<Option<Verdict>>>,
    tally: Tally,
}

struct Allowed {
    permit: Arc<Permit>,
    privilege: Privilege,
    resource: Resource,
}

struct Refused {
    verdict: Verdict,
    until: Instant,
}

/// A power of two, well above the workers that there are.
const SHARDS: usize = 64;
/// How often an answer is looked for again that was overtaken by a review.
const TRIES: usize = 3;

impl Default for Limits {
    fn default() -> Self {
        let (refusals, outages) = (Duration::from_secs(5), Duration::from_millis(500));
        Self { entries: 65_536, refusals, outages, questions: 1_024 }
    }
}

impl VerdictCache {
    pub fn new(stack: Arc<Stack>) -> Self {
        Self::with_limits(stack, Limits::default())
    }

    pub fn with_limits(stack: Arc<Stack>, limits: Limits) -> Self {
        let shard = || Mutex::new(Shard::new(limits.entries.div_ceil(SHARDS)));
        let shards = (0..SHARDS).map(|_| shard()).collect();
        Self(Arc::new(Shared { stack, limits, shards, turn: AtomicU64::new(0) }))
    }

    /// The verdict, where it is known without waiting. On every request's way: no locks that others hold for long, and no
    /// allocation.
    pub fn known(&self, question: Question<'_>) -> Option<Verdict> {
        let key = Key::of(&question);
        let mut shard = self.0.shard(&key);
        let known = shard.known(&key, Instant::now());
        shard.tally.hits += u64::from(known.is_some());
        known
    }

    /// Asks the stack; one asks for all who want to know the same, and goes on asking if its asker hangs up.
    pub async fn ask(&self, question: Question<'_>) -> Verdict {
        let mut answer = match self.join(question) {
            Ok(answer) => answer,
            Err(known) => return known,
        };
        // Closed without an answer: whoever asked has panicked.
        let answered = answer.wait_for(Option::is_some).await.ok().and_then(|verdict| verdict.clone());
        answered.unwrap_or(Verdict::Unavailable(Outage::Unintelligible))
    }

    /// Judges anew what is remembered: a permit that does not stand is taken back, and refusals are forgotten.
    pub fn review(&self, stands: impl Fn(&Permit, &Privilege, &Resource) -> bool) {
        // Ahead of the look: what is found from now on was found by the state that `stands` knows.
        self.0.turn.fetch_add(1, Ordering::AcqRel);
        for shard in &self.0.shards {
            lock(shard).review(&stands);
        }
    }

    pub fn tally(&self) -> Tally {
        self.0.shards.iter().map(|shard| lock(shard).tally).fold(Tally::default(), Tally::plus)
    }

    /// How many verdicts are remembered.
    pub fn len(&self) -> usize {
        let count = |shard: &Mutex<Shard>| {
            let shard = lock(shard);
            shard.allowed.len() + shard.refused.len()
        };
        self.0.shards.iter().map(count).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What will be answered, by whoever asks already or else by a task of its own. Or the verdict, where somebody was faster.
    fn join(&self, question: Question<'_>) -> Result<watch::Receiver<Option<Verdict>>, Verdict> {
        let key = Key::of(&question);
        let mut shard = self.0.shard(&key);
        if let Some(known) = shard.known(&key, Instant::now()) {
            shard.tally.hits += 1;
            return Err(known);
        }
        if let Some(answer) = shard.asking.get(&key).cloned() {
            shard.tally.joined += 1;
            return Ok(answer);
        }
        if shard.asking.len() >= self.0.limits.questions.div_ceil(SHARDS) {
            return Err(Verdict::Unavailable(Outage::Busy));
        }
        let (sender, answer) = watch::channel(None);
        shard.asking.insert(key, answer.clone());
        shard.tally.asked += 1;
        drop(shard);
        tokio::spawn(Asking { shared: self.0.clone(), key }.answer(Asked::of(question), sender));
        Ok(answer)
    }
}

/// A question that is being answered; forgotten as such however that ends.
struct Asking {
    shared: Arc<Shared>,
    key: Key,
}

impl Asking {
    async fn answer(self, asked: Asked, sender: watch::Sender<Option<Verdict>>) {
        let verdict = self.shared.find(self.key, &asked).await;
        sender.send_replace(Some(verdict));
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.shared.shard(&self.key).asking.remove(&self.key);
    }
}

/// A question that outlives its request.
struct Asked {
    scheme: Scheme,
    token: Box<str>,
    privilege: Privilege,
    resource: Resource,
}

impl Asked {
    fn of(question: Question<'_>) -> Self {
        let Question { credential: Credential { scheme, token }, privilege, resource } = question;
        Self { scheme, token: token.into(), privilege: privilege.clone(), resource: resource.clone() }
    }

    fn question(&self) -> Question<'_> {
        let credential = Credential { scheme: self.scheme, token: &self.token };
        Question { credential, privilege: &self.privilege, resource: &self.resource }
    }
}

impl Shared {
    fn shard(&self, key: &Key) -> MutexGuard<'_, Shard> {
        lock(&self.shards[key.shard(SHARDS)])
    }

    /// Asks, and asks again where a review came between: what it found may not hold any more.
    async fn find(&self, key: Key, asked: &Asked) -> Verdict {
        for _ in 0..TRIES {
            let turn = self.turn.load(Ordering::Acquire);
            let verdict = Verdict::of(self.stack.check(asked.question()).await);
            if self.keep(key, asked, &verdict, turn) {
                return verdict;
            }
        }
        Verdict::Unavailable(Outage::Stale)
    }

    /// Remembers a verdict, unless it was overtaken.
    fn keep(&self, key: Key, asked: &Asked, verdict: &Verdict, turn: u64) -> bool {
        let mut shard = self.shard(&key);
        if self.turn.load(Ordering::Acquire) != turn {
            return false;
        }
        let remember = match verdict {
            Verdict::Allow(permit) => {
                shard.allow(
                    key,
                    Allowed {
                        permit: permit.clone(),
                        privilege: asked.privilege.clone(),
                        resource: asked.resource.clone(),
                    },
                );
                return true;
            }
            Verdict::Deny(_) | Verdict::Forbid(_) => self.limits.refusals,
            Verdict::Unavailable(_) => self.limits.outages,
        };
        let refused = Refused { verdict: verdict.clone(), until: Instant::now() + remember };
        drop(shard.refused.insert(key, refused));
        true
    }
}

impl Shard {
    fn new(entries: usize) -> Self {
        Self {
            allowed: Generations::holding(entries),
            refused: Generations::holding(entries.div_ceil(4)),
            held: Vec::new(),
            asking: HashMap::new(),
            tally: Tally::default(),
        }
    }

    fn known(&mut self, key: &Key, now: Instant) -> Option<Verdict> {
        if let Some(Allowed { permit, .. }) = self.allowed.get(key) {
            if now < permit.until && !permit.is_revoked() {
                return Some(Verdict::Allow(permit.clone()));
            }
            self.allowed.remove(key);
        }
        let Refused { verdict, until } = self.refused.get(key)?;
        if now < *until {
            return Some(verdict.clone());
        }
        self.refused.remove(key);
        None
    }

    fn allow(&mut self, key: Key, allowed: Allowed) {
        self.refused.remove(&key);
        let pushed_out = self.allowed.insert(key, allowed);
        let is_in_use = |allowed: &Allowed| Arc::strong_count(&allowed.permit) > 1;
        if !pushed_out.is_empty() {
            self.held.retain(is_in_use);
            self.held.extend(pushed_out.into_values().filter(is_in_use));
        }
    }

    fn review(&mut self, stands: &impl Fn(&Permit, &Privilege, &Resource) -> bool) {
        let mut revoked = 0;
        let mut judge = |Allowed { permit, privilege, resource }: &Allowed| {
            let stands = stands(permit, privilege, resource);
            if !stands {
                permit.revoke();
                revoked += 1;
            }
            stands
        };
        self.allowed.retain(&mut judge);
        self.held.retain(|allowed| Arc::strong_count(&allowed.permit) > 1 && judge(allowed));
        self.refused.clear();
        self.tally.revoked += revoked;
    }
}

impl Verdict {
    fn of(answer: Answer) -> Self {
        match answer {
            Answer::Allow(permit) => Self::Allow(permit),
            Answer::Deny(denial) => Self::Deny(denial),
            Answer::Forbid(permit) => Self::Forbid(permit),
            Answer::NotMine => Self::Deny(Denial::Unknown),
            Answer::Unavailable(outage) => Self::Unavailable(outage),
        }
    }
}

impl Tally {
    fn plus(self, other: Self) -> Self {
        Self {
            hits: self.hits + other.hits,
            asked: self.asked + other.asked,
            joined: self.joined + other.joined,
            revoked: self.revoked + other.revoked,
        }
    }
}

/// Nothing that is done under the lock leaves a shard half changed.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
