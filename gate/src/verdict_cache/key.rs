//! By what a verdict is found: a digest of the token and of all else that it depends on.

use ring::digest::{Context, SHA256};

use crate::authority::{Question, Scheme};

/// SHA-256 of scheme, token, privilege and resource, each with its length ahead of it, so that no part of one can pass for
/// part of another. Tokens themselves are not kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 32]);

impl Key {
    pub(super) fn of(question: &Question<'_>) -> Self {
        let mut digest = Context::new(&SHA256);
        digest.update(match question.credential.scheme {
            Scheme::Bearer => b"b",
            Scheme::Token => b"t",
        });
        for part in [question.credential.token, question.privilege.as_str(), question.resource.as_str()] {
            digest.update(&part.len().to_le_bytes());
            digest.update(part.as_bytes());
        }
        let mut key = [0; 32];
        key.copy_from_slice(digest.finish().as_ref());
        Self(key)
    }

    /// Which of so many shards it belongs to.
    pub(super) fn shard(&self, shards: usize) -> usize {
        usize::from(self.0[0]) % shards
    }
}
