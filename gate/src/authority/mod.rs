//! Who answers "may this identity do this on this resource": the words of the question, the trait of those who answer,
//! and the stack in which the first that knows the credential decides. Knows nothing of HTTP beyond the shape of a
//! credential.

mod answer;
mod question;
mod stack;

pub use answer::{Answer, Denial, Outage, Permit, SourceApp, Subject};
pub use question::{Credential, Malformed, Privilege, Question, Resource, Scheme};
pub use stack::{Answering, Authority, Stack};
