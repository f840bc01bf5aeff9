//! Bindings: which instance has which address.

use std::{collections::BTreeMap, net::IpAddr};

use common::Identity;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    app::identity_number,
    fields::Fields,
    history::Revision,
    invalid::{Invalid, InvalidField},
    name::{AppName, NodeName},
    time::Timestamp,
};

/// Words about an instance, for people; they mean nothing to policy.
pub type Labels = BTreeMap<String, String>;

/// Who has an address, or had it last. One per address; a freed one stays until another instance claims the address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Binding {
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub address: IpAddr,
    pub app: AppName,
    #[serde(with = "identity_number")]
    #[cfg_attr(feature = "server", schema(value_type = u32))]
    pub identity: Identity,
    pub instance: u32,
    pub node: NodeName,
    pub state: BindingState,
    /// Since when it has been in this state.
    pub since: Timestamp,
    #[serde(default)]
    pub labels: Labels,
    /// The revision that last changed it.
    pub revision: Revision,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum BindingState {
    Live,
    Freed,
}

impl Binding {
    pub fn is_live(&self) -> bool {
        match self.state {
            BindingState::Live => true,
            BindingState::Freed => false,
        }
    }

    /// `web/0`.
    pub fn instance_name(&self) -> String {
        format!("{}/{}", self.app, self.instance)
    }
}

/// A node's request for addresses of one of its instances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Claim {
    pub app: AppName,
    /// The lowest number that is not live, if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<u32>,
    pub addresses: Vec<IpAddr>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: Labels,
}

impl Claim {
    const MOST_ADDRESSES: usize = 16;
    const MOST_LABELS: usize = 64;
    const LONGEST_LABEL: usize = 256;

    pub fn from_json(value: Value) -> Result<Self, InvalidField> {
        let mut fields = Fields::of_body(value)?;
        let claim = Self {
            app: fields.required("app", "name the app")?,
            instance: fields.number("instance", u32::MAX)?,
            addresses: addresses(&mut fields)?,
            labels: labels(&mut fields)?,
        };
        fields.finish()?;
        Ok(claim)
    }
}

fn addresses(fields: &mut Fields) -> Result<Vec<IpAddr>, InvalidField> {
    let remedy = "name 1 to 16 addresses of the node's slice, each once";
    let texts = fields.texts("addresses")?.ok_or_else(|| fields.missing("addresses", remedy))?;
    let mut found: Vec<IpAddr> = Vec::with_capacity(texts.len());
    for (i, text) in texts.iter().enumerate() {
        let field = || format!("{}[{i}]", fields.path("addresses"));
        let address: IpAddr =
            text.parse().map_err(|_| Invalid::new(text, "is not an address", remedy).in_field(field()))?;
        let address = address.to_canonical();
        if found.contains(&address) {
            return Err(Invalid::new(address, "appears twice", remedy).in_field(field()));
        }
        found.push(address);
    }
    if found.is_empty() || found.len() > Claim::MOST_ADDRESSES {
        return Err(Invalid::new(format!("{} addresses", found.len()), "cannot be claimed", remedy)
            .in_field(fields.path("addresses")));
    }
    found.sort_unstable();
    Ok(found)
}

fn labels(fields: &mut Fields) -> Result<Labels, InvalidField> {
    let labels: Labels = fields.text_map("labels")?.into_iter().collect();
    if labels.len() > Claim::MOST_LABELS {
        return Err(Invalid::of("the object", "has too many labels", "use at most 64").in_field("labels"));
    }
    let bad = |text: &str| text.len() > Claim::LONGEST_LABEL || text.chars().any(char::is_control);
    match labels.iter().find(|(key, value)| key.is_empty() || bad(key) || bad(value)) {
        Some((key, value)) => {
            let remedy = "use names and values of at most 256 bytes without control characters";
            Err(Invalid::new(format!("{key}={value}"), "is not a label", remedy).in_field("labels"))
        }
        None => Ok(labels),
    }
}

/// The answer to [`Claim`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Claimed {
    pub app: AppName,
    pub instance: u32,
    #[serde(with = "identity_number")]
    #[cfg_attr(feature = "server", schema(value_type = u32))]
    pub identity: Identity,
    pub node: NodeName,
    #[cfg_attr(feature = "server", schema(value_type = Vec<String>))]
    pub addresses: Vec<IpAddr>,
    /// The revision that made it so.
    pub revision: Revision,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_claim_names_an_app_and_its_addresses() {
        let claim = Claim::from_json(
            json!({"app": "web", "addresses": ["10.255.1.9", "10.255.1.7"], "labels": {"tier": "front"}}),
        );
        let claim = claim.expect("valid");
        assert_eq!(claim.addresses[0].to_string(), "10.255.1.7");
        assert_eq!(Claim::from_json(serde_json::to_value(&claim).expect("json")), Ok(claim));
    }

    #[test]
    fn a_claim_that_makes_no_sense_is_refused_naming_the_field() {
        let cases = [
            (json!({"addresses": ["10.255.1.7"]}), "app"),
            (json!({"app": "any", "addresses": ["10.255.1.7"]}), "app"),
            (json!({"app": "web"}), "addresses"),
            (json!({"app": "web", "addresses": []}), "addresses"),
            (json!({"app": "web", "addresses": ["10.255.1.7", "nowhere"]}), "addresses[1]"),
            (json!({"app": "web", "addresses": ["10.255.1.7", "::ffff:10.255.1.7"]}), "addresses[1]"),
            (json!({"app": "web", "addresses": ["10.255.1.7"], "instance": -1}), "instance"),
            (json!({"app": "web", "addresses": ["10.255.1.7"], "labels": {"a": 1}}), "labels.a"),
            (json!({"app": "web", "addresses": ["10.255.1.7"], "node": "n2"}), "node"),
        ];
        for (request, field) in cases {
            assert_eq!(Claim::from_json(request).expect_err(field).field, field);
        }
    }
}
