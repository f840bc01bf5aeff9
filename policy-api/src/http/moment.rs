//! Reading what stands, or what stood at some time that a query names.

use super::{Context, failure::Failure};
use crate::{
    model::{At, Fields, Invalid, Timestamp},
    store::{Principal, Refusal, State, Store},
};

/// When a query asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    Now,
    Past(At),
}

impl Moment {
    /// Of the past only those may ask whom it is for: what a node must enforce is never past.
    pub(super) fn from_fields(fields: &mut Fields, by: &Principal) -> Result<Self, Failure> {
        match (fields.parsed("at")?, by) {
            (None, _) => Ok(Self::Now),
            (Some::<At>(_), Principal::Node(_) | Principal::Joining(..) | Principal::Itself) => {
                Err(Failure::not_permitted(&by.to_string(), "the operator's token to ask about the past"))
            }
            (Some(at), _) => Self::of(at),
        }
    }

    fn of(at: At) -> Result<Self, Failure> {
        match at {
            At::Time(time) if time > Timestamp::now() => {
                let invalid = Invalid::new(time, "lies in the future", "use a time that is past, or a revision");
                Err(invalid.in_field("at").into())
            }
            at => Ok(Self::Past(at)),
        }
    }

    /// Looks at everything that stands or stood then.
    pub(super) async fn read<T>(self, context: &Context, look: impl FnOnce(&State) -> T) -> Result<T, Failure> {
        let Self::Past(at) = self else { return Ok(context.store.read(look)) };
        if let At::Revision(revision) = at {
            context.store.reach(revision).await;
        }
        let state = read_past(context, move |store| store.past(at)).await?;
        Ok(look(&state))
    }
}

/// Reads what is past, which waits for the disk or the network and may take long: a few at a time.
pub(super) async fn read_past<T: Send + 'static>(
    context: &Context,
    read: impl FnOnce(&Store) -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Failure> {
    let failed = |error: String| Failure::from(Refusal::Store(error));
    let turn =
        context.readers_of_the_past.clone().acquire_owned().await.map_err(|closed| failed(closed.to_string()))?;
    let store = context.store.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let read = read(&store);
        // Kept also where nobody waits for it any more.
        drop(turn);
        read
    });
    Ok(reading.await.map_err(|error| failed(error.to_string()))??)
}
