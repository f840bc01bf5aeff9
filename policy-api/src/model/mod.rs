//! The words of the policy API: what its requests, answers and watch lines consist of.
//!
//! Everything that comes from outside is parsed here, once, into types that cannot hold anything wrong; what is refused
//! is refused by name ([`Invalid`], [`InvalidField`]). Requests are taken apart field by field and unknown members are
//! refused; answers and watch lines are read by serde, which ignores members it does not know. No IO, no HTTP.

mod access;
mod answer;
mod api_token;
mod app;
mod ask;
mod at;
mod binding;
mod change;
mod change_reader;
mod change_set;
mod clock;
mod credential;
mod digest;
mod entry;
mod fields;
mod gate_report;
mod gate_watch;
mod grant;
mod group;
pub(crate) mod hex;
mod history;
mod history_query;
mod identity_token;
mod invalid;
mod isolation;
mod json;
mod lifetime;
mod name;
mod node;
mod ports;
mod prefix;
mod problem;
mod protocol;
mod query;
mod receipt;
mod replica;
mod revocation;
mod rule;
mod seal;
mod selector;
mod signer;
mod team;
mod time;
mod told;
mod usage;

pub use self::{
    access::{
        Access, AccessAnswer, AccessChanges, CanAnswer, CanQuery, Layer, LayerName, LayerSpec, Member, Permission,
        PermissionRow, Permissions, Privilege, Resource, ResourceId, ResourceSpec, Role, RoleName, RoleSpec, Subject,
        UserName, Way, WhoCan, WhoCanAnswer, WhoCanQuery,
    },
    answer::{
        API_VERSION, AppAnswer, AppDeleted, Cause, ChangesAnswer, CheckAnswer, Deleted, InForce, IsolationAnswer,
        IsolationDeleted, List, LookupAnswer, Outcome, Owned, Released, RuleAnswer, Status, VerdictWord, Would,
    },
    api_token::{ApiToken, TokenAnswer, TokenRevoked, TokenSpec, TokenView, WhoAmI},
    app::{App, AppSettings, AppWish, GroupWish},
    ask::{May, MayAnswer, RequestAnswer, RequestDeleted, RequestId, RuleRequest, Written},
    at::At,
    binding::{Binding, BindingState, Claim, Claimed, Labels},
    change::{CHANGES_PER_LINE, Change, Key, WatchLine},
    change_set::ChangeSet,
    clock::ClockReading,
    credential::{KeyId, TokenHash, TokenId, UnderlayProof},
    digest::Digest,
    entry::{Attempt, EntryKind, HistoryEntry, Origin, Restored, Spread, Taken},
    fields::Fields,
    gate_report::{Decision, GateNote, GateReport, GateVerdict},
    gate_watch::{GateLine, GateState, RevokedTokens},
    grant::{Grant, Grants},
    group::Group,
    history::{ETag, History, Revision},
    history_query::{HistoryItem, HistoryQuery, InForceOn, KnownSeal, Misfit, Verified},
    identity_token::{
        Audience, IdentityClaims, IdentityToken, IdentityTokenId, IdentityTokenSpec, LONGEST_LIFETIME, TokenIssuer,
    },
    invalid::{Invalid, InvalidField},
    isolation::{Isolation, IsolationSpec, Target},
    json::strict_json,
    lifetime::Lifetime,
    name::{AppName, AppPattern, GroupName, NodeName, TeamName, TokenName, nearest_name},
    node::{
        CHALLENGE_PORT, Certified, Join, Joined, Node, NodeAnswer, NodeDeleted, NodeSettings, NodeView, Overlay,
        Report, Slices,
    },
    ports::Ports,
    prefix::Prefix,
    problem::Problem,
    protocol::Protocol,
    query::{CheckQuery, RuleFilter},
    receipt::{Cut, NodeReceipt, Receipt},
    replica::{Follower, Inconsistent, Replica},
    revocation::{Revocation, RevocationAnswer, Revoked},
    rule::{Action, Mode, OnDeny, Reason, Rule, RuleId, RuleSpec, Tuple},
    seal::Seal,
    selector::Selector,
    signer::{
        Due, Jwk, JwkSet, NewSignerKey, PublicKey, Sealed, SignerKey, SignerKeyId, next_key, published_ahead,
        signing_key,
    },
    team::{Team, TeamAnswer, TeamDeleted, TeamSettings},
    time::Timestamp,
    usage::{RuleUsage, RuleView, Usage, UsageReport},
};
