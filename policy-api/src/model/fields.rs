//! Takes an object of a request apart, field by field.
//!
//! Every error names the field by its path. Nothing is taken for granted: a member that nobody asked for is an error too
//! ([`Fields::finish`]), since what it was meant to restrict would silently not be restricted.

use std::{fmt::Display, str::FromStr};

use serde_json::{Map, Value};

use super::invalid::{Invalid, InvalidField};

/// The members of an object that have not been taken yet.
#[must_use = "an object is read when `finish` was called"]
pub struct Fields {
    path: String,
    members: Map<String, Value>,
    known: Vec<&'static str>,
}

impl Fields {
    /// The members of a request's body.
    pub fn of_body(value: Value) -> Result<Self, InvalidField> {
        Self::at(String::new(), value)
    }

    /// The members of the object at this path.
    pub fn at(path: String, value: Value) -> Result<Self, InvalidField> {
        match value {
            Value::Object(members) => Ok(Self { path, members, known: Vec::new() }),
            other => {
                Err(wrong_kind(&other, "an object").in_field(if path.is_empty() { "(body)".to_owned() } else { path }))
            }
        }
    }

    /// The parameters of a query string. One that appears twice is an error.
    pub fn of_query(parameters: impl IntoIterator<Item = (String, String)>) -> Result<Self, InvalidField> {
        let mut members = Map::new();
        for (name, value) in parameters {
            if members.contains_key(&name) {
                return Err(Invalid::new(value, "is a second value", "give the parameter once").in_field(name));
            }
            members.insert(name, Value::String(value));
        }
        Ok(Self { path: String::new(), members, known: Vec::new() })
    }

    /// The path of a member, as error messages name it.
    pub fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.members.remove(name)
    }

    /// A text.
    pub fn text(&mut self, name: &'static str) -> Result<Option<String>, InvalidField> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong_kind(&other, "a text").in_field(self.path(name))),
        }
    }

    /// A text that means something.
    pub fn parsed<T: FromStr<Err = Invalid>>(&mut self, name: &'static str) -> Result<Option<T>, InvalidField> {
        let text = self.text(name)?;
        text.map(|text| text.parse()).transpose().map_err(|invalid: Invalid| invalid.in_field(self.path(name)))
    }

    /// A text that means something and must be there; `remedy` says what to write.
    pub fn required<T: FromStr<Err = Invalid>>(
        &mut self,
        name: &'static str,
        remedy: &'static str,
    ) -> Result<T, InvalidField> {
        self.parsed(name)?.ok_or_else(|| self.missing(name, remedy))
    }

    /// A text in the form of a standard type; `problem` and `remedy` complete the error.
    pub fn standard<T: FromStr>(
        &mut self,
        name: &'static str,
        problem: &'static str,
        remedy: &'static str,
    ) -> Result<Option<T>, InvalidField> {
        let text = self.text(name)?;
        let parse =
            |text: String| text.parse().map_err(|_| Invalid::new(text, problem, remedy).in_field(self.path(name)));
        text.map(parse).transpose()
    }

    /// A whole number, not negative, as JSON number.
    pub fn number<T: TryFrom<u64> + Display + PartialOrd>(
        &mut self,
        name: &'static str,
        most: T,
    ) -> Result<Option<T>, InvalidField> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = value.as_u64().and_then(|number| T::try_from(number).ok()).filter(|number| *number <= most);
        let remedy = || format!("use a whole number from 0 to {most}");
        number
            .map(Some)
            .ok_or_else(|| Invalid::new(&value, "is not a number that fits", remedy()).in_field(self.path(name)))
    }

    pub fn signed(&mut self, name: &'static str) -> Result<Option<i64>, InvalidField> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = value.as_i64();
        number.map(Some).ok_or_else(|| wrong_kind(&value, "a whole number").in_field(self.path(name)))
    }

    pub fn object(&mut self, name: &'static str) -> Result<Option<Self>, InvalidField> {
        let Some(value) = self.take(name) else { return Ok(None) };
        Self::at(self.path(name), value).map(Some)
    }

    pub fn boolean(&mut self, name: &'static str) -> Result<Option<bool>, InvalidField> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(other) => Err(wrong_kind(&other, "`true` or `false`").in_field(self.path(name))),
        }
    }

    pub fn list(&mut self, name: &'static str) -> Result<Option<Vec<Value>>, InvalidField> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(other) => Err(wrong_kind(&other, "a list").in_field(self.path(name))),
        }
    }

    /// A list of texts.
    pub fn texts(&mut self, name: &'static str) -> Result<Option<Vec<String>>, InvalidField> {
        let Some(items) = self.list(name)? else { return Ok(None) };
        let text = |(i, item)| match item {
            Value::String(text) => Ok(text),
            other => Err(wrong_kind(&other, "a text").in_field(format!("{}[{i}]", self.path(name)))),
        };
        items.into_iter().enumerate().map(text).collect::<Result<_, _>>().map(Some)
    }

    /// An object of texts.
    pub fn text_map(&mut self, name: &'static str) -> Result<Vec<(String, String)>, InvalidField> {
        let Some(value) = self.take(name) else { return Ok(Vec::new()) };
        let inner = Self::at(self.path(name), value)?;
        let text = |(key, value)| match value {
            Value::String(text) => Ok((key, text)),
            other => Err(wrong_kind(&other, "a text").in_field(format!("{}.{key}", inner.path))),
        };
        inner.members.into_iter().map(text).collect()
    }

    /// Refuses what nobody took.
    pub fn finish(self) -> Result<(), InvalidField> {
        let Some(name) = self.members.keys().next() else { return Ok(()) };
        let known = self.known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let remedy = if known.is_empty() { "leave it out".to_owned() } else { format!("known here are {known}") };
        Err(Invalid::new(name, "is not a known member", remedy).in_field(self.path(name)))
    }

    /// The error for a member that must be there.
    pub fn missing(&self, name: &str, remedy: &'static str) -> InvalidField {
        Invalid::of("the field", "is missing", remedy).in_field(self.path(name))
    }
}

fn wrong_kind(found: &Value, wanted: &'static str) -> Invalid {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    Invalid::of(found, "is not what belongs here", format!("use {wanted}, or leave it out if it is optional"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_member_nobody_asked_for_is_refused_by_its_path() {
        let mut fields = Fields::at("create[2]".to_owned(), json!({"source": "a", "sourec": "b"})).expect("object");
        assert_eq!(fields.text("source"), Ok(Some("a".to_owned())));
        let error = fields.finish().expect_err("unknown");
        assert_eq!(error.field, "create[2].sourec");
        assert!(error.to_string().contains("known here are `source`"), "{error}");
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_refused() {
        let mut fields = Fields::of_body(json!({"a": 1, "b": "x", "c": ["y", 2], "d": null, "e": -1, "f": {"g": 1}}))
            .expect("object");
        assert_eq!(fields.text("a").expect_err("number").field, "a");
        assert_eq!(fields.list("b").expect_err("text").field, "b");
        assert_eq!(fields.texts("c").expect_err("number inside").field, "c[1]");
        assert_eq!(fields.boolean("d").expect_err("null").field, "d");
        assert_eq!(fields.number::<u32>("e", u32::MAX).expect_err("negative").field, "e");
        assert_eq!(fields.text_map("f").expect_err("number inside").field, "f.g");
        assert!(Fields::of_body(json!([])).is_err());
    }

    #[test]
    fn a_query_parameter_given_twice_is_refused() {
        let twice = [("app", "a"), ("app", "b")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(Fields::of_query(twice).err().expect("twice").field, "app");
    }
}
