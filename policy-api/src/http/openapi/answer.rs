//! What each endpoint answers, by the types that it is made of: a list of what the table says in words.

use serde_json::{Value, json};
use utoipa::{
    ToSchema,
    openapi::{RefOr, Schema},
};

use super::super::endpoint::Endpoint;
use crate::model::{
    App, AppAnswer, AppDeleted, Binding, CanAnswer, Certified, ChangesAnswer, CheckAnswer, Claimed, Deleted, Group,
    IdentityToken, InForce, Isolation, IsolationAnswer, IsolationDeleted, Joined, JwkSet, Layer, LookupAnswer,
    NodeAnswer, NodeDeleted, NodeView, PermissionRow, Problem, Receipt, Released, Resource, RevocationAnswer, Role,
    RuleAnswer, RuleView, Status, WhoCanAnswer,
};

/// Schemas by the names that others refer to them by.
type Named = Vec<(String, RefOr<Schema>)>;

/// A type that answers consist of.
struct Type {
    name: fn() -> String,
    collect: fn(&mut Named),
}

impl Type {
    const fn of<T: ToSchema>() -> Self {
        Self { name: || T::name().into_owned(), collect: collect::<T> }
    }
}

fn collect<T: ToSchema>(named: &mut Named) {
    named.push((T::name().into_owned(), T::schema()));
    T::schemas(named);
}

enum Shape {
    One(Type),
    /// Pages of them.
    List(Type),
    Text(&'static str),
    Anything,
}

fn shape(endpoint: &Endpoint) -> Shape {
    match (endpoint.method, endpoint.path) {
        ("get", "/v1/rules") => Shape::List(Type::of::<RuleView>()),
        ("post", "/v1/rules") => Shape::One(Type::of::<RuleAnswer>()),
        ("get", "/v1/rules/{id}") => Shape::One(Type::of::<RuleView>()),
        ("delete", "/v1/rules/{id}") => Shape::One(Type::of::<Deleted>()),
        ("post", "/v1/changes") => Shape::One(Type::of::<ChangesAnswer>()),
        ("get", "/v1/check") => Shape::One(Type::of::<CheckAnswer>()),
        ("get", "/v1/lookup") => Shape::One(Type::of::<LookupAnswer>()),
        ("get", "/v1/apps") => Shape::List(Type::of::<App>()),
        ("put", "/v1/apps/{name}") => Shape::One(Type::of::<AppAnswer>()),
        ("delete", "/v1/apps/{name}") => Shape::One(Type::of::<AppDeleted>()),
        ("get", "/v1/groups") => Shape::List(Type::of::<Group>()),
        ("post", "/v1/isolations") => Shape::One(Type::of::<IsolationAnswer>()),
        ("get", "/v1/isolations") => Shape::List(Type::of::<Isolation>()),
        ("delete", "/v1/isolations/{app}" | "/v1/isolations/{app}/{instance}") => {
            Shape::One(Type::of::<IsolationDeleted>())
        }
        ("get", "/v1/instances" | "/v1/bindings") => Shape::List(Type::of::<Binding>()),
        ("get", "/v1/nodes") => Shape::List(Type::of::<NodeView>()),
        ("get", "/v1/layers") => Shape::List(Type::of::<Layer>()),
        ("get", "/v1/layers/{layer}") => Shape::One(Type::of::<Layer>()),
        ("get", "/v1/roles") => Shape::List(Type::of::<Role>()),
        ("get", "/v1/roles/{role}") => Shape::One(Type::of::<Role>()),
        ("get", "/v1/resources") => Shape::List(Type::of::<Resource>()),
        ("get", "/v1/resources/{resource}") => Shape::One(Type::of::<Resource>()),
        ("get", "/v1/can") => Shape::One(Type::of::<CanAnswer>()),
        ("get", "/v1/who-can") => Shape::One(Type::of::<WhoCanAnswer>()),
        ("get", "/v1/permissions") => Shape::List(Type::of::<PermissionRow>()),
        ("get", "/v1/status") => Shape::One(Type::of::<Status>()),
        ("get", "/v1/revisions/{revision}") => Shape::One(Type::of::<InForce>()),
        ("get", "/v1/receipts") => Shape::One(Type::of::<Receipt>()),
        ("post", "/v1/nodes/{name}/join") => Shape::One(Type::of::<Joined>()),
        ("post", "/v1/nodes/{name}/certificate") => Shape::One(Type::of::<Certified>()),
        ("put", "/v1/nodes/{name}") => Shape::One(Type::of::<NodeAnswer>()),
        ("delete", "/v1/nodes/{name}") => Shape::One(Type::of::<NodeDeleted>()),
        ("post", "/v1/bindings") => Shape::One(Type::of::<Claimed>()),
        ("delete", "/v1/bindings/{address}") => Shape::One(Type::of::<Released>()),
        ("post", "/v1/identity-tokens") => Shape::One(Type::of::<IdentityToken>()),
        ("delete", "/v1/identity-tokens/{token_id}") | ("post", "/v1/identity-tokens/revocations") => {
            Shape::One(Type::of::<RevocationAnswer>())
        }
        ("get", "/v1/jwks") => Shape::One(Type::of::<JwkSet>()),
        (_, "/healthz" | "/readyz" | "/metrics") => Shape::Text("text/plain"),
        (_, "/v1/watch" | "/v1/gate/watch") => Shape::Text("application/x-ndjson"),
        (_, _) => Shape::Anything,
    }
}

/// An endpoint's answer of this status, as a response.
pub(super) fn of(endpoint: &Endpoint, status: u16, text: &str) -> Value {
    if status == 204 {
        return json!({"description": text});
    }
    let (media, schema) = match shape(endpoint) {
        Shape::One(one) => ("application/json", refer(&one)),
        Shape::List(one) => ("application/json", list_of(&one)),
        Shape::Text(media) => (media, json!({"type": "string"})),
        Shape::Anything => ("application/json", json!({})),
    };
    json!({"description": text, "content": {media: {"schema": schema}}})
}

/// The types that answers of these endpoints consist of.
pub(super) fn types(endpoints: impl Iterator<Item = &'static Endpoint>) -> serde_json::Map<String, Value> {
    let mut named = Named::new();
    collect::<Problem>(&mut named);
    for endpoint in endpoints {
        if let Shape::One(one) | Shape::List(one) = shape(endpoint) {
            (one.collect)(&mut named);
        }
    }
    let value = |(name, schema): (String, RefOr<Schema>)| Some((name, serde_json::to_value(schema).ok()?));
    named.into_iter().filter_map(value).collect()
}

fn refer(one: &Type) -> Value {
    json!({"$ref": format!("#/components/schemas/{}", (one.name)())})
}

fn list_of(one: &Type) -> Value {
    json!({
        "type": "object",
        "properties": {
            "apiVersion": {"const": crate::model::API_VERSION}, "items": {"type": "array", "items": refer(one)},
            "revision": {"type": "integer"}, "next": {"type": "string"},
        },
        "required": ["apiVersion", "items", "revision"],
    })
}
