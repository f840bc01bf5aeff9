//! Nodes: machines that run an agent, and what they own and say.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    answer::Outcome,
    clock::ClockReading,
    credential::{KeyId, TokenId, UnderlayProof},
    fields::Fields,
    history::{History, Revision},
    invalid::{Invalid, InvalidField},
    name::{AppPattern, NodeName},
    prefix::Prefix,
    receipt::Cut,
    time::Timestamp,
};

/// A registered node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Node {
    pub name: NodeName,
    /// Where its overlay packets come from.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub underlay: IpAddr,
    #[serde(flatten)]
    pub slices: Slices,
    /// The apps that it may run; none, if it does not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub apps: Vec<AppPattern>,
    /// The key that it proves itself by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyId>,
    /// The token that it joined with, which is good for no other key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joined_with: Option<TokenId>,
    /// Whether it takes no new instances.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
    /// The revision that last changed it.
    pub revision: Revision,
}

impl Node {
    /// One that has just been registered, may run nothing, and proves itself by nothing yet.
    pub fn new(name: NodeName, underlay: IpAddr, slices: Slices, revision: Revision) -> Self {
        let (apps, key, joined_with, draining) = (Vec::new(), None, None, false);
        Self { name, underlay, slices, apps, key, joined_with, draining, revision }
    }

    /// Where it is, and nothing of how it proves itself or what it may run.
    #[must_use]
    pub fn without_credentials(&self) -> Self {
        Self { apps: Vec::new(), key: None, joined_with: None, ..self.clone() }
    }
}

/// The part of the overlay that a node's instances get addresses from; kept for life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Slices {
    pub slice_v4: Prefix,
    pub slice_v6: Prefix,
}

impl Slices {
    pub fn contains(&self, address: IpAddr) -> bool {
        self.slice_v4.contains(address) || self.slice_v6.contains(address)
    }
}

/// The overlay's address space, both families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Overlay {
    pub v4: Prefix,
    pub v6: Prefix,
}

impl Overlay {
    pub fn contains(&self, address: IpAddr) -> bool {
        self.v4.contains(address) || self.v6.contains(address)
    }
}

/// A node as lists show it: what it is, and how it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct NodeView {
    #[serde(flatten)]
    pub node: Node,
    /// Whether its watch is open.
    pub connected: bool,
    /// The last revision it reported as wholly applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<Revision>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_report: Option<Timestamp>,
    pub ready: bool,
    pub rows_used: u64,
    /// How many rows its maps hold; 0 if it has not said.
    pub rows_capacity: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// How its clock stands to the API's, when it last said something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<ClockReading>,
}

/// A node's request to be registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Join {
    pub underlay: IpAddr,
    /// A certificate signing request (PKCS #10, PEM) by the key that it is going to prove itself by; absent: by the one that
    /// it proves itself by already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub csr: Option<String>,
    /// What the API sent to that address; absent: nothing yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof: Option<UnderlayProof>,
}

/// The UDP port at which a node that joins receives what proves that it is at its underlay address. Below 1024, so that on its
/// machine only root, or whoever root lets, receives there.
pub const CHALLENGE_PORT: u16 = 789;

impl Join {
    /// A wish to be known to be there, by what the node proves itself by already.
    pub fn at(underlay: IpAddr) -> Self {
        Self { underlay, csr: None, proof: None }
    }

    pub fn from_json(value: Value) -> Result<Self, InvalidField> {
        let mut fields = Fields::of_body(value)?;
        let remedy = "use the node's own address on the underlay, like `192.168.1.10`";
        let underlay: IpAddr = fields
            .standard("underlay", "is not an address", remedy)?
            .ok_or_else(|| fields.missing("underlay", remedy))?;
        let csr = fields.text("csr")?;
        let proof = fields.parsed("proof")?;
        fields.finish()?;
        let broadcast = matches!(underlay, IpAddr::V4(v4) if v4.is_broadcast());
        if underlay.is_unspecified() || underlay.is_multicast() || underlay.is_loopback() || broadcast {
            return Err(Invalid::new(underlay, "cannot be a node's address", remedy).in_field("underlay"));
        }
        Ok(Self { underlay: underlay.to_canonical(), csr, proof })
    }
}

/// The answer to [`Join`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Joined {
    pub node: Node,
    pub overlay: Overlay,
    pub history: History,
    pub revision: Revision,
    /// For the key of the request, if it came with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certified: Option<Certified>,
}

/// A certificate for the key that a node is registered with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Certified {
    /// PEM.
    pub certificate: String,
    /// In how many seconds to ask for the next one, by whatever clock the node has.
    pub renew_in: u64,
}

/// What an operator sets of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct NodeSettings {
    /// Whether it takes no new instances.
    pub draining: bool,
}

impl NodeSettings {
    pub fn from_json(value: Value) -> Result<Self, InvalidField> {
        let mut fields = Fields::of_body(value)?;
        let draining = fields.boolean("draining")?;
        let draining = draining.ok_or_else(|| fields.missing("draining", "say `true` or `false`"))?;
        fields.finish()?;
        Ok(Self { draining })
    }
}

/// A node as it stands after a change of its settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct NodeAnswer {
    #[serde(flatten)]
    pub node: Node,
    pub outcome: Outcome,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// A node that was removed, and what was there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct NodeDeleted {
    pub revision: Revision,
    pub node: Node,
    /// Instances that were live there; to everybody else they are gone.
    pub instances: Vec<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// What a node says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The history that `applied` belongs to.
    pub history: History,
    /// The revision that is wholly in force on the node.
    pub applied: Revision,
    pub ready: bool,
    pub rows_used: u64,
    pub rows_capacity: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// How its clock stands to the API's, if it knows that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<ClockReading>,
    /// What its last changes of policy cut, oldest first; reported no later than the revision that cut it is reported as applied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cuts: Vec<Cut>,
}

impl Report {
    const LONGEST_DETAIL: usize = 1024;

    pub fn from_json(value: Value) -> Result<Self, InvalidField> {
        let mut fields = Fields::of_body(value)?;
        let number = "give a whole number";
        let report = Self {
            history: fields.required("history", "give the history that the revision belongs to")?,
            applied: fields
                .number("applied", u64::MAX)?
                .map(Revision)
                .ok_or_else(|| fields.missing("applied", number))?,
            ready: fields.boolean("ready")?.ok_or_else(|| fields.missing("ready", "say `true` or `false`"))?,
            rows_used: fields.number("rows_used", u64::MAX)?.ok_or_else(|| fields.missing("rows_used", number))?,
            rows_capacity: fields
                .number("rows_capacity", u64::MAX)?
                .ok_or_else(|| fields.missing("rows_capacity", number))?,
            detail: fields.text("detail")?,
            clock: fields.object("clock")?.map(ClockReading::from_fields).transpose()?,
            cuts: cuts(&mut fields)?,
        };
        fields.finish()?;
        if report.detail.as_ref().is_some_and(|detail| detail.len() > Self::LONGEST_DETAIL) {
            return Err(Invalid::of("the text", "is too long", "use at most 1024 bytes").in_field("detail"));
        }
        Ok(report)
    }
}

fn cuts(fields: &mut Fields) -> Result<Vec<Cut>, InvalidField> {
    let list = fields.list("cuts")?.unwrap_or_default();
    if list.len() > Cut::MOST {
        let remedy = format!("report the last {}", Cut::MOST);
        return Err(Invalid::of("the list", "is too long", remedy).in_field("cuts"));
    }
    let cut = |(i, value)| Cut::from_fields(Fields::at(format!("cuts[{i}]"), value)?);
    list.into_iter().enumerate().map(cut).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_joins_with_an_address_that_can_be_its_own() {
        assert!(Join::from_json(json!({"underlay": "192.168.1.10"})).is_ok());
        assert!(Join::from_json(json!({"underlay": "fd00::1"})).is_ok());
        for bad in
            ["", "0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "::", "::1", "192.168.1", "192.168.1.10:4789"]
        {
            assert_eq!(Join::from_json(json!({"underlay": bad})).expect_err(bad).field, "underlay");
        }
        assert_eq!(Join::from_json(json!({})).expect_err("missing").field, "underlay");
    }

    #[test]
    fn a_report_says_everything_or_is_refused() {
        let report =
            json!({"history": "00ff00ff00ff00ff", "applied": 7, "ready": true, "rows_used": 1, "rows_capacity": 2});
        assert!(Report::from_json(report.clone()).is_ok());
        let with_cuts = |cuts: Value| {
            let mut whole = report.clone();
            whole["cuts"] = cuts;
            Report::from_json(whole)
        };
        let cut = json!({"after": 5, "applied": 7, "flows": 3});
        assert_eq!(with_cuts(json!([cut])).expect("a cut").cuts[0].flows, 3);
        assert_eq!(with_cuts(json!(vec![cut.clone(); 65])).expect_err("too many").field, "cuts");
        let backwards = with_cuts(json!([cut, {"after": 8, "applied": 7, "flows": 3}])).expect_err("backwards");
        assert_eq!(backwards.field, "cuts[1].after");
        // By the node's own clock, and by a revision that is not wholly in force yet.
        assert!(
            with_cuts(json!([{"after": 7, "applied": 7, "flows": 3}, {"after": 7, "applied": 8, "flows": 1}])).is_ok()
        );
        let mut with_clock = report.clone();
        with_clock["clock"] = json!({"ahead_ms": -7, "error_ms": 2});
        let clock = Report::from_json(with_clock.clone()).expect("a clock").clock;
        assert_eq!(clock, Some(ClockReading { ahead_ms: -7, error_ms: 2 }));
        with_clock["clock"] = json!({"ahead_ms": 0.5, "error_ms": 2});
        assert_eq!(Report::from_json(with_clock).expect_err("half a millisecond").field, "clock.ahead_ms");
        assert_eq!(with_cuts(json!([{"after": 5, "applied": 7}])).expect_err("partial").field, "cuts[0].flows");
        for member in ["history", "applied", "ready", "rows_used", "rows_capacity"] {
            let mut partial = report.clone();
            partial.as_object_mut().expect("object").remove(member);
            assert_eq!(Report::from_json(partial).expect_err(member).field, member);
        }
    }
}
