//! A verdict that is known costs no memory: counted by an allocator of this program's own.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use gate::{
    authority::{Answer, Answering, Authority, Credential, Permit, Privilege, Question, Resource, Scheme, Stack},
    verdict_cache::{Verdict, VerdictCache},
};

struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all is done by the system's allocator, under the same contract; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is that of the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: it was allocated by `alloc` above, so by the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Everybody;

impl Authority for Everybody {
    fn check<'a>(&'a self, _: Question<'a>) -> Answering<'a> {
        let permit =
            Permit::new("host:ci-1".parse().expect("a subject"), None, Instant::now() + Duration::from_secs(60));
        Box::pin(async { Answer::Allow(Arc::new(permit)) })
    }
}

#[test]
fn a_hit_allocates_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let cache = VerdictCache::new(Arc::new(Stack::new(vec![Arc::new(Everybody)])));
    let (read, resource): (Privilege, Resource) =
        ("read".parse().expect("a privilege"), "production/release-bot".parse().expect("a resource"));
    let tokens: Vec<String> = (0..100).map(|number| format!("{number}{}", "x".repeat(500))).collect();
    let question = |token| {
        let credential = Credential { scheme: Scheme::Bearer, token };
        Question { credential, privilege: &read, resource: &resource }
    };
    for token in &tokens {
        assert!(matches!(runtime.block_on(cache.ask(question(token))), Verdict::Allow(_)));
    }
    let before = ALLOCATED.load(Ordering::Relaxed);
    let mut hits = 0;
    for _ in 0..100 {
        hits += tokens.iter().filter(|token| matches!(cache.known(question(token)), Some(Verdict::Allow(_)))).count();
    }
    let allocated = ALLOCATED.load(Ordering::Relaxed) - before;
    assert_eq!((hits, allocated), (10_000, 0));
}
