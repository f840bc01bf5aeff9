//! Rules: what users write, and what stands.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    fields::Fields,
    history::Revision,
    invalid::{Invalid, InvalidField, text_serde, text_type},
    ports::Ports,
    protocol::Protocol,
    selector::Selector,
    time::Timestamp,
};

/// The id of a rule, `r12`: ascending, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(pub u32);

/// What a matching rule says. The wire's word for [`common::Action`], which has no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    Allow,
    Deny,
}

/// Whether a rule takes part in the verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    #[default]
    Enforce,
}

/// Why a rule was written: free text of at most 256 characters, without control characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reason(String);

/// What makes two rules the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    pub source: Selector,
    pub destination: Selector,
    pub protocol: Protocol,
    pub ports: Ports,
    pub action: Action,
}

/// A rule as a user asks for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleSpec {
    pub source: Selector,
    pub destination: Selector,
    pub protocol: Protocol,
    #[serde(skip_serializing_if = "Ports::is_all")]
    pub ports: Ports,
    pub action: Action,
    pub mode: Mode,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

/// A rule that stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    pub id: RuleId,
    pub source: Selector,
    pub destination: Selector,
    pub protocol: Protocol,
    #[serde(default, skip_serializing_if = "Ports::is_all")]
    pub ports: Ports,
    pub action: Action,
    pub mode: Mode,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The revision that last changed it.
    pub revision: Revision,
    pub created_at: Timestamp,
    /// `operator`, or whatever else wrote it.
    pub created_by: String,
}

/// Rules to delete and rules to create, all or nothing, in one revision. Deletions come first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ChangeSet {
    pub create: Vec<RuleSpec>,
    pub delete: Vec<RuleId>,
}

impl RuleSpec {
    /// An enforced rule; `protocol` and `ports` as in the rule.
    pub fn new(source: Selector, destination: Selector, protocol: Protocol, ports: Ports, action: Action) -> Self {
        Self { source, destination, protocol, ports, action, mode: Mode::Enforce, reason: None }
    }

    /// Takes a request's rule apart.
    pub fn from_fields(mut fields: Fields) -> Result<Self, InvalidField> {
        let name = "name an app or `host`";
        let ports_path = fields.path("ports");
        let spec = Self {
            source: fields.required("source", name)?,
            destination: fields.required("destination", name)?,
            protocol: fields.parsed("protocol")?.unwrap_or_default(),
            ports: fields
                .texts("ports")?
                .map_or(Ok(Ports::All), |entries| Ports::from_entries(&ports_path, &entries))?,
            action: fields.required("action", "say `allow` or `deny`")?,
            mode: fields.parsed("mode")?.unwrap_or_default(),
            reason: fields.parsed("reason")?,
        };
        fields.unsupported("expires_at")?;
        let destination_path = fields.path("destination");
        fields.finish()?;
        spec.check(&ports_path, &destination_path)?;
        Ok(spec)
    }

    /// Takes a request's body apart.
    pub fn from_json(value: Value) -> Result<Self, InvalidField> {
        Self::from_fields(Fields::of_body(value)?)
    }

    /// What no single field can know.
    fn check(&self, ports: &str, destination: &str) -> Result<(), InvalidField> {
        if !self.protocol.has_ports() && !self.ports.is_all() {
            return Err(Invalid::new(
                &self.ports,
                format!("cannot be: {} has no ports", self.protocol),
                "leave the ports out",
            )
            .in_field(ports));
        }
        if self.source.app().is_none() && self.destination.app().is_none() {
            return Err(Invalid::new(&self.destination, "cannot be both sides of a rule", "name an app on one side")
                .in_field(destination));
        }
        Ok(())
    }

    pub fn tuple(&self) -> Tuple {
        Tuple {
            source: self.source.clone(),
            destination: self.destination.clone(),
            protocol: self.protocol,
            ports: self.ports.clone(),
            action: self.action,
        }
    }
}

impl Rule {
    pub fn tuple(&self) -> Tuple {
        Tuple {
            source: self.source.clone(),
            destination: self.destination.clone(),
            protocol: self.protocol,
            ports: self.ports.clone(),
            action: self.action,
        }
    }
}

impl ChangeSet {
    /// More than this is not one change but a migration; bounds the time that one commit takes.
    const MOST: usize = 100_000;

    /// Takes a request's body apart.
    pub fn from_json(value: Value) -> Result<Self, InvalidField> {
        let mut fields = Fields::of_body(value)?;
        let create = fields.list("create")?.unwrap_or_default();
        let delete = fields.texts("delete")?.unwrap_or_default();
        fields.finish()?;
        for (name, length) in [("create", create.len()), ("delete", delete.len())] {
            if length > Self::MOST {
                return Err(Invalid::of("the list", "is too long", format!("use at most {} entries", Self::MOST))
                    .in_field(name));
            }
        }
        let rule = |(i, value)| RuleSpec::from_fields(Fields::at(format!("create[{i}]"), value)?);
        let id = |(i, text): (usize, String)| {
            text.parse().map_err(|invalid: Invalid| invalid.in_field(format!("delete[{i}]")))
        };
        Ok(Self {
            create: create.into_iter().enumerate().map(rule).collect::<Result<_, _>>()?,
            delete: delete.into_iter().enumerate().map(id).collect::<Result<_, _>>()?,
        })
    }
}

impl FromStr for RuleId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let digits = text
            .strip_prefix('r')
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0'));
        let number = digits.and_then(|digits| digits.parse().ok());
        number
            .map(Self)
            .ok_or_else(|| Invalid::new(text, "is not a rule's id", "use an id as `netpol list` shows it, like `r12`"))
    }
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("r{}", self.0))
    }
}

text_serde!(RuleId);

impl From<RuleId> for common::RuleId {
    fn from(id: RuleId) -> Self {
        Self(id.0)
    }
}

impl Action {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

impl FromStr for Action {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "allow" => Ok(Self::Allow),
            "deny" => Ok(Self::Deny),
            _ => Err(Invalid::new(text, "is not an action", "use `allow` or `deny`")),
        }
    }
}

text_type!(Action);

impl From<Action> for common::Action {
    fn from(action: Action) -> Self {
        match action {
            Action::Allow => Self::Allow,
            Action::Deny => Self::Deny,
        }
    }
}

impl Mode {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
        }
    }
}

impl FromStr for Mode {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "enforce" => Ok(Self::Enforce),
            "audit" => Err(Invalid::new(text, "is a mode that is not supported by this version", "use `enforce`")),
            _ => Err(Invalid::new(text, "is not a mode", "use `enforce`")),
        }
    }
}

text_type!(Mode);

impl Reason {
    const LONGEST: usize = 256;

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Reason {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.chars().count() > Self::LONGEST {
            return Err(Invalid::new(text, "is too long a reason", "use at most 256 characters"));
        }
        if text.chars().any(char::is_control) {
            return Err(Invalid::new(text, "has control characters", "use one line of plain text"));
        }
        Ok(Self(text.to_owned()))
    }
}

text_type!(Reason);

#[cfg(test)]
#[path = "rule_tests.rs"]
mod tests;
