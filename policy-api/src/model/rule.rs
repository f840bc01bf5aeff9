//! Rules: what users write, and what stands.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    fields::Fields,
    history::Revision,
    invalid::{Invalid, InvalidField, text_serde, text_type},
    name::TeamName,
    ports::Ports,
    protocol::Protocol,
    selector::{SELECTORS, Selector},
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

/// Whether a rule takes part in the verdict; of an app: whether its own end's verdict holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    #[default]
    Enforce,
    /// It takes none; where the verdict would differ if it did, that is reported.
    Audit,
}

/// What becomes of what a deny rule refuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnDeny {
    /// The sender is told at once: a reset, or an ICMP error.
    #[default]
    Reset,
    /// The sender is told nothing.
    Drop,
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

/// A rule as a user asks for it. Requests are taken apart by [`RuleSpec::from_json`]; serde reads what is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleSpec {
    pub source: Selector,
    pub destination: Selector,
    pub protocol: Protocol,
    #[serde(default, skip_serializing_if = "Ports::is_all")]
    pub ports: Ports,
    pub action: Action,
    pub mode: Mode,
    /// When it ends, by the API's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Only on deny rules; absent is [`OnDeny::Reset`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_deny: Option<OnDeny>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

/// A rule that stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Rule {
    pub id: RuleId,
    pub source: Selector,
    pub destination: Selector,
    pub protocol: Protocol,
    #[serde(default, skip_serializing_if = "Ports::is_all")]
    #[cfg_attr(feature = "server", schema(value_type = Vec<String>))]
    pub ports: Ports,
    pub action: Action,
    #[serde(default)]
    pub mode: Mode,
    /// When the API deletes it, by its own clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_deny: Option<OnDeny>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The revision that last changed it.
    pub revision: Revision,
    pub created_at: Timestamp,
    /// `operator`, [`Rule::BUILT_IN`], or whatever else wrote it.
    pub created_by: String,
    /// Whose rule it is; absent: the operators'.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<TeamName>,
}

impl RuleSpec {
    /// An enforced rule without end; `protocol` and `ports` as in the rule.
    pub fn new(source: Selector, destination: Selector, protocol: Protocol, ports: Ports, action: Action) -> Self {
        let (expires_at, on_deny, reason) = (None, None, None);
        Self { source, destination, protocol, ports, action, mode: Mode::Enforce, expires_at, on_deny, reason }
    }

    /// Takes a request's rule apart.
    pub fn from_fields(mut fields: Fields) -> Result<Self, InvalidField> {
        let ports_path = fields.path("ports");
        let spec = Self {
            source: fields.required("source", SELECTORS)?,
            destination: fields.required("destination", SELECTORS)?,
            protocol: fields.parsed("protocol")?.unwrap_or_default(),
            ports: fields
                .texts("ports")?
                .map_or(Ok(Ports::All), |entries| Ports::from_entries(&ports_path, &entries))?,
            action: fields.required("action", "say `allow` or `deny`")?,
            mode: fields.parsed("mode")?.unwrap_or_default(),
            expires_at: fields.parsed("expires_at")?,
            on_deny: fields.parsed("on_deny")?,
            reason: fields.parsed("reason")?,
        };
        let [destination, on_deny] = ["destination", "on_deny"].map(|name| fields.path(name));
        fields.finish()?;
        spec.check(&ports_path, &destination, &on_deny)?;
        Ok(spec)
    }

    /// Takes a request's body apart.
    pub fn from_json(value: Value) -> Result<Self, InvalidField> {
        Self::from_fields(Fields::of_body(value)?)
    }

    /// Takes a query apart that asks about a rule with this action.
    pub fn from_query(mut query: Fields, action: Action) -> Result<Self, InvalidField> {
        let (source, destination) = (query.required("source", SELECTORS)?, query.required("destination", SELECTORS)?);
        let (protocol, ports) =
            (query.parsed("protocol")?.unwrap_or_default(), query.parsed("ports")?.unwrap_or_default());
        query.finish()?;
        let spec = Self::new(source, destination, protocol, ports, action);
        spec.check("ports", "destination", "on_deny")?;
        Ok(spec)
    }

    /// What no single field can know.
    fn check(&self, ports: &str, destination: &str, on_deny: &str) -> Result<(), InvalidField> {
        if !self.protocol.has_ports() && !self.ports.is_all() {
            return Err(Invalid::new(
                &self.ports,
                format!("cannot be: {} has no ports", self.protocol),
                "leave the ports out",
            )
            .in_field(ports));
        }
        if !self.source.names_apps() && !self.destination.names_apps() {
            let remedy = "name an app, `group:NAME` or `any` on one side";
            return Err(Invalid::new(&self.destination, "cannot be both sides of a rule", remedy).in_field(destination));
        }
        match (self.action, self.on_deny) {
            (Action::Allow, Some(word)) => {
                let problem = "says what becomes of denied traffic, but the rule allows it";
                Err(Invalid::new(word, problem, "leave it out, or write a deny rule").in_field(on_deny))
            }
            (Action::Allow, None) | (Action::Deny, _) => Ok(()),
        }
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
    /// Who wrote the rules that a store is born with.
    pub const BUILT_IN: &'static str = "built-in";

    /// How many rows of a map the rule costs: one per protocol and port prefix, whoever its two sides are.
    pub fn rows(&self) -> u64 {
        self.protocol.wire().iter().map(|_| self.ports.rows()).sum()
    }

    pub fn is_built_in(&self) -> bool {
        self.created_by == Self::BUILT_IN
    }

    /// Whether nothing is to be updated, where a rule with the same tuple is asked for.
    pub fn is_as(&self, spec: &RuleSpec) -> bool {
        self.mode == spec.mode
            && self.expires_at == spec.expires_at
            && self.on_deny() == spec.on_deny.unwrap_or_default()
            && self.reason == spec.reason
    }

    pub fn on_deny(&self) -> OnDeny {
        self.on_deny.unwrap_or_default()
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
            Self::Audit => "audit",
        }
    }
}

impl FromStr for Mode {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "enforce" => Ok(Self::Enforce),
            "audit" => Ok(Self::Audit),
            _ => Err(Invalid::new(text, "is not a mode", "use `enforce` or `audit`")),
        }
    }
}

text_type!(Mode);

impl OnDeny {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Drop => "drop",
        }
    }
}

impl FromStr for OnDeny {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "reset" => Ok(Self::Reset),
            "drop" => Ok(Self::Drop),
            _ => Err(Invalid::new(text, "is nothing that can become of denied traffic", "use `reset` or `drop`")),
        }
    }
}

text_type!(OnDeny);

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
