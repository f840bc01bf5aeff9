//! A digest over everything a watch has delivered, kept up item by item on both ends.

use std::{
    fmt::{self, Write},
    str::FromStr,
};

use sha2::{Digest as _, Sha256};

use super::{
    change::Key,
    history::Revision,
    invalid::{Invalid, text_serde},
};

/// The wrapping sum of one hash per item. A sum, so that an item can be taken out as cheaply as it was put in; it guards
/// against lost or doubled lines, not against an adversary, who would have to be the API itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest(u64);

impl Digest {
    /// Of one item alone.
    pub fn of(key: &Key, revision: Revision) -> Self {
        Self(item(key, revision))
    }

    /// With all items of another one, which has none of these.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }

    /// Without the items of another one, all of which are in this.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0.wrapping_sub(other.0))
    }

    pub fn add(&mut self, key: &Key, revision: Revision) {
        self.0 = self.0.wrapping_add(item(key, revision));
    }

    pub fn remove(&mut self, key: &Key, revision: Revision) {
        self.0 = self.0.wrapping_sub(item(key, revision));
    }
}

/// The first eight bytes of SHA-256 over `kind/key/revision`, as a big-endian number.
fn item(key: &Key, revision: Revision) -> u64 {
    let mut hashed = Hashed(Sha256::new());
    write!(hashed, "{key}/{revision}").expect("a hash takes what is written");
    hashed.0.finalize().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Hashes what is written to it: a reader of a snapshot does so for each of thousands of items.
struct Hashed(Sha256);

impl Write for Hashed {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text);
        Ok(())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Digest {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let number = (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok()).flatten();
        number.map(Self).ok_or_else(|| Invalid::new(text, "is not a digest", "use 16 hexadecimal digits"))
    }
}

text_serde!(Digest);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_items_does_not_matter_and_removal_undoes_addition() {
        let (a, b) = (Key::Rule(super::super::RuleId(1)), Key::App("web".parse().expect("name")));
        let mut one = Digest::default();
        one.add(&a, Revision(1));
        one.add(&b, Revision(2));
        let mut other = Digest::default();
        other.add(&b, Revision(2));
        other.add(&a, Revision(1));
        assert_eq!(one, other);
        one.remove(&a, Revision(1));
        one.remove(&b, Revision(2));
        assert_eq!(one, Digest::default());
    }

    #[test]
    fn the_hash_is_the_documented_one() {
        let mut digest = Digest::default();
        digest.add(&Key::Rule(super::super::RuleId(12)), Revision(7));
        // printf rule/r12/7 | sha256sum | cut -c1-16
        assert_eq!(digest.to_string(), "42fa635bca9a584f");
        assert_eq!(digest.to_string().parse(), Ok(digest));
    }
}
