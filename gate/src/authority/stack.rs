//! Authorities one above the other: the first that knows the credential decides, and what nobody knows is refused.

use std::{pin::Pin, sync::Arc};

use super::{Answer, Denial, Question};

/// An answer that is being found.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

/// Somebody who answers questions. Asked once for many requests (`verdict_cache`), so that it may take its time, and boxes.
pub trait Authority: Send + Sync {
    fn check<'a>(&'a self, question: Question<'a>) -> Answering<'a>;
}

/// Authorities in the order in which they are asked.
pub struct Stack(Vec<Arc<dyn Authority>>);

impl Stack {
    pub fn new(authorities: Vec<Arc<dyn Authority>>) -> Self {
        Self(authorities)
    }
}

impl Authority for Stack {
    /// Never `NotMine`: a credential that nobody knows is `Denial::Unknown`. One that cannot answer whether it knows it
    /// decides too, for the next one must not be more lenient than the one that was to be asked.
    fn check<'a>(&'a self, question: Question<'a>) -> Answering<'a> {
        Box::pin(async move {
            for authority in &self.0 {
                match authority.check(question).await {
                    Answer::NotMine => {}
                    answer @ (Answer::Allow(_) | Answer::Deny(_) | Answer::Forbid(_) | Answer::Unavailable(_)) => {
                        return answer;
                    }
                }
            }
            Answer::Deny(Denial::Unknown)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::authority::{Credential, Outage, Permit, Scheme};

    struct Says(Answer);

    impl Authority for Says {
        fn check<'a>(&'a self, _question: Question<'a>) -> Answering<'a> {
            Box::pin(async move { self.0.clone() })
        }
    }

    fn allow() -> Answer {
        Answer::Allow(Arc::new(Permit::new("host:ci-1".parse().expect("a subject"), None, Instant::now())))
    }

    async fn ask(answers: Vec<Answer>) -> Answer {
        let authorities = answers.into_iter().map(|answer| Arc::new(Says(answer)) as Arc<dyn Authority>);
        let stack = Stack::new(authorities.collect());
        let (privilege, resource) = ("read".parse().expect("a privilege"), "r".parse().expect("a resource"));
        let credential = Credential { scheme: Scheme::Bearer, token: "t" };
        stack.check(Question { credential, privilege: &privilege, resource: &resource }).await
    }

    #[tokio::test]
    async fn the_first_that_knows_the_credential_decides() {
        let answer = ask(vec![Answer::NotMine, Answer::Deny(Denial::Revoked), allow()]).await;
        assert!(matches!(answer, Answer::Deny(Denial::Revoked)), "{answer:?}");
        assert!(matches!(ask(vec![Answer::NotMine, allow()]).await, Answer::Allow(_)));
    }

    #[tokio::test]
    async fn a_credential_that_nobody_knows_is_refused() {
        assert!(matches!(ask(vec![Answer::NotMine, Answer::NotMine]).await, Answer::Deny(Denial::Unknown)));
        assert!(matches!(ask(Vec::new()).await, Answer::Deny(Denial::Unknown)));
    }

    #[tokio::test]
    async fn an_authority_that_is_away_is_not_passed_over() {
        let answer = ask(vec![Answer::Unavailable(Outage::Unreachable), allow()]).await;
        assert!(matches!(answer, Answer::Unavailable(Outage::Unreachable)), "{answer:?}");
    }
}
