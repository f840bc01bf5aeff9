//! Who has an address, or had it at some time; and who else may be meant, where the clock that told the time is wrong.

use std::{fmt, net::IpAddr, time::Duration};

use axum::{
    Json,
    extract::{Request, State},
    response::{IntoResponse, Response},
};

use super::{
    Context,
    asked::{Asked, SMALL},
    failure::Failure,
};
use crate::{
    model::{Binding, BindingState, Invalid, LookupAnswer, NodeName, Timestamp},
    store::{Owners, Refusal},
};

/// What a time is worth that a node's clock may have told.
struct Doubt {
    /// The clock that may be furthest from ours, and by how many milliseconds.
    worst: Option<(NodeName, u64)>,
    others: Vec<String>,
}

impl Doubt {
    fn error_ms(&self) -> Option<u64> {
        self.worst.as_ref().map(|(_, most_ms)| *most_ms)
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((node, most_ms)) = self.worst.as_ref().filter(|_| !self.others.is_empty()) else { return Ok(()) };
        let others = self.others.join(" or ");
        write!(f, "; within {most_ms} ms, by which clocks of nodes may be wrong ({node}'s is), it was also {others}'s")
    }
}

pub(super) async fn lookup(State(context): State<Context>, request: Request) -> Result<Response, Failure> {
    let mut query = Asked::read(request, SMALL).await?.query()?;
    let at: Option<Timestamp> = query.parsed("at")?;
    let remedy = "use an address without port, like `10.255.1.7`";
    let address: Option<IpAddr> = query.standard("ip", "is not an address", remedy)?;
    let address = address.ok_or_else(|| query.missing("ip", remedy))?.to_canonical();
    query.finish()?;
    if let Some(at) = at {
        return owner_at(&context, address, at).await;
    }
    let binding = context.store.read(|state| state.binding(address).cloned());
    let binding =
        binding.ok_or_else(|| Refusal::not_found("ip", "an address of an instance", &address.to_string(), []))?;
    let text = sentence(&binding);
    let binding = Binding::clone(&binding);
    Ok(Json(LookupAnswer { text, binding, at: None, from: None, until: None, clock_error_ms: None, or: Vec::new() })
        .into_response())
}

/// Who had an address at some time; where nobody had it, the refusal says who had it before and after.
async fn owner_at(context: &Context, address: IpAddr, at: Timestamp) -> Result<Response, Failure> {
    let now = Timestamp::now();
    if at > now {
        let problem = "lies in the future";
        return Err(Refusal::from(Invalid::new(at, problem, "use a time that is past").in_field("at")).into());
    }
    let known_since = context.store.owners_known_since(now);
    let owners = owners(context, address, at).await?;
    let doubt = doubt(context, address, at, &owners).await?;
    let Some(owned) = owners.at else {
        let forgotten = known_since.filter(|since| at < *since);
        let problem = format!("{}{doubt}", nobody(&owners, forgotten));
        let remedy = "ask for another time, or for none to hear who has it now";
        let nobody = Invalid::new(format!("{address} at {at}"), problem, remedy).in_field("ip");
        return Err(Refusal::NotFound(nobody, None).into());
    };
    let (binding, from, until) = (owned.binding, owned.from, owned.until);
    let (name, node) = (binding.instance_name(), &binding.node);
    let until_text = until.map_or_else(|| "and still is".to_owned(), |until| format!("until {until}"));
    let text = format!("at {at}, {address} was {name} on node {node}: from {from} {until_text}{doubt}");
    let (clock_error_ms, or) = (doubt.error_ms(), doubt.others);
    let answer = LookupAnswer { text, binding, at: Some(at), from: Some(from), until, clock_error_ms, or };
    Ok(Json(answer).into_response())
}

async fn owners(context: &Context, address: IpAddr, at: Timestamp) -> Result<Owners, Failure> {
    let store = context.store.clone();
    let reading = tokio::task::spawn_blocking(move || store.owners(address, at)).await;
    let failed = |error: String| Refusal::Store(error);
    Ok(reading.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))?)
}

/// Whoever else had the address at a time that may have been meant.
async fn doubt(context: &Context, address: IpAddr, at: Timestamp, found: &Owners) -> Result<Doubt, Failure> {
    let worst = context.presence.worst_clock();
    let mut others = Vec::new();
    let error = Duration::from_millis(worst.as_ref().map_or(0, |(_, most_ms)| *most_ms));
    for then in [at.before(error), at.after(error)].into_iter().flatten() {
        let other = owner(&owners(context, address, then).await?);
        if other != owner(found) && !others.contains(&other) {
            others.push(other);
        }
    }
    Ok(Doubt { worst, others })
}

fn owner(owners: &Owners) -> String {
    owners.at.as_ref().map_or_else(|| "nobody".to_owned(), |owned| owned.binding.instance_name())
}

fn nobody(owners: &Owners, forgotten: Option<Timestamp>) -> String {
    let before = owners.before.as_ref().and_then(|owned| Some((owned.binding.instance_name(), owned.until?)));
    let before = before.map(|(name, until)| format!("{name} had it before, until {until}"));
    let after = owners.after.as_ref().map(|owned| (owned.binding.instance_name(), owned.from));
    let after = after.map(|(name, from)| format!("{name} has it after, from {from}"));
    let neighbours: Vec<String> = [before, after].into_iter().flatten().collect();
    match (neighbours.as_slice(), forgotten) {
        ([], None) => "was nobody's, before and ever since".to_owned(),
        (neighbours, None) => format!("was nobody's; {}", neighbours.join(", and ")),
        (_, Some(since)) => format!("is not known any more: what ended before {since} is forgotten"),
    }
}

fn sentence(binding: &Binding) -> String {
    let (address, name, node, since) = (binding.address, binding.instance_name(), &binding.node, binding.since);
    match binding.state {
        BindingState::Live => format!("{address} is {name} on node {node}, since {since}"),
        BindingState::Freed => {
            format!("{address} was {name} on node {node}; it was freed at {since} and nobody has it")
        }
    }
}
