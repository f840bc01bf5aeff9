//! The description of the API, made from the table of endpoints.

use axum::Json;
use serde_json::{Map, Value, json};

use super::endpoint::{Access, CLOCK, CUT, ENDPOINTS, Endpoint, Kind, NAMED_APP, Parameter, RULE, USAGE};
use crate::model::Problem;

pub(super) async fn document() -> Json<Value> {
    Json(describe())
}

fn describe() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for endpoint in ENDPOINTS {
        let path = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        path[endpoint.method] = operation(endpoint);
    }
    json!({
        "openapi": "3.1.0",
        "info": {"title": "netpol policy API", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}, "certificate": {"type": "mutualTLS"}},
            "schemas": {
                "Problem": problem(), "RuleSpec": object(RULE), "AppWish": object(NAMED_APP), "Cut": object(CUT),
                "Clock": object(CLOCK), "RuleUsage": object(USAGE),
            },
        },
    })
}

fn operation(endpoint: &Endpoint) -> Value {
    let mut responses: Map<String, Value> = Map::new();
    for (status, text) in endpoint.answers {
        responses.insert(status.to_string(), json!({"description": text}));
    }
    let refusal = json!({Problem::MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}});
    responses
        .insert("default".to_owned(), json!({"description": "A refusal; nothing was changed", "content": refusal}));
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
        Access::Known | Access::Joining => json!([{"token": []}, {"certificate": []}]),
        Access::User => json!([{"token": []}]),
        Access::Node => json!([{"certificate": []}]),
    }
}

fn access(access: Access) -> &'static str {
    match access {
        Access::Open => "Takes no token.",
        Access::Known => "Takes anybody's token, or a node's certificate.",
        Access::User => "Takes the token of a user, a machine or the operator; their roles decide what it is good for.",
        Access::Node => "Takes the certificate of the node that it is about.",
        Access::Joining => "Takes the join token of the node that it is about, or its certificate.",
    }
}

fn parameters(endpoint: &Endpoint) -> Vec<Value> {
    let in_path = endpoint.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let in_path =
        in_path.map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}));
    let in_query = endpoint.query.iter().map(|parameter| {
        json!({
            "name": parameter.name, "in": "query", "required": parameter.required, "description": parameter.text,
            "schema": schema(parameter.kind),
        })
    });
    in_path.chain(in_query).collect()
}

fn object(members: &[Parameter]) -> Value {
    let mut properties: Map<String, Value> = Map::new();
    for member in members {
        let mut property = schema(member.kind);
        property["description"] = member.text.into();
        properties.insert(member.name.to_owned(), property);
    }
    let required: Vec<&str> = members.iter().filter(|member| member.required).map(|member| member.name).collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn schema(kind: Kind) -> Value {
    match kind {
        Kind::Text => json!({"type": "string"}),
        Kind::Number => json!({"type": "integer", "minimum": 0}),
        Kind::Flag => json!({"type": "boolean"}),
        Kind::Texts => json!({"type": "array", "items": {"type": "string"}}),
        Kind::Labels => json!({"type": "object", "additionalProperties": {"type": "string"}}),
        Kind::Rules => list_of("RuleSpec"),
        Kind::Apps => list_of("AppWish"),
        Kind::Cuts => list_of("Cut"),
        Kind::Clock => json!({"$ref": "#/components/schemas/Clock"}),
        Kind::Usage => list_of("RuleUsage"),
    }
}

fn list_of(schema: &str) -> Value {
    json!({"type": "array", "items": {"$ref": format!("#/components/schemas/{schema}")}})
}

fn problem() -> Value {
    json!({
        "type": "object",
        "properties": {
            "type": {"type": "string"}, "title": {"type": "string"}, "status": {"type": "integer"},
            "detail": {"type": "string"}, "field": {"type": "string"},
        },
        "required": ["type", "title", "status", "detail"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_is_described_with_its_parameters() {
        let document = describe();
        for endpoint in ENDPOINTS {
            let operation = &document["paths"][endpoint.path][endpoint.method];
            assert_eq!(operation["summary"], endpoint.summary, "{}", endpoint.path);
            let in_path = endpoint.path.matches('{').count();
            let described = operation["parameters"].as_array().map_or(0, Vec::len);
            assert_eq!(described, in_path + endpoint.query.len(), "{}", endpoint.path);
        }
    }
}
