//! JSON of requests, read strictly: a member that appears twice says two things, so it is refused.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

/// Reads a whole request body; the error says where it stops being JSON.
pub fn strict_json(body: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice(body).map(|Strict(value)| value)
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number that JSON does not have"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, Strict(value))) = members.next_entry::<String, Strict>()? {
            if object.contains_key(&name) {
                return Err(A::Error::custom(format_args!("member `{}` appears twice", name.escape_debug())));
            }
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::strict_json;

    #[test]
    fn reads_what_serde_json_reads() {
        for text in [r#"{"a":[1,-2,1.5,"x",null,true,{"b":{}}]}"#, "[]", "\"a\\u00e4\"", "18446744073709551615"] {
            let plain: serde_json::Value = serde_json::from_str(text).expect(text);
            assert_eq!(strict_json(text.as_bytes()).expect(text), plain);
        }
    }

    #[test]
    fn a_member_that_appears_twice_is_refused() {
        let error = strict_json(br#"{"create":[{"action":"deny","action":"allow"}]}"#).expect_err("twice").to_string();
        assert!(error.contains("`action` appears twice"), "{error}");
    }

    #[test]
    fn what_is_no_json_is_refused_with_its_place() {
        for text in ["", "{", "{\"a\":}", "{} x", "\u{feff}{}"] {
            let error = strict_json(text.as_bytes()).expect_err(text).to_string();
            assert!(error.contains("line 1"), "{error}");
        }
        let deep = "[".repeat(100_000);
        assert!(strict_json(deep.as_bytes()).is_err());
    }
}
