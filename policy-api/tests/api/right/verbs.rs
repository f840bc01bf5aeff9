//! One table of every verb: what kind of selector it is about, and for whom it works. Each cell is done over HTTP; it works, is
//! asked for, or is a 403 that says who, why and which role would do, and that stands in the history by then.

use std::net::IpAddr;

use policy_api::{
    client::{Client, ClientError},
    model::{
        Action, AppSettings, At, ChangeSet, CheckQuery, EntryKind, HistoryQuery, IsolationSpec, NodeSettings, Problem,
        RequestId, Revision, RuleFilter, TokenSpec, Written,
    },
    policy::{Difference, Policy, Prune, Standing, StandingAccess},
};
use serde_json::json;

use super::{assert_names_the_role, grants, owning, plain, user, world_of_teams};
use crate::world::{World, app, claim, name, rule};

/// Admin, operator, auditor, writer of shop, wide writer of shop, writer of another team: the columns.
const ROLES: [(&str, &str); 6] = [
    ("adm", "admin"),
    ("ops", "operator"),
    ("aud", "auditor"),
    ("wri", "writer:shop"),
    ("wid", "wide:shop"),
    ("pay", "writer:pay"),
];

/// What somebody does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    /// A rule from an app of team shop to the selector, and from the selector to it.
    AllowTo,
    AllowFrom,
    DenyTo,
    DenyFrom,
    /// The allow or the deny to the selector that an operator wrote.
    RevokeAllow,
    RevokeDeny,
    /// The allow to the selector, from a file.
    Apply,
    /// Back to before an operator wrote the allow to the selector.
    Rollback,
    MakeApp,
    Audit,
    Join(&'static str),
    Leave(&'static str),
    DeleteApp,
    MakeGroup,
    Isolate,
    Release,
    Drain,
    RemoveNode,
    SetTeam,
    DeleteTeam,
    CreateToken,
    RevokeToken,
    /// What team shop asked for, from its app to the selector.
    Accept,
    Reject,
    Read(Question),
}

/// What somebody asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    List,
    ListAt,
    Check,
    CheckAt,
    Lookup,
    LookupAt,
    Apps,
    Groups,
    Instances,
    Nodes,
    Status,
    Isolations,
    History,
    HistoryVerify,
    Requests,
    Teams,
    Tokens,
    CanI,
    WhoAmI,
    InForce,
    Receipt,
    /// All that `netpol export` and `netpol diff` read.
    Export,
    Permissions,
}

/// `y` done, `a` asked for, `-` refused; a column for each role.
type Cells = &'static str;

/// A verb, the selector it is about, and what comes of it.
const TABLE: [(Verb, &str, Cells); 133] = [
    (Verb::AllowTo, "shop-db", "yy-yy-"),
    (Verb::AllowTo, "pay-web", "yy-aaa"),
    (Verb::AllowTo, "lone", "yy-aa-"),
    (Verb::AllowTo, "ghost", "yy-aa-"),
    (Verb::AllowTo, "group:shop", "yy--y-"),
    (Verb::AllowTo, "group:pay", "yy----"),
    (Verb::AllowTo, "group:free", "yy----"),
    (Verb::AllowTo, "any", "yy----"),
    (Verb::AllowTo, "host", "yy----"),
    (Verb::AllowFrom, "shop-db", "yy-yy-"),
    (Verb::AllowFrom, "pay-web", "yy-aaa"),
    (Verb::AllowFrom, "lone", "yy-aa-"),
    (Verb::AllowFrom, "ghost", "yy-aa-"),
    (Verb::AllowFrom, "group:shop", "yy--y-"),
    (Verb::AllowFrom, "group:pay", "yy--y-"),
    (Verb::AllowFrom, "group:free", "yy--y-"),
    (Verb::AllowFrom, "any", "yy--y-"),
    (Verb::AllowFrom, "host", "yy--y-"),
    (Verb::DenyTo, "shop-db", "yy-yy-"),
    (Verb::DenyTo, "pay-web", "yy-yyy"),
    (Verb::DenyTo, "lone", "yy-yy-"),
    (Verb::DenyTo, "ghost", "yy----"),
    (Verb::DenyTo, "group:shop", "yy--y-"),
    (Verb::DenyTo, "group:pay", "yy--y-"),
    (Verb::DenyTo, "group:free", "yy--y-"),
    (Verb::DenyTo, "any", "yy--y-"),
    (Verb::DenyTo, "host", "yy--y-"),
    (Verb::DenyFrom, "shop-db", "yy-yy-"),
    (Verb::DenyFrom, "pay-web", "yy-yyy"),
    (Verb::DenyFrom, "lone", "yy-yy-"),
    (Verb::DenyFrom, "ghost", "yy----"),
    (Verb::DenyFrom, "group:shop", "yy--y-"),
    (Verb::DenyFrom, "group:pay", "yy--y-"),
    (Verb::DenyFrom, "group:free", "yy--y-"),
    (Verb::DenyFrom, "any", "yy--y-"),
    (Verb::DenyFrom, "host", "yy--y-"),
    (Verb::RevokeAllow, "shop-db", "yy-yy-"),
    (Verb::RevokeAllow, "pay-web", "yy-yyy"),
    (Verb::RevokeAllow, "lone", "yy-yy-"),
    (Verb::RevokeAllow, "ghost", "yy-yy-"),
    (Verb::RevokeAllow, "group:shop", "yy-yy-"),
    (Verb::RevokeAllow, "group:pay", "yy-yy-"),
    (Verb::RevokeAllow, "group:free", "yy-yy-"),
    (Verb::RevokeAllow, "any", "yy-yy-"),
    (Verb::RevokeAllow, "host", "yy-yy-"),
    (Verb::RevokeDeny, "shop-db", "yy----"),
    (Verb::RevokeDeny, "pay-web", "yy----"),
    (Verb::RevokeDeny, "lone", "yy----"),
    (Verb::RevokeDeny, "ghost", "yy----"),
    (Verb::RevokeDeny, "group:shop", "yy----"),
    (Verb::RevokeDeny, "group:pay", "yy----"),
    (Verb::RevokeDeny, "group:free", "yy----"),
    (Verb::RevokeDeny, "any", "yy----"),
    (Verb::RevokeDeny, "host", "yy----"),
    (Verb::Apply, "shop-db", "yy-yy-"),
    (Verb::Apply, "pay-web", "yy----"),
    (Verb::Apply, "lone", "yy----"),
    (Verb::Apply, "ghost", "yy----"),
    (Verb::Apply, "group:shop", "yy--y-"),
    (Verb::Apply, "group:pay", "yy----"),
    (Verb::Apply, "group:free", "yy----"),
    (Verb::Apply, "any", "yy----"),
    (Verb::Apply, "host", "yy----"),
    (Verb::Rollback, "shop-db", "yy-yy-"),
    (Verb::Rollback, "pay-web", "yy-yyy"),
    (Verb::Rollback, "lone", "yy-yy-"),
    (Verb::Rollback, "ghost", "yy-yy-"),
    (Verb::Rollback, "group:shop", "yy-yy-"),
    (Verb::Rollback, "group:pay", "yy-yy-"),
    (Verb::Rollback, "group:free", "yy-yy-"),
    (Verb::Rollback, "any", "yy-yy-"),
    (Verb::Rollback, "host", "yy-yy-"),
    (Verb::MakeApp, "shop-new", "yy-yy-"),
    (Verb::MakeApp, "pay-new", "yy---y"),
    (Verb::MakeApp, "ghost", "yy----"),
    (Verb::Audit, "shop-web", "yy----"),
    (Verb::Audit, "pay-web", "yy----"),
    (Verb::Audit, "lone", "yy----"),
    (Verb::Join("shop"), "shop-web", "yy-yy-"),
    (Verb::Join("pay"), "shop-web", "yy----"),
    (Verb::Join("free"), "shop-web", "yy----"),
    (Verb::Join("shop"), "lone", "yy----"),
    (Verb::Join("pay"), "pay-web", "yy---y"),
    (Verb::Leave("shop"), "shop-web", "yy-yy-"),
    (Verb::Leave("pay"), "shop-web", "yy----"),
    (Verb::Leave("free"), "shop-web", "yy----"),
    (Verb::DeleteApp, "shop-new", "yy-yy-"),
    (Verb::DeleteApp, "pay-new", "yy---y"),
    (Verb::DeleteApp, "ghost", "yy----"),
    (Verb::MakeGroup, "shop-new", "yy-yy-"),
    (Verb::MakeGroup, "pay-new", "yy---y"),
    (Verb::MakeGroup, "new", "yy----"),
    (Verb::Isolate, "shop-web", "yy----"),
    (Verb::Isolate, "pay-web", "yy----"),
    (Verb::Isolate, "lone", "yy----"),
    (Verb::Release, "shop-web", "yy----"),
    (Verb::Release, "pay-web", "yy----"),
    (Verb::Release, "lone", "yy----"),
    (Verb::Drain, "n1", "yy----"),
    (Verb::RemoveNode, "n1", "yy----"),
    (Verb::SetTeam, "third", "y-----"),
    (Verb::DeleteTeam, "third", "y-----"),
    (Verb::CreateToken, "third", "y-----"),
    (Verb::RevokeToken, "third", "y-----"),
    (Verb::Accept, "pay-web", "yy---y"),
    (Verb::Accept, "lone", "yy----"),
    (Verb::Accept, "ghost", "yy----"),
    (Verb::Reject, "pay-web", "yy-yyy"),
    (Verb::Reject, "lone", "yy-yy-"),
    (Verb::Reject, "ghost", "yy-yy-"),
    (Verb::Read(Question::List), "", "yyyyyy"),
    (Verb::Read(Question::ListAt), "", "yyyyyy"),
    (Verb::Read(Question::Check), "", "yyyyyy"),
    (Verb::Read(Question::CheckAt), "", "yyyyyy"),
    (Verb::Read(Question::Lookup), "", "yyyyyy"),
    (Verb::Read(Question::LookupAt), "", "yyyyyy"),
    (Verb::Read(Question::Apps), "", "yyyyyy"),
    (Verb::Read(Question::Groups), "", "yyyyyy"),
    (Verb::Read(Question::Instances), "", "yyyyyy"),
    (Verb::Read(Question::Nodes), "", "yyyyyy"),
    (Verb::Read(Question::Status), "", "yyyyyy"),
    (Verb::Read(Question::Isolations), "", "yyyyyy"),
    (Verb::Read(Question::History), "", "yyyyyy"),
    (Verb::Read(Question::HistoryVerify), "", "yyyyyy"),
    (Verb::Read(Question::Requests), "", "yyyyyy"),
    (Verb::Read(Question::Teams), "", "yyyyyy"),
    (Verb::Read(Question::Tokens), "", "yyyyyy"),
    (Verb::Read(Question::CanI), "", "yyyyyy"),
    (Verb::Read(Question::WhoAmI), "", "yyyyyy"),
    (Verb::Read(Question::InForce), "", "yyyyyy"),
    (Verb::Read(Question::Receipt), "", "yyyyyy"),
    (Verb::Read(Question::Export), "", "yyyyyy"),
    (Verb::Read(Question::Permissions), "", "yyyyyy"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_verb_about_every_kind_of_selector_works_or_is_refused_with_the_reason_and_on_the_record() {
    let mut stage = Stage::set().await;
    for (verb, on, expected) in TABLE {
        for (column, wanted) in expected.chars().enumerate() {
            let found = stage.cell(verb, on, column).await;
            assert_eq!(found, wanted, "{verb:?} {on} by {}", ROLES[column].1);
        }
    }
    println!("{} cells, {} refusals, each in the history", TABLE.len() * ROLES.len(), stage.refusals);
    stage.world.server.stop().await;
}

/// The world, and who acts in it.
struct Stage {
    world: World,
    /// A writer of team shop, who asks.
    asker: Client,
    bearers: Vec<Bearer>,
    refusals: usize,
    /// Of an instance of shop-web.
    address: IpAddr,
}

/// Who holds a role now: each name is refused no oftener than each refusal is written down by itself.
struct Bearer {
    name: String,
    client: Client,
    refusals: usize,
}

/// What each caller has written down by itself.
const BY_ITSELF: usize = 8;

/// What the deed needs to be about something.
#[derive(Clone, Copy, Debug)]
struct Prepared {
    address: IpAddr,
    before: Revision,
    request: Option<RequestId>,
}

impl Stage {
    async fn set() -> Self {
        let world = world_of_teams().await;
        let asker = user(&world, "ask", "writer:shop").await;
        let mut bearers = Vec::new();
        for (name, roles) in ROLES {
            bearers.push(Bearer { client: user(&world, name, roles).await, name: name.to_owned(), refusals: 0 });
        }
        let address = join(&world).await;
        Self { world, asker, bearers, refusals: 0, address }
    }

    /// Does it; what was done is undone.
    async fn cell(&mut self, verb: Verb, on: &str, column: usize) -> char {
        let prepared = self.prepare(verb, on).await;
        let client = &self.bearers[column].client;
        let outcome = verb.done_by(client, on, prepared).await;
        let found = match &outcome {
            Ok(outcome) => *outcome,
            Err(ClientError::Problem(problem)) => {
                self.assert_on_record(column, problem).await;
                '-'
            }
            Err(other) => panic!("{verb:?} {on}: {other}"),
        };
        if !matches!(verb, Verb::Read(_)) {
            self.clear().await;
        }
        found
    }

    /// The refusal names who asked and who might, and it is what the history says last of the asker.
    async fn assert_on_record(&mut self, column: usize, problem: &Problem) {
        let bearer = &mut self.bearers[column];
        let who = format!("token/{}", bearer.name);
        assert_names_the_role(problem, &who);
        let query = HistoryQuery { kinds: [EntryKind::Refused].into(), who: Some(who), ..HistoryQuery::default() };
        let told = self.world.operator.history(&query, false, None, 1).await.expect("history").items;
        let attempt = told.first().and_then(|item| item.entry.refused.as_ref()).expect("on record");
        assert_eq!((attempt.detail.as_str(), attempt.count), (problem.detail.as_str(), 1));
        (bearer.refusals, self.refusals) = (bearer.refusals + 1, self.refusals + 1);
        if bearer.refusals == BY_ITSELF {
            let (short, roles) = ROLES[column];
            let name = format!("{short}-{}", self.refusals);
            let client = user(&self.world, &name, roles).await;
            *bearer = Bearer { name, client, refusals: 0 };
        }
    }

    /// By the operator, what there has to be.
    async fn prepare(&mut self, verb: Verb, on: &str) -> Prepared {
        let operator = &self.world.operator;
        let before = self.world.revision().await;
        let mut request = None;
        match verb {
            Verb::RevokeAllow | Verb::Rollback => {
                operator.put_rule(&to(on, Action::Allow), &plain()).await.expect("allowed");
            }
            Verb::RevokeDeny => {
                operator.put_rule(&to(on, Action::Deny), &plain()).await.expect("denied");
            }
            Verb::Leave(group) => set(operator, on, json!({"groups": [group]})).await.expect("joined"),
            Verb::DeleteApp => set(operator, on, json!({})).await.expect("made"),
            Verb::Release => isolate(operator, on).await.expect("isolated"),
            Verb::DeleteTeam => set_team(operator, on).await.expect("team"),
            Verb::RevokeToken => create_token(operator, on).await.expect("token"),
            Verb::Accept | Verb::Reject => {
                let asked = self.asker.put_or_ask(&to(on, Action::Allow), &plain()).await.expect("asked");
                let Written::Asked(asked) = asked else { panic!("it stands: {asked:?}") };
                request = Some(asked.request.id);
            }
            _ => {}
        }
        Prepared { address: self.address, before, request }
    }

    /// Back to the beginning.
    async fn clear(&mut self) {
        let operator = &self.world.operator;
        for request in operator.requests().await.expect("requests").items {
            operator.reject(request.id, &plain()).await.expect("rejected");
        }
        for isolation in operator.isolations().await.expect("isolations").items {
            operator.end_isolation(&isolation.target(), &plain()).await.expect("released");
        }
        let rules = operator.list_rules(&RuleFilter::default()).await.expect("rules").items;
        let written = rules.iter().filter(|view| !view.rule.is_built_in()).map(|view| view.rule.id).collect();
        operator.change(&ChangeSet::of_rules(Vec::new(), written), &plain()).await.expect("revoked");
        for made in operator.apps().await.expect("apps").items {
            match made.name.as_str() {
                "ghost" | "shop-new" | "pay-new" => {
                    drop(operator.delete_app(&made.name, &plain()).await.expect("deleted"))
                }
                name => set(operator, name, json!({"mode": "enforce", "groups": []})).await.expect("set back"),
            }
        }
        // What is gone already is gone.
        let _gone = operator.delete_team(&"third".parse().expect("name"), &plain()).await;
        let _gone = operator.revoke_token(&"third".parse().expect("name"), &plain()).await;
        if operator.nodes().await.expect("nodes").items.is_empty() {
            let prepared = &self.world.prepared;
            tokio::task::block_in_place(|| prepared.new_join_token("n1"));
            self.address = join(&self.world).await;
        }
    }
}

/// Has the node join, and run an instance of shop-web at the address that is returned.
async fn join(world: &World) -> IpAddr {
    let node = world.prepared.join(&[world.url()], "n1", "192.168.1.1").await;
    let joined = world.operator.nodes().await.expect("nodes").items.remove(0);
    let address = joined.node.slices.slice_v4.subnet(32, 7).expect("an address").address();
    node.claim(&claim("shop-web", &[&address.to_string()])).await.expect("claimed");
    address
}

fn to(on: &str, action: Action) -> policy_api::model::RuleSpec {
    rule(&format!("{action} shop-web {on} 8080"))
}

async fn set(client: &Client, name: &str, settings: serde_json::Value) -> Result<(), ClientError> {
    let settings = AppSettings::from_json(settings).expect("settings");
    client.set_app(&app(name), &settings, &plain()).await.map(drop)
}

async fn isolate(client: &Client, name: &str) -> Result<(), ClientError> {
    let spec = IsolationSpec { app: app(name), instance: None, expires_at: None, reason: None };
    client.isolate(&spec, &plain()).await.map(drop)
}

async fn set_team(client: &Client, name: &str) -> Result<(), ClientError> {
    client.set_team(&name.parse().expect("name"), &owning(&format!("{name}-*"), ""), &plain()).await.map(drop)
}

async fn create_token(client: &Client, name: &str) -> Result<(), ClientError> {
    let (_, hash) = policy_api::client::new_secret().expect("random");
    let spec = TokenSpec { name: name.parse().expect("name"), grants: grants("auditor"), hash, expires_at: None };
    client.create_token(&spec, &plain()).await.map(drop)
}

/// As `netpol export`, `diff`, `apply` and `rollback` read what stands.
async fn standing(client: &Client) -> Result<Standing, ClientError> {
    let rules = client.list_rules(&RuleFilter::default()).await?.items;
    let (apps, groups) = (client.apps().await?.items, client.groups().await?.items);
    let access = StandingAccess {
        layers: client.layers().await?.items,
        roles: client.roles().await?.items,
        resources: client.resources().await?.items,
    };
    Ok(Standing { rules, apps, groups, access, now: client.status().await?.now })
}

/// As `netpol apply` and `netpol rollback` do it: makes the one change that leads from what stands to what is wanted.
async fn make_stand(client: &Client, wanted: &Policy, prune: &Prune) -> Result<(), ClientError> {
    let difference = Difference::of(wanted, &standing(client).await?, prune);
    client.change(&difference.change_set(), &plain()).await.map(drop)
}

impl Verb {
    /// Returns `y` if it is done, and `a` if it is asked for.
    async fn done_by(self, client: &Client, on: &str, prepared: Prepared) -> Result<char, ClientError> {
        match self {
            Self::AllowTo | Self::AllowFrom | Self::DenyTo | Self::DenyFrom => return self.write(client, on).await,
            Self::RevokeAllow | Self::RevokeDeny => revoke(client, on).await?,
            Self::Apply => {
                let text = policy_api::policy::File {
                    name: "shop.yaml".to_owned(),
                    text: format!(
                        "rules:\n  - {{source: shop-web, destination: \"{on}\", ports: [8080], action: allow}}\n"
                    ),
                };
                let wanted = policy_api::policy::read(&[text]).expect("a policy");
                make_stand(client, &wanted, &Prune::Nothing).await?;
            }
            Self::Rollback => {
                let past = client.at(At::Revision(prepared.before)).rules(&RuleFilter::default()).await?.items;
                let wanted = Policy::of_rules(past.iter().map(|view| &view.rule));
                make_stand(client, &wanted, &Prune::Everything).await?;
            }
            Self::MakeApp => set(client, on, json!({})).await?,
            Self::Audit => set(client, on, json!({"mode": "audit"})).await?,
            Self::Join(group) => set(client, on, json!({"add_groups": [group]})).await?,
            Self::Leave(group) => set(client, on, json!({"remove_groups": [group]})).await?,
            Self::DeleteApp => drop(client.delete_app(&app(on), &plain()).await?),
            Self::MakeGroup => {
                let set = ChangeSet::from_json(json!({"groups": [on]})).expect("a set");
                // Groups stay: what stands is no deed, so each is made once, and asked about as often.
                let dry = policy_api::client::WriteOptions { dry_run: true, ..plain() };
                client.change(&set, &dry).await?;
            }
            Self::Isolate => isolate(client, on).await?,
            Self::Release => drop(client.end_isolation(&on.parse().expect("target"), &plain()).await?),
            Self::Drain => {
                client.set_node(&name(on), &NodeSettings { draining: true }, &plain()).await?;
            }
            Self::RemoveNode => drop(client.remove_node(&name(on), &plain()).await?),
            Self::SetTeam => set_team(client, on).await?,
            Self::DeleteTeam => drop(client.delete_team(&on.parse().expect("name"), &plain()).await?),
            Self::CreateToken => create_token(client, on).await?,
            Self::RevokeToken => drop(client.revoke_token(&on.parse().expect("name"), &plain()).await?),
            Self::Accept => drop(client.accept(prepared.request.expect("asked"), &plain()).await?),
            Self::Reject => drop(client.reject(prepared.request.expect("asked"), &plain()).await?),
            Self::Read(question) => question.asked_by(client, prepared).await?,
        }
        Ok('y')
    }

    async fn write(self, client: &Client, on: &str) -> Result<char, ClientError> {
        let action = if matches!(self, Self::AllowTo | Self::AllowFrom) { Action::Allow } else { Action::Deny };
        let spec = match self {
            Self::AllowTo | Self::DenyTo => to(on, action),
            _ => rule(&format!("{action} {on} shop-web 8080")),
        };
        Ok(match client.put_or_ask(&spec, &plain()).await? {
            Written::Stands(_) => 'y',
            Written::Asked(_) => 'a',
        })
    }
}

async fn revoke(client: &Client, on: &str) -> Result<(), ClientError> {
    let filter = RuleFilter {
        source: Some("shop-web".parse().expect("selector")),
        destination: Some(on.parse().expect("selector")),
        ..RuleFilter::default()
    };
    let standing = client.list_rules(&filter).await?.items;
    client.delete_rule(standing.first().expect("it stands").rule.id, &plain()).await.map(drop)
}

impl Question {
    async fn asked_by(self, client: &Client, prepared: Prepared) -> Result<(), ClientError> {
        let selector = |name: &str| name.parse().expect("selector");
        let query = CheckQuery {
            source: selector("shop-web"),
            destination: selector("pay-web"),
            protocol: Default::default(),
            port: Some(80),
        };
        let (first, address) = (At::Revision(prepared.before), prepared.address);
        match self {
            Self::List => client.list_rules(&RuleFilter::default()).await.map(drop),
            Self::ListAt => client.at(first).rules(&RuleFilter::default()).await.map(drop),
            Self::Check => client.check(&query).await.map(drop),
            Self::CheckAt => client.at(first).check(&query).await.map(drop),
            Self::Lookup => client.lookup(address, None).await.map(drop),
            Self::LookupAt => {
                let now = client.status().await?.now;
                client.lookup(address, Some(now)).await.map(drop)
            }
            Self::Apps => client.apps().await.map(drop),
            Self::Groups => client.groups().await.map(drop),
            Self::Instances => client.instances(None).await.map(drop),
            Self::Nodes => client.nodes().await.map(drop),
            Self::Status => client.status().await.map(drop),
            Self::Isolations => client.isolations().await.map(drop),
            Self::History => client.history(&HistoryQuery::default(), false, None, 10).await.map(drop),
            Self::HistoryVerify => client.verify_history(None).await.map(drop),
            Self::Requests => client.requests().await.map(drop),
            Self::Teams => client.teams().await.map(drop),
            Self::Tokens => client.tokens().await.map(drop),
            Self::CanI => client.can_i("allow", &to("pay-web", Action::Allow)).await.map(drop),
            Self::WhoAmI => client.who_am_i().await.map(drop),
            Self::InForce => client.wait_in_force(Revision(1), std::time::Duration::ZERO).await.map(drop),
            Self::Receipt => client.receipt(Revision(1), std::time::Duration::ZERO).await.map(drop),
            Self::Export => standing(client).await.map(|standing| drop(standing.policy())),
            Self::Permissions => client.permissions(None, None).await.map(drop),
        }
    }
}
