//! Isolation: an app, or one of its instances, that speaks with nobody, whatever the rules say.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    fields::Fields,
    history::Revision,
    invalid::{Invalid, InvalidField, text_serde},
    name::AppName,
    rule::Reason,
    time::Timestamp,
};

/// Who is isolated: `web`, or `web/0`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    pub app: AppName,
    /// All of them, if absent.
    pub instance: Option<u32>,
}

/// An isolation that stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Isolation {
    pub app: AppName,
    /// All instances, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<u32>,
    /// When the API ends it, by its own clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    pub created_at: Timestamp,
    pub created_by: String,
    /// The revision that last changed it.
    pub revision: Revision,
}

/// An isolation as a user asks for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IsolationSpec {
    pub app: AppName,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

impl Isolation {
    pub fn target(&self) -> Target {
        Target { app: self.app.clone(), instance: self.instance }
    }
}

impl IsolationSpec {
    /// Takes a request's body apart.
    pub fn from_json(value: Value) -> Result<Self, InvalidField> {
        let mut fields = Fields::of_body(value)?;
        let spec = Self {
            app: fields.required("app", "name the app")?,
            instance: fields.number("instance", u32::MAX)?,
            expires_at: fields.parsed("expires_at")?,
            reason: fields.parsed("reason")?,
        };
        fields.finish()?;
        Ok(spec)
    }

    pub fn target(&self) -> Target {
        Target { app: self.app.clone(), instance: self.instance }
    }
}

impl FromStr for Target {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let Some((app, number)) = text.split_once('/') else {
            return Ok(Self { app: text.parse()?, instance: None });
        };
        let plain = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let number = number.parse().ok().filter(|_| plain);
        let remedy = "use an app, or one of its instances like `web/0`";
        let number = number.ok_or_else(|| Invalid::new(text, "is not an instance", remedy))?;
        Ok(Self { app: app.parse()?, instance: Some(number) })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.instance {
            None => self.app.fmt(f),
            Some(number) => f.pad(&format!("{}/{number}", self.app)),
        }
    }
}

text_serde!(Target);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_app_or_one_of_its_instances_can_be_named() {
        for text in ["web", "web/0", "web/4294967295"] {
            assert_eq!(text.parse::<Target>().map(|target| target.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "any", "web/", "web/-1", "web/+1", "web/0/1", "web/4294967296", "/0"] {
            assert!(text.parse::<Target>().is_err(), "{text} was taken");
        }
    }

    #[test]
    fn a_wish_that_makes_no_sense_is_refused_naming_the_field() {
        let cases = [
            (json!({}), "app"),
            (json!({"app": "any"}), "app"),
            (json!({"app": "web/0"}), "app"),
            (json!({"app": "web", "instance": "0"}), "instance"),
            (json!({"app": "web", "expires_at": "soon"}), "expires_at"),
            (json!({"app": "web", "reason": "a\nb"}), "reason"),
            (json!({"app": "web", "ttl": "2h"}), "ttl"),
        ];
        for (request, field) in cases {
            assert_eq!(IsolationSpec::from_json(request).expect_err(field).field, field);
        }
    }
}
