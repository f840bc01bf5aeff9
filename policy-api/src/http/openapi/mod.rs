//! The description of the API, made from the table of endpoints.
//!
//! It says all that comes back: answers and refusals of each endpoint, by status. `cargo xtask api` holds the API to it.

mod answer;
mod refusal;
mod word;

use axum::Json;
use serde_json::{Map, Value, json};

use super::endpoint::{
    Access, CLOCK, CUT, DECISION, Endpoint, LAYER, NAMED_APP, PERMISSION, Parameter, RESOURCE_SPEC, ROLE, RULE, USAGE,
    endpoints,
};

pub(super) async fn document() -> Json<Value> {
    Json(describe())
}

fn describe() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for endpoint in endpoints() {
        let path = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        path[endpoint.method] = operation(endpoint);
    }
    let mut schemas = answer::types(endpoints());
    let asked = [
        ("RuleSpec", RULE),
        ("AppWish", NAMED_APP),
        ("Cut", CUT),
        ("Clock", CLOCK),
        ("RuleUsage", USAGE),
        ("LayerSpec", LAYER),
        ("RoleSpec", ROLE),
        ("ResourceSpec", RESOURCE_SPEC),
        ("PermissionSpec", PERMISSION),
        ("Decision", DECISION),
    ];
    schemas.extend(asked.map(|(name, members)| (name.to_owned(), object(members))));
    json!({
        "openapi": "3.1.0",
        "info": {"title": "netpol policy API", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}, "certificate": {"type": "mutualTLS"}},
            "schemas": schemas,
        },
    })
}

fn operation(endpoint: &Endpoint) -> Value {
    let mut responses = refusal::of(endpoint);
    responses.extend(
        endpoint.answers.iter().map(|(status, text)| (status.to_string(), answer::of(endpoint, *status, text))),
    );
    let mut operation = json!({
        "summary": endpoint.summary,
        "description": access(endpoint.access),
        "parameters": parameters(endpoint),
        "responses": responses,
        "security": security(endpoint.access),
    });
    if !endpoint.body.is_empty() {
        operation["requestBody"] = json!({
            "required": true,
            "content": {"application/json": {"schema": object(endpoint.body)}},
        });
    }
    operation
}

fn security(access: Access) -> Value {
    match access {
        Access::Open => json!([]),
        Access::Shown => json!([{"token": []}]),
        Access::Known | Access::Joining | Access::Identity | Access::Gate => {
            json!([{"token": []}, {"certificate": []}])
        }
        Access::User => json!([{"token": []}]),
        Access::Node => json!([{"certificate": []}]),
    }
}

fn access(access: Access) -> &'static str {
    match access {
        Access::Open => "Takes no token.",
        Access::Shown => "Takes the identity token of whom it is about.",
        Access::Known => "Takes anybody's token, or a node's certificate.",
        Access::Identity => "Takes the token of a machine, a user or the operator, or a node's certificate.",
        Access::Gate => "Takes a token of role `gate`, or a node's certificate.",
        Access::User => "Takes the token of a user, a machine or the operator; their roles decide what it is good for.",
        Access::Node => "Takes the certificate of the node that it is about.",
        Access::Joining => "Takes the join token of the node that it is about, or its certificate.",
    }
}

fn parameters(endpoint: &Endpoint) -> Vec<Value> {
    let in_path = endpoint.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let in_path =
        in_path.map(|name| json!({"name": name, "in": "path", "required": true, "schema": word::in_path(name)}));
    let in_query = endpoint.query.iter().map(|parameter| {
        json!({
            "name": parameter.name, "in": "query", "required": parameter.required, "description": parameter.text,
            "schema": word::schema(parameter.name, parameter.kind),
        })
    });
    in_path.chain(in_query).collect()
}

fn object(members: &[Parameter]) -> Value {
    let mut properties: Map<String, Value> = Map::new();
    for member in members {
        let mut property = word::schema(member.name, member.kind);
        property["description"] = member.text.into();
        properties.insert(member.name.to_owned(), property);
    }
    let required: Vec<&str> = members.iter().filter(|member| member.required).map(|member| member.name).collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_is_described_with_its_parameters() {
        let document = describe();
        for endpoint in endpoints() {
            let operation = &document["paths"][endpoint.path][endpoint.method];
            assert_eq!(operation["summary"], endpoint.summary, "{}", endpoint.path);
            let in_path = endpoint.path.matches('{').count();
            let described = operation["parameters"].as_array().map_or(0, Vec::len);
            assert_eq!(described, in_path + endpoint.query.len(), "{}", endpoint.path);
        }
    }

    #[test]
    fn whatever_is_referred_to_is_described() {
        let document = describe();
        let text = document.to_string();
        let named = text.split("#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next());
        for name in named {
            assert!(document["components"]["schemas"].get(name).is_some(), "{name} is not described");
        }
    }
}
