//! Reading what stands, or what stood at some time that a query names.

use super::{Context, failure::Failure};
use crate::{
    model::{At, Fields, Invalid, Timestamp},
    store::{Refusal, State},
};

/// When a query asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    Now,
    Past(At),
}

impl Moment {
    pub(super) fn from_fields(fields: &mut Fields) -> Result<Self, Failure> {
        match fields.parsed("at")? {
            None => Ok(Self::Now),
            Some(At::Time(time)) if time > Timestamp::now() => {
                let invalid = Invalid::new(time, "lies in the future", "use a time that is past, or a revision");
                Err(invalid.in_field("at").into())
            }
            Some(at) => Ok(Self::Past(at)),
        }
    }

    /// Looks at everything that stands or stood then.
    pub(super) async fn read<T>(self, context: &Context, look: impl FnOnce(&State) -> T) -> Result<T, Failure> {
        let Self::Past(at) = self else { return Ok(context.store.read(look)) };
        if let At::Revision(revision) = at {
            context.store.reach(revision).await;
        }
        let store = context.store.clone();
        let reading = tokio::task::spawn_blocking(move || store.past(at)).await;
        let state = reading.map_err(|error| Refusal::Store(error.to_string()))??;
        Ok(look(&state))
    }
}
