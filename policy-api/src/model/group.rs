//! Groups: sets of apps that policy can speak about by one name.

use serde::{Deserialize, Serialize};

use super::{history::Revision, name::GroupName};

/// A group, and the number that stands for it in the datapath. Its members say so themselves: [`super::App::groups`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Group {
    pub name: GroupName,
    /// Ascending from 1, never reused.
    pub number: u32,
    /// The revision that last changed it.
    pub revision: Revision,
}
