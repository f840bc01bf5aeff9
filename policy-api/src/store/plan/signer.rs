//! The signer's keys: when one is missing, the one that was made for it stands. Of several APIs that notice at once the first
//! one's key stands, as all of them plan on the same order.

use std::sync::Arc;

use super::{Answer, Draft};
use crate::{
    model::{Change, Due, NewSignerKey, next_key},
    store::{Principal, Refusal},
};

impl Draft<'_> {
    /// Makes the key stand if one is due; else somebody else's stands already, and this one is nobody's.
    pub(super) fn rotate_signer(&mut self, by: &Principal, new: &NewSignerKey) -> Result<Answer, Refusal> {
        permit_itself(by)?;
        let keys = self.state.replica().signer_keys.values().map(AsRef::as_ref);
        if let Due::Now { signs_from } = next_key(keys, self.now, new.lifetime) {
            let key = new.signing_from(signs_from, self.revision).ok_or(Refusal::Exhausted("points in time"))?;
            self.changes.push(Change::PutSignerKey { key: Arc::new(key) });
        }
        Ok(Answer::Done)
    }

    /// Takes all keys away: what was signed with them is good no longer.
    pub(super) fn give_up_signer(&mut self, by: &Principal) -> Result<Answer, Refusal> {
        permit_itself(by)?;
        let ids = self.state.replica().signer_keys.keys().cloned();
        self.changes.extend(ids.map(|id| Change::DeleteSignerKey { id }));
        Ok(Answer::Done)
    }
}

fn permit_itself(by: &Principal) -> Result<(), Refusal> {
    match by {
        Principal::Itself => Ok(()),
        Principal::Operator | Principal::User(_) | Principal::Node(_) | Principal::Joining(..) => {
            let problem = "cannot make keys of the signer".to_owned();
            Err(Refusal::forbidden("Authorization", by, problem, "leave that to the policy API"))
        }
    }
}
