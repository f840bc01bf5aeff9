//! Reads changes as they come, each in one go.
//!
//! serde's own reader of an object that says its kind in a member keeps all other members until it knows the kind, also where
//! that stands first. Snapshots consist of nothing but changes, and a thousand agents read theirs at once.

use std::{borrow::Cow, fmt, vec};

use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeSeed, Error, IgnoredAny, IntoDeserializer, MapAccess, Visitor,
        value::{BorrowedStrDeserializer, MapAccessDeserializer},
    },
};
use serde_json::Value;

use super::{change::Change, name::AppName};

/// The member that says the kind. Writers put it first; where it stands does not matter.
const KIND: &str = "kind";

impl<'de> Deserialize<'de> for Change {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Reader)
    }
}

/// A text that is copied only if it holds escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// What an isolation that ends is known by.
#[derive(Deserialize)]
struct Isolated {
    app: AppName,
    #[serde(default)]
    instance: Option<u32>,
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Change;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a change: an object with its `{KIND}`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Change, A::Error> {
        let mut before = Vec::new();
        while let Some(Text(name)) = members.next_key()? {
            if name == KIND {
                let Text(kind) = members.next_value()?;
                return of_kind(&kind, Members { before: before.into_iter(), value: None, rest: members });
            }
            before.push((name.into_owned(), members.next_value()?));
        }
        Err(A::Error::missing_field(KIND))
    }
}

fn of_kind<'de, A: MapAccess<'de>>(kind: &str, members: A) -> Result<Change, A::Error> {
    Ok(match kind {
        "put_app" => Change::PutApp { app: only("app", members)? },
        "delete_app" => Change::DeleteApp { name: only("name", members)? },
        "put_group" => Change::PutGroup { group: only("group", members)? },
        "delete_group" => Change::DeleteGroup { name: only("name", members)? },
        "put_rule" => Change::PutRule { rule: only("rule", members)? },
        "delete_rule" => Change::DeleteRule { id: only("id", members)? },
        "put_node" => Change::PutNode { node: only("node", members)? },
        "delete_node" => Change::DeleteNode { name: only("name", members)? },
        "put_binding" => Change::PutBinding { binding: only("binding", members)? },
        "delete_binding" => Change::DeleteBinding { address: only("address", members)? },
        "put_isolation" => Change::PutIsolation { isolation: only("isolation", members)? },
        "delete_isolation" => {
            let Isolated { app, instance } = Isolated::deserialize(MapAccessDeserializer::new(members))?;
            Change::DeleteIsolation { app, instance }
        }
        "put_team" => Change::PutTeam { team: only("team", members)? },
        "delete_team" => Change::DeleteTeam { name: only("name", members)? },
        "put_token" => Change::PutToken { token: only("token", members)? },
        "delete_token" => Change::DeleteToken { name: only("name", members)? },
        "put_request" => Change::PutRequest { request: only("request", members)? },
        "delete_request" => Change::DeleteRequest { id: only("id", members)? },
        "put_layer" => Change::PutLayer { layer: only("layer", members)? },
        "delete_layer" => Change::DeleteLayer { name: only("name", members)? },
        "put_role" => Change::PutRole { role: only("role", members)? },
        "delete_role" => Change::DeleteRole { name: only("name", members)? },
        "put_resource" => Change::PutResource { resource: only("resource", members)? },
        "delete_resource" => Change::DeleteResource { id: only("id", members)? },
        "put_signer_key" => Change::PutSignerKey { key: only("key", members)? },
        "delete_signer_key" => Change::DeleteSignerKey { id: only("id", members)? },
        "put_revocation" => Change::PutRevocation { revocation: only("revocation", members)? },
        "delete_revocation" => Change::DeleteRevocation { of: only("of", members)? },
        other => return Err(A::Error::custom(format_args!("unknown kind of change `{other}`"))),
    })
}

/// The one member that a reader knows; others are ignored.
fn only<'de, T: Deserialize<'de>, A: MapAccess<'de>>(wanted: &'static str, mut members: A) -> Result<T, A::Error> {
    let mut found = None;
    while let Some(Text(name)) = members.next_key()? {
        if name != wanted {
            members.next_value::<IgnoredAny>()?;
        } else if found.replace(members.next_value()?).is_some() {
            return Err(A::Error::duplicate_field(wanted));
        }
    }
    found.ok_or_else(|| A::Error::missing_field(wanted))
}

/// The members besides the kind: those that stood before it, then the rest.
struct Members<A> {
    before: vec::IntoIter<(String, Value)>,
    /// Of the member whose name was given out.
    value: Option<Value>,
    rest: A,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Members<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        let before = self.before.next().map(|(name, value)| (Text(name.into()), Some(value)));
        let next = match before {
            Some(member) => Some(member),
            None => self.rest.next_key()?.map(|name| (name, None)),
        };
        let Some((Text(name), value)) = next else { return Ok(None) };
        if name == KIND {
            return Err(A::Error::duplicate_field(KIND));
        }
        self.value = value;
        match name {
            Cow::Borrowed(name) => seed.deserialize(BorrowedStrDeserializer::new(name)).map(Some),
            Cow::Owned(name) => seed.deserialize(name.into_deserializer()).map(Some),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        match self.value.take() {
            Some(value) => seed.deserialize(value).map_err(A::Error::custom),
            None => self.rest.next_value_seed(seed),
        }
    }
}
