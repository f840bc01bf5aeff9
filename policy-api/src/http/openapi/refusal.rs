//! Which refusals an endpoint may answer with, by what it is: nothing else comes back.

use serde_json::{Map, Value, json};

use super::super::endpoint::{Access, Endpoint};
use crate::model::Problem;

/// For everybody: what cannot be read, who asks too often, a store that does not answer.
const ALL: [(u16, &str); 3] = [
    (400, "The request is wrong: `field` names what, `detail` says what would be right"),
    (429, "This caller asks too often"),
    (503, "The store does not answer; of a write nobody may know whether it was done"),
];
const OF_THE_KNOWN: [(u16, &str); 2] = [(401, "Nobody knows who asks"), (403, "The asker has no right to this")];
/// Also of a read: who asks about what stood, or about what has no one answer.
const OF_THINGS: [(u16, &str); 2] = [(404, "What is named does not exist"), (409, "It contradicts what stands")];
const OF_WRITES: [(u16, &str); 3] = [
    (412, "The rules are not in the state that `If-Match` names"),
    (413, "The body is too large"),
    (422, "The `Idempotency-Key` was used for another request"),
];

/// The refusals of an endpoint, as an operation's responses.
pub(super) fn of(endpoint: &Endpoint) -> Map<String, Value> {
    let content = json!({Problem::MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}});
    let describe = |(status, text): &(u16, &str)| {
        (status.to_string(), json!({"description": format!("{text}; nothing was changed"), "content": content}))
    };
    let known = if endpoint.access == Access::Open { &[][..] } else { &OF_THE_KNOWN };
    let writes = if endpoint.method == "get" { &[][..] } else { &OF_WRITES };
    // Even an open path may name a thing, and be asked by somebody who has no right to it.
    let named = if endpoint.path.contains('{') { &OF_THE_KNOWN[..] } else { &[] };
    [&ALL[..], known, named, &OF_THINGS, writes].into_iter().flatten().map(describe).collect()
}
