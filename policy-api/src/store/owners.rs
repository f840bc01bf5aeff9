//! Who had an address when: intervals of ownership, kept for as long as the operator wants.

use crate::model::{Owned, Timestamp};

/// Who had an address at one time; where nobody had it, who had it before and after.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owners {
    pub at: Option<Owned>,
    pub before: Option<Owned>,
    pub after: Option<Owned>,
}

impl Owners {
    /// Of the last interval that began by then and the first that began later.
    pub(super) fn around(last: Option<Owned>, after: Option<Owned>, at: Timestamp) -> Self {
        match last {
            Some(owned) if owned.until.is_none_or(|until| until > at) => Self { at: Some(owned), ..Self::default() },
            before => Self { at: None, before, after },
        }
    }
}
