//! Seals: each is a hash over the seal before it and a line, so that whoever knows one knows whether anything up to there was
//! changed since.

use std::{fmt, str::FromStr};

use sha2::{Digest as _, Sha256};

use super::{
    hex::{bytes_of, hex},
    invalid::{Invalid, text_serde},
};

/// What an entry is sealed with: 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seal([u8; 32]);

impl Seal {
    /// Of a line behind the one with this seal.
    #[must_use]
    pub fn next(self, line: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update(line.as_bytes());
        Self(hash.finalize().into())
    }

    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub fn of_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl FromStr for Seal {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let refuse =
            || Invalid::new(text, "is not a seal", "use the 64 hexadecimal digits that `netpol history` shows");
        bytes_of(text).map(Self).ok_or_else(refuse)
    }
}

text_serde!(Seal);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_depends_on_all_that_came_before() {
        let seal = Seal::default().next("a").next("b");
        assert_ne!(seal, Seal::default().next("b").next("a"));
        assert_ne!(seal, Seal::default().next("ab"));
        assert_eq!(seal.to_string().parse(), Ok(seal));
        for bad in ["", "00", &"zz".repeat(32), &"0".repeat(63), &"é".repeat(32)] {
            assert!(bad.parse::<Seal>().is_err(), "{bad}");
        }
    }
}
