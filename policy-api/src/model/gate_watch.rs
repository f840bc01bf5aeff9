//! What a gatekeeper has to know of one resource, whole in each line of its watch: who signs, who may do what, and which
//! tokens are good no longer.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    history::Revision,
    identity_token::{IdentityClaims, IdentityTokenId, TokenIssuer},
    name::NodeName,
    signer::Jwk,
    time::Timestamp,
};
use crate::model::{Privilege, ResourceId, Subject};

/// A line of a gatekeeper's watch. A state stands in the place of every one before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum GateLine {
    State(Box<GateState>),
    /// Nothing new up to this revision.
    Heartbeat {
        /// Always true: what tells it from a state.
        heartbeat: bool,
        revision: Revision,
    },
}

/// All that a gatekeeper has to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateState {
    /// When this stood.
    pub revision: Revision,
    /// Whose tokens count.
    pub issuer: TokenIssuer,
    pub resource: ResourceId,
    pub keys: Vec<Jwk>,
    /// Who may do what, roles and layers resolved. Nobody, where there is no such resource.
    pub subjects: BTreeMap<Subject, BTreeSet<Privilege>>,
    pub revoked: RevokedTokens,
}

/// Tokens that are good no longer, though they have not ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedTokens {
    pub tokens: BTreeSet<IdentityTokenId>,
    /// Those of a subject that were issued before this.
    pub subjects: BTreeMap<Subject, Timestamp>,
    /// Those that a node asked for, and that were issued before this.
    #[serde(default)]
    pub nodes: BTreeMap<NodeName, Timestamp>,
}

impl GateState {
    /// Whether it says the same as another one, whenever that stood.
    pub fn says_what(&self, other: &Self) -> bool {
        let Self { revision: _, issuer, resource, keys, subjects, revoked } = self;
        (issuer, resource, keys, subjects, revoked)
            == (&other.issuer, &other.resource, &other.keys, &other.subjects, &other.revoked)
    }
}

impl RevokedTokens {
    /// Whether this token is one of them.
    pub fn contains(&self, claims: &IdentityClaims) -> bool {
        let issued = claims.iat.saturating_mul(1_000);
        let is_before = |before: &Timestamp| issued < before.unix_milliseconds();
        self.tokens.contains(&claims.jti)
            || self.subjects.get(&claims.sub).is_some_and(is_before)
            || claims.node.as_ref().and_then(|node| self.nodes.get(node)).is_some_and(is_before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lines_read_as_documented() {
        let state = json!({
            "revision": 7, "issuer": "netpol:00ff00ff00ff00ff", "resource": "production/release-bot", "keys": [],
            "subjects": {"host:ci-1": ["create", "read"]},
            "revoked": {"tokens": ["00112233445566778899aabbccddeeff"], "subjects": {"host:ci-2": "2026-01-31T12:00:00.000Z"},
                        "nodes": {"a": "2026-01-31T12:00:00.000Z"}},
        });
        let line: GateLine = serde_json::from_value(state.clone()).expect("a line");
        assert!(matches!(&line, GateLine::State(state) if state.subjects.len() == 1), "{line:?}");
        assert_eq!(serde_json::to_value(&line).expect("json"), state);
        let beat = json!({"heartbeat": true, "revision": 8});
        let line: GateLine = serde_json::from_value(beat.clone()).expect("a line");
        assert_eq!(line, GateLine::Heartbeat { heartbeat: true, revision: Revision(8) });
        assert_eq!(serde_json::to_value(&line).expect("json"), beat);
    }

    #[test]
    fn a_revoked_subject_is_good_again_by_what_is_issued_later() {
        let claims = |iat| IdentityClaims {
            iss: "netpol:00ff00ff00ff00ff".parse().expect("issuer"),
            sub: "host:ci-1".parse().expect("subject"),
            aud: "release-bot".parse().expect("audience"),
            iat,
            nbf: iat,
            exp: iat + 300,
            jti: IdentityTokenId::new([1; 16]),
            instance: None,
            node: None,
            token: None,
        };
        let before = Timestamp::of_unix_milliseconds(1_000_500).expect("a time");
        let subjects = BTreeMap::from([("host:ci-1".parse().expect("subject"), before)]);
        let revoked = RevokedTokens { subjects, ..RevokedTokens::default() };
        assert!(revoked.contains(&claims(999)) && revoked.contains(&claims(1_000)));
        assert!(!revoked.contains(&claims(1_001)));
        let of_node = |node: &str| IdentityClaims { node: Some(node.parse().expect("a node")), ..claims(1_000) };
        let nodes = BTreeMap::from([("a".parse().expect("a node"), before)]);
        let revoked = RevokedTokens { nodes, ..RevokedTokens::default() };
        assert!(
            revoked.contains(&of_node("a")) && !revoked.contains(&of_node("b")) && !revoked.contains(&claims(1_000))
        );
        let tokens = BTreeSet::from([IdentityTokenId::new([1; 16])]);
        assert!(RevokedTokens { tokens, ..RevokedTokens::default() }.contains(&claims(1_001)));
    }
}
