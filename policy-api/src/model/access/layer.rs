//! Layers: machines and apps that are spoken of together.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{id::LayerName, listed, subject::Subject};
use crate::model::{
    fields::Fields,
    history::Revision,
    invalid::{Invalid, InvalidField},
};

/// A layer. People are in roles, not in layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Layer {
    pub name: LayerName,
    pub members: BTreeSet<Subject>,
    /// The revision that last changed it.
    pub revision: Revision,
}

/// A layer as it is to be, whatever it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LayerSpec {
    pub name: LayerName,
    /// In the order of the request, each once.
    pub members: Vec<Subject>,
}

impl Layer {
    /// How many members a layer can have.
    pub const MOST_MEMBERS: usize = 10_000;

    /// Whether it has just these members.
    pub fn is_as(&self, spec: &LayerSpec) -> bool {
        self.members == spec.members.iter().cloned().collect()
    }
}

impl LayerSpec {
    /// Takes a part of a request apart.
    pub fn from_fields(mut fields: Fields) -> Result<Self, InvalidField> {
        let name = fields.required("name", "name the layer")?;
        let members = listed(&mut fields, "members", Layer::MOST_MEMBERS)?
            .ok_or_else(|| fields.missing("members", "list its members, like `host:ci-1`; `[]` is nobody"))?;
        let path = fields.path("members");
        fields.finish()?;
        for (i, member) in members.iter().enumerate() {
            if let Subject::User(_) = member {
                let problem = "is a person, and layers are of machines and apps";
                let remedy = "put it into a role instead";
                return Err(Invalid::new(member, problem, remedy).in_field(format!("{path}[{i}]")));
            }
        }
        Ok(Self { name, members })
    }

    /// Takes a request's body apart.
    pub fn from_json(value: Value) -> Result<Self, InvalidField> {
        Self::from_fields(Fields::of_body(value)?)
    }
}

impl From<&Layer> for LayerSpec {
    fn from(layer: &Layer) -> Self {
        Self { name: layer.name.clone(), members: layer.members.iter().cloned().collect() }
    }
}
