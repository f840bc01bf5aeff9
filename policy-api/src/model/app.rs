//! Apps: the units that policy speaks about.

use common::Identity;
use serde::{Deserialize, Serialize};

use super::{history::Revision, name::AppName};

/// An app and the identity that stands for it in the datapath.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    pub name: AppName,
    #[serde(with = "identity_number")]
    pub identity: Identity,
    /// The revision that last changed it.
    pub revision: Revision,
}

/// Identities on the wire: their number.
pub(super) mod identity_number {
    use common::Identity;
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(in crate::model) fn serialize<S: Serializer>(identity: &Identity, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(identity.number())
    }

    pub(in crate::model) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Identity, D::Error> {
        let number = u32::deserialize(deserializer)?;
        Identity::new(number)
            .filter(|identity| identity.is_app())
            .ok_or_else(|| D::Error::custom(format!("{number} is not an app's identity")))
    }
}
