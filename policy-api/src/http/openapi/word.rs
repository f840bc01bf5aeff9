//! What a word of the API looks like, wherever it stands: each means one thing, so its name says its shape.

use serde_json::{Value, json};

use super::super::endpoint::Kind;

const NAME: &str = "^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$";
const SELECTOR: &str = "^(group:)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$";
/// No part of it is `.` or `..`.
const ID: &str = r"^(\.{0,2}[A-Za-z0-9_-][A-Za-z0-9._-]*|\.{3}[A-Za-z0-9._-]*)(/(\.{0,2}[A-Za-z0-9_-][A-Za-z0-9._-]*|\.{3}[A-Za-z0-9._-]*))*$";
const SUBJECT: &str = "^(app|host|user):[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$";
const MEMBER: &str =
    "^((app|host|user):[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?|(layer|role):[A-Za-z0-9_-]{1,63})$";
const PRIVILEGE: &str = "^[a-z][a-z0-9-]{0,31}$";
const PORTS: &str = "^[1-9][0-9]{0,4}(-[1-9][0-9]{0,4})?$";
const INSTANCE: &str = "^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?/[0-9]{1,9}$";
const TOKEN_ID: &str = "^[0-9a-f]{32}$";
const RULE_ID: &str = "^r[1-9][0-9]{0,8}$";

/// The schema of a parameter or a member of this name and kind.
pub(super) fn schema(name: &str, kind: Kind) -> Value {
    match kind {
        Kind::Text => text(name),
        Kind::Words => json!({"type": "string"}),
        Kind::Number => number(name),
        Kind::Flag => json!({"type": "boolean"}),
        Kind::Texts => json!({"type": "array", "items": texts(name)}),
        Kind::Labels => json!({"type": "object", "additionalProperties": {"type": "string"}}),
        Kind::Rules => list_of("RuleSpec"),
        Kind::Apps => list_of("AppWish"),
        Kind::Cuts => list_of("Cut"),
        Kind::Clock => json!({"$ref": "#/components/schemas/Clock"}),
        Kind::Usage => list_of("RuleUsage"),
        Kind::Id => id(),
        Kind::Ids => json!({"type": "array", "items": id()}),
        Kind::Members => json!({"type": "array", "items": {"type": "string", "pattern": MEMBER}}),
        Kind::Privileges => {
            json!({"type": "array", "minItems": 1, "items": {"type": "string", "pattern": PRIVILEGE}})
        }
        Kind::Layers => list_of("LayerSpec"),
        Kind::Roles => list_of("RoleSpec"),
        Kind::Resources => list_of("ResourceSpec"),
        Kind::Permissions => list_of("PermissionSpec"),
        Kind::Decisions => list_of("Decision"),
    }
}

/// The schema of a part of a path.
pub(super) fn in_path(name: &str) -> Value {
    match name {
        "instance" => json!({"type": "integer", "minimum": 0, "maximum": u32::MAX}),
        "revision" => json!({"type": "integer", "minimum": 0}),
        "id" => json!({"type": "string", "pattern": RULE_ID}),
        "token_id" => json!({"type": "string", "pattern": TOKEN_ID}),
        "address" => address(),
        _ => text(name),
    }
}

fn text(name: &str) -> Value {
    match name {
        "source" | "destination" => json!({"type": "string", "pattern": SELECTOR}),
        "app" | "name" => json!({"type": "string", "pattern": NAME}),
        "audience" => id(),
        "instance" => json!({"type": "string", "pattern": INSTANCE}),
        "protocol" => json!({"type": "string", "enum": ["tcp", "udp", "sctp", "icmp", "any"]}),
        "action" => json!({"type": "string", "enum": ["allow", "deny"]}),
        "mode" => json!({"type": "string", "enum": ["enforce", "audit"]}),
        "on_deny" => json!({"type": "string", "enum": ["reset", "drop"]}),
        "reason" => json!({"type": "string", "maxLength": 256, "pattern": "^[^\\x00-\\x1f\\x7f-\\x9f]*$"}),
        "verdict" => json!({"type": "string", "enum": ["allow", "deny"]}),
        "expires_at" | "since" | "last_hit" => json!({"type": "string", "format": "date-time"}),
        "id" => json!({"type": "string", "pattern": RULE_ID}),
        "layer" | "role" | "resource" => id(),
        "subject" => json!({"type": "string", "pattern": SUBJECT}),
        "privilege" => json!({"type": "string", "pattern": PRIVILEGE}),
        "ip" | "underlay" => address(),
        _ => json!({"type": "string"}),
    }
}

fn id() -> Value {
    json!({"type": "string", "maxLength": 128, "pattern": ID})
}

fn address() -> Value {
    json!({"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]})
}

fn number(name: &str) -> Value {
    match name {
        "ahead_ms" => json!({"type": "integer"}),
        "lifetime" => json!({"type": "integer", "minimum": 30, "maximum": 3_600}),
        "status" => json!({"type": "integer", "minimum": 0, "maximum": 999}),
        "limit" => json!({"type": "integer", "minimum": 1, "maximum": 1000}),
        "port" => json!({"type": "integer", "minimum": 1, "maximum": 65535}),
        "wait_ms" => json!({"type": "integer", "minimum": 0, "maximum": 60_000}),
        "instance" => json!({"type": "integer", "minimum": 0, "maximum": u32::MAX}),
        _ => json!({"type": "integer", "minimum": 0, "maximum": (1_u64 << 53) - 1}),
    }
}

fn texts(name: &str) -> Value {
    match name {
        "ports" => json!({"type": "string", "pattern": PORTS}),
        "delete" => json!({"type": "string", "pattern": RULE_ID}),
        "addresses" => address(),
        _ => json!({"type": "string", "pattern": NAME}),
    }
}

fn list_of(schema: &str) -> Value {
    json!({"type": "array", "items": {"$ref": format!("#/components/schemas/{schema}")}})
}
