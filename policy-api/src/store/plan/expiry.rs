//! What ends by itself: taken away by the API's own clock, as a revision like any other.

use super::Draft;
use crate::{
    model::{Change, Deleted, Key, Target, Timestamp},
    store::{Refusal, Rights, State},
};

/// What ended, and what taking it away changes.
#[derive(Debug, Default)]
pub(in crate::store) struct Expiry {
    pub(in crate::store) rules: Vec<Deleted>,
    pub(in crate::store) isolations: Vec<Target>,
    pub(in crate::store) changes: Vec<Change>,
}

/// Who does it, as the journal names them.
pub(in crate::store) const EXPIRY: &str = "expiry";

/// Takes away what has ended by now.
pub(in crate::store) fn expire(state: &State, now: Timestamp) -> Result<Expiry, Refusal> {
    let mut draft = Draft::new(state, EXPIRY.to_owned(), Rights::all(), now);
    let (mut rules, mut isolations) = (Vec::new(), Vec::new());
    for key in state.expired(now) {
        match key {
            Key::Rule(id) => rules.push(draft.delete_rule(*id, "id")?),
            Key::Isolation(target) => {
                draft.end_isolation(target)?;
                isolations.push(target.clone());
            }
            Key::Token(name) => drop(draft.revoke_token(name)?),
            Key::Request(id) => draft.changes.push(Change::DeleteRequest { id: *id }),
            Key::SignerKey(id) => draft.changes.push(Change::DeleteSignerKey { id: id.clone() }),
            Key::Revocation(of) => draft.changes.push(Change::DeleteRevocation { of: of.clone() }),
            // Of these nothing ends by itself.
            Key::App(_) | Key::Group(_) | Key::Node(_) | Key::Binding(_) | Key::Team(_) => {}
            Key::Layer(_) | Key::Role(_) | Key::Resource(_) => {}
        }
    }
    Ok(Expiry { rules: draft.all_deleted(&rules), isolations, changes: draft.changes })
}
