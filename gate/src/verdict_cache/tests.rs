//! What the cache promises, with authorities that count how often they are asked.

use std::sync::atomic::AtomicUsize;

use tokio::sync::{Notify, Semaphore};

use super::*;
use crate::authority::Answering;

const LONG: Duration = Duration::from_secs(60);

/// Lets tokens in that begin with `good`, each as its own subject; counts who asks.
#[derive(Default)]
struct Counting {
    asked: AtomicUsize,
    /// Answers wait until there are permits, where this is there.
    gate: Option<Semaphore>,
    lasting: Duration,
    began: Notify,
}

impl Counting {
    fn lasting(lasting: Duration) -> Arc<Self> {
        Arc::new(Self { lasting, ..Self::default() })
    }

    fn slow() -> Arc<Self> {
        Arc::new(Self { lasting: LONG, gate: Some(Semaphore::new(0)), ..Self::default() })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Authority for Counting {
    fn check<'a>(&'a self, question: Question<'a>) -> Answering<'a> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::SeqCst);
            self.began.notify_one();
            if let Some(gate) = &self.gate {
                gate.acquire().await.expect("open").forget();
            }
            match question.credential.token {
                good if good.starts_with("good") && question.privilege.as_str() == "read" => {
                    let subject = format!("host:{good}").parse().expect("subject");
                    Answer::Allow(Arc::new(Permit::new(subject, None, Instant::now() + self.lasting)))
                }
                down if down.starts_with("down") => Answer::Unavailable(Outage::Unreachable),
                _ => Answer::Deny(Denial::NotPermitted),
            }
        })
    }
}

struct Asker {
    cache: Arc<VerdictCache>,
    read: Privilege,
    create: Privilege,
    resource: Resource,
}

impl Asker {
    fn of(authority: Arc<Counting>, limits: Limits) -> Self {
        let word = |text: &str| text.parse().expect("a privilege");
        let cache = Arc::new(VerdictCache::with_limits(Arc::new(Stack::new(vec![authority])), limits));
        Self {
            cache,
            read: word("read"),
            create: word("create"),
            resource: "production/bot".parse().expect("a resource"),
        }
    }

    fn question<'a>(&'a self, token: &'a str, privilege: &'a Privilege) -> Question<'a> {
        Question { credential: Credential { scheme: Scheme::Bearer, token }, privilege, resource: &self.resource }
    }

    fn known(&self, token: &str) -> Option<Verdict> {
        self.cache.known(self.question(token, &self.read))
    }

    async fn ask(&self, token: &str) -> Verdict {
        self.cache.ask(self.question(token, &self.read)).await
    }

    async fn permit(&self, token: &str) -> Arc<Permit> {
        match self.ask(token).await {
            Verdict::Allow(permit) => permit,
            refused @ (Verdict::Deny(_) | Verdict::Forbid(_) | Verdict::Unavailable(_)) => {
                panic!("{token}: {refused:?}")
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_requests_of_a_hundred_tokens_are_a_hundred_questions() {
    let authority = Counting::lasting(LONG);
    let asker = Arc::new(Asker::of(authority.clone(), Limits::default()));
    let tasks: Vec<_> = (0..8)
        .map(|worker| {
            let asker = asker.clone();
            tokio::spawn(async move {
                for request in 0..1_250 {
                    let token = format!("good{}", (worker * 37 + request) % 100);
                    let verdict = match asker.known(&token) {
                        Some(known) => known,
                        None => asker.ask(&token).await,
                    };
                    assert!(
                        matches!(verdict, Verdict::Allow(permit) if permit.subject.as_str() == format!("host:{token}"))
                    );
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a worker");
    }
    assert_eq!(authority.asked(), 100);
    let tally = asker.cache.tally();
    assert_eq!((tally.asked, tally.hits + tally.joined), (100, 9_900));
}

#[tokio::test]
async fn who_asks_at_the_same_time_waits_for_one_answer_also_when_its_asker_hangs_up() {
    let authority = Counting::slow();
    let asker = Arc::new(Asker::of(authority.clone(), Limits::default()));
    let first = tokio::spawn({
        let asker = asker.clone();
        async move { asker.ask("good").await }
    });
    authority.began.notified().await;
    let others: Vec<_> = (0..50)
        .map(|_| {
            let asker = asker.clone();
            tokio::spawn(async move { asker.ask("good").await })
        })
        .collect();
    first.abort();
    assert!(first.await.is_err());
    authority.gate.as_ref().expect("a gate").add_permits(1);
    for other in others {
        assert!(matches!(other.await.expect("an answer"), Verdict::Allow(_)));
    }
    assert_eq!(authority.asked(), 1);
}

#[tokio::test]
async fn nothing_of_one_token_privilege_or_resource_is_found_by_another() {
    let asker = Asker::of(Counting::lasting(LONG), Limits::default());
    let _allowed = asker.permit("good").await;
    assert!(matches!(asker.known("good"), Some(Verdict::Allow(_))));
    for token in ["goo", "good ", "good\0", "Good", "goodr", "", "bgood"] {
        assert!(asker.known(token).is_none(), "{token:?}");
    }
    assert!(asker.cache.known(asker.question("good", &asker.create)).is_none(), "another privilege");
    let token = Credential { scheme: Scheme::Token, token: "good" };
    let other_form = Question { credential: token, ..asker.question("good", &asker.read) };
    assert!(asker.cache.known(other_form).is_none(), "another form");
    let (other, shifted): (Resource, Privilege) =
        ("production/bo".parse().expect("resource"), "read-x".parse().expect("privilege"));
    assert!(asker.cache.known(Question { resource: &other, ..asker.question("good", &asker.read) }).is_none());
    // What ends one part and begins the next cannot be moved.
    assert!(asker.cache.known(Question { privilege: &shifted, ..asker.question("good", &asker.read) }).is_none());
}

#[tokio::test]
async fn a_permit_is_remembered_until_it_ends_and_refusals_for_their_time() {
    let authority = Counting::lasting(Duration::from_millis(40));
    let limits =
        Limits { refusals: Duration::from_millis(40), outages: Duration::from_millis(40), ..Limits::default() };
    let asker = Asker::of(authority.clone(), limits);
    for token in ["good", "bad", "down"] {
        let before = authority.asked();
        let _first = asker.ask(token).await;
        let _again = asker.ask(token).await;
        assert_eq!(authority.asked(), before + 1, "{token} is remembered");
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(asker.known(token).is_none(), "{token} is over");
        let _later = asker.ask(token).await;
        assert_eq!(authority.asked(), before + 2, "{token} is asked again");
    }
}

#[tokio::test]
async fn a_review_takes_permits_back_that_do_not_stand_and_forgets_refusals() {
    let authority = Counting::lasting(LONG);
    let asker = Asker::of(authority.clone(), Limits::default());
    let (revoked, other) = (asker.permit("good1").await, asker.permit("good2").await);
    let _refused = asker.ask("bad").await;
    let stream = tokio::spawn({
        let revoked = revoked.clone();
        async move { revoked.revoked().await }
    });
    asker.cache.review(|permit, _, _| permit.subject.as_str() != "host:good1");
    stream.await.expect("the stream is cut");
    assert!(revoked.is_revoked() && !other.is_revoked());
    assert!(asker.known("good1").is_none() && asker.known("bad").is_none());
    assert!(asker.known("good2").is_some());
    assert_eq!(asker.cache.tally().revoked, 1);
}

#[tokio::test]
async fn an_answer_from_before_a_review_is_not_remembered_after_it() {
    let authority = Counting::slow();
    let asker = Arc::new(Asker::of(authority.clone(), Limits::default()));
    let asking = tokio::spawn({
        let asker = asker.clone();
        async move { asker.ask("good").await }
    });
    authority.began.notified().await;
    asker.cache.review(|_, _, _| true);
    authority.gate.as_ref().expect("a gate").add_permits(2);
    assert!(matches!(asking.await.expect("an answer"), Verdict::Allow(_)));
    assert_eq!(authority.asked(), 2, "it was found again");
}

#[tokio::test]
async fn who_tries_tokens_pushes_out_nobody_who_has_a_good_one_and_memory_is_bounded() {
    let limits = Limits { entries: 1_024, ..Limits::default() };
    let asker = Asker::of(Counting::lasting(LONG), limits);
    let mine = asker.permit("good").await;
    for guess in 0..20_000 {
        let _refused = asker.ask(&format!("guess{guess}")).await;
    }
    assert!(asker.known("good").is_some());
    assert!(asker.cache.len() <= 1_024 + 1_024 / 4 + 2 * SHARDS, "{}", asker.cache.len());
    // A stream that is open hears of it also when its verdict was pushed out by others.
    for other in 0..5_000 {
        let _allowed = asker.permit(&format!("good{other}")).await;
    }
    assert!(asker.known("good").is_none(), "it was pushed out");
    asker.cache.review(|permit, _, _| permit.subject.as_str() != "host:good");
    assert!(mine.is_revoked());
}

#[tokio::test]
async fn an_authority_that_hangs_is_asked_so_many_questions_at_a_time() {
    let authority = Counting::slow();
    let limits = Limits { questions: SHARDS, ..Limits::default() };
    let asker = Arc::new(Asker::of(authority.clone(), limits));
    let askers: Vec<_> = (0..1_000)
        .map(|guess| {
            let asker = asker.clone();
            tokio::spawn(async move { asker.ask(&format!("good{guess}")).await })
        })
        .collect();
    let mut busy = 0;
    authority.gate.as_ref().expect("a gate").add_permits(0);
    while asker.cache.tally().asked == 0 {
        tokio::task::yield_now().await;
    }
    authority.gate.as_ref().expect("a gate").add_permits(SHARDS);
    for asked in askers {
        busy += usize::from(matches!(asked.await.expect("an answer"), Verdict::Unavailable(Outage::Busy)));
    }
    assert!(authority.asked() <= SHARDS && busy >= 1_000 - SHARDS, "{} asked, {busy} refused", authority.asked());
}
