//! Role × team × selector × verb: every cell works, is asked for, or is refused with the reason.

use policy_api::{
    client::{Client, ClientError},
    model::{Action, HistoryQuery, Isolation, May, RuleAnswer, RuleSpec, Selector, Written},
};

use super::{assert_names_the_role, plain, user, world_of_teams};
use crate::world::{World, app, name, refusal, rule};

/// One end of a rule, in the order of rows and columns: apps of team shop, of team pay, of nobody, and of nobody and new;
/// groups of each; everything; the node.
const ENDS: [&str; 9] =
    ["shop-web", "pay-web", "lone", "ghost", "group:shop", "group:pay", "group:free", "any", "host"];

/// `y` done, `a` asked for, `-` refused, `x` no rule at all.
type Grid = [&'static str; 9];

const ALL: Grid = [
    "yyyyyyyyy", //
    "yyyyyyyyy",
    "yyyyyyyyy",
    "yyyyyyyyy",
    "yyyyyyyyy",
    "yyyyyyyyy",
    "yyyyyyyyy",
    "yyyyyyyyy",
    "yyyyyyyyx",
];
const NONE: Grid = [
    "---------", //
    "---------",
    "---------",
    "---------",
    "---------",
    "---------",
    "---------",
    "---------",
    "--------x",
];
const WRITER_ALLOWS: Grid = [
    "yaaa-----", //
    "a--------",
    "a--------",
    "a--------",
    "---------",
    "---------",
    "---------",
    "---------",
    "--------x",
];
const WRITER_DENIES: Grid = [
    "yyy------", //
    "y--------",
    "y--------",
    "---------",
    "---------",
    "---------",
    "---------",
    "---------",
    "--------x",
];
const WIDE_ALLOWS: Grid = [
    "yaaay----", //
    "a---a----",
    "a---a----",
    "a---a----",
    "yaaay----",
    "y---y----",
    "y---y----",
    "y---y----",
    "y---y---x",
];
const WIDE_DENIES: Grid = [
    "yyy-yyyyy", //
    "y---y----",
    "y---y----",
    "---------",
    "yyy-yyyyy",
    "y---y----",
    "y---y----",
    "y---y----",
    "y---y---x",
];

#[tokio::test]
async fn a_rule_is_written_asked_for_or_refused_by_the_role_and_both_ends() {
    let world = world_of_teams().await;
    let roles: [(&str, &str, Grid, Grid); 7] = [
        ("adm", "admin", ALL, ALL),
        ("ops", "operator", ALL, ALL),
        ("aud", "auditor", NONE, NONE),
        ("wri", "writer:shop", WRITER_ALLOWS, WRITER_DENIES),
        ("wid", "wide:shop", WIDE_ALLOWS, WIDE_DENIES),
        ("two", "auditor writer:shop", WRITER_ALLOWS, WRITER_DENIES),
        ("out", "writer:other", NONE, NONE),
    ];
    world
        .operator
        .set_team(&"other".parse().expect("name"), &super::owning("other-*", ""), &plain())
        .await
        .expect("team");
    for (bearer, granted, allows, denies) in roles {
        let client = user(&world, bearer, granted).await;
        for (verb, grid) in [("allow", allows), ("deny", denies)] {
            for (source, row) in ENDS.iter().zip(grid) {
                for (destination, expected) in ENDS.iter().zip(row.chars()) {
                    let text = format!("{verb} {source} {destination} 8080");
                    let found = cell(&world, &client, bearer, &rule(&text)).await;
                    assert_eq!(found, expected, "{granted}: {text}");
                }
            }
        }
    }
    world.server.stop().await;
}

/// Does it, and undoes it; what the question says must be what comes of the deed.
async fn cell(world: &World, client: &Client, bearer: &str, rule: &RuleSpec) -> char {
    let may = client.can_i(rule.action.as_str(), rule).await.map(|answer| answer.may);
    match client.put_or_ask(rule, &plain()).await {
        Ok(Written::Stands(answer)) => {
            assert_eq!(may.expect("an answer"), May::Yes);
            undo(world, &answer).await;
            'y'
        }
        Ok(Written::Asked(asked)) => {
            assert_eq!(may.expect("an answer"), May::Ask);
            assert!(!world.operator.apps().await.expect("apps").items.iter().any(|app| app.name.as_str() == "ghost"));
            client.reject(asked.request.id, &plain()).await.expect("withdrawn");
            'a'
        }
        Err(ClientError::Problem(problem)) if problem.status == 400 => {
            assert!(may.is_err());
            'x'
        }
        Err(ClientError::Problem(problem)) => {
            assert_eq!(may.expect("an answer"), May::No);
            assert_names_the_role(&problem, &format!("token/{bearer}"));
            '-'
        }
        Err(other) => panic!("{other}"),
    }
}

async fn undo(world: &World, answer: &RuleAnswer) {
    world.operator.delete_rule(answer.rule.id, &plain()).await.expect("deleted");
    let ghost = app("ghost");
    if [&answer.rule.source, &answer.rule.destination].contains(&&Selector::App(ghost.clone())) {
        world.operator.delete_app(&ghost, &plain()).await.expect("deleted");
    }
}

/// Who wrote the standing rule, and whether it may be removed by: a writer of shop, a wide writer of shop, a writer of pay.
const REMOVALS: [(&str, &str, [char; 3]); 8] = [
    ("operator", "allow shop-web shop-db 1", ['y', 'y', '-']),
    ("operator", "allow shop-web pay-db 1", ['y', 'y', 'y']),
    ("operator", "allow any shop-db 1", ['y', 'y', '-']),
    ("operator", "allow any any 1", ['-', '-', '-']),
    ("operator", "deny shop-web shop-db 1", ['-', '-', '-']),
    ("shop", "deny shop-web pay-db 1", ['y', 'y', '-']),
    ("pay", "deny shop-web pay-db 1", ['-', '-', 'y']),
    ("shop", "allow any shop-db 1", ['y', 'y', '-']),
];

#[tokio::test]
async fn an_allow_is_removed_by_the_owner_of_either_end_and_a_deny_by_who_wrote_it() {
    let world = world_of_teams().await;
    let writer = user(&world, "wri", "writer:shop").await;
    let wide = user(&world, "wid", "wide:shop").await;
    let pay = user(&world, "pay", "wide:pay").await;
    let auditor = user(&world, "aud", "auditor").await;
    for (author, text, expected) in REMOVALS {
        for ((client, bearer), may) in [(&writer, "wri"), (&wide, "wid"), (&pay, "pay")].into_iter().zip(expected) {
            let author = match author {
                "shop" => &wide,
                "pay" => &pay,
                _ => &world.operator,
            };
            let standing = author.put_rule(&rule(text), &plain()).await.expect("written").rule;
            let refused = auditor.delete_rule(standing.id, &plain()).await.expect_err("an auditor");
            assert_names_the_role(refused.problem().expect("a refusal"), "token/aud");
            let found = match client.delete_rule(standing.id, &plain()).await {
                Ok(_) => 'y',
                Err(error) => {
                    assert_names_the_role(error.problem().expect("a refusal"), &format!("token/{bearer}"));
                    world.operator.delete_rule(standing.id, &plain()).await.expect("deleted");
                    '-'
                }
            };
            assert_eq!(found, may, "{bearer}: {text}, written by {:?}", standing.team);
        }
    }
    world.server.stop().await;
}

#[tokio::test]
async fn a_deny_of_others_cannot_be_softened_by_writing_it_again() {
    let world = world_of_teams().await;
    let shop = user(&world, "shop", "wide:shop").await;
    let pay = user(&world, "pay", "writer:pay").await;
    for (author, text) in [(&pay, "deny shop-web pay-db 1"), (&world.operator, "deny shop-web shop-db 1")] {
        author.put_rule(&rule(text), &plain()).await.expect("denied");
        let softer = RuleSpec { mode: policy_api::model::Mode::Audit, ..rule(text) };
        let refused = shop.put_rule(&softer, &plain()).await.expect_err("softened");
        assert_names_the_role(refused.problem().expect("a refusal"), "token/shop");
    }
    world.server.stop().await;
}

/// What else may be done, and by whom.
#[derive(Clone, Copy, Debug)]
enum Deed {
    MakeApp(&'static str),
    Audit(&'static str),
    Join(&'static str, &'static str),
    DeleteApp(&'static str),
    Isolate,
    Release,
    Drain,
    SetTeam,
    CreateToken,
    RevokeToken,
    DeleteTeam,
}

impl Deed {
    async fn done_by(self, client: &Client) -> Result<(), ClientError> {
        let set = async |app_name: &str, settings: serde_json::Value| {
            let settings = policy_api::model::AppSettings::from_json(settings).expect("settings");
            client.set_app(&app(app_name), &settings, &plain()).await.map(drop)
        };
        let team = "third".parse().expect("name");
        match self {
            Self::MakeApp(app) => set(app, serde_json::json!({})).await,
            Self::Audit(app) => set(app, serde_json::json!({"mode": "audit"})).await,
            Self::Join(app, group) => set(app, serde_json::json!({"add_groups": [group]})).await,
            Self::DeleteApp(name) => client.delete_app(&app(name), &plain()).await.map(drop),
            Self::Isolate => {
                let spec = serde_json::json!({"app": "shop-web"});
                let spec = policy_api::model::IsolationSpec::from_json(spec).expect("spec");
                client.isolate(&spec, &plain()).await.map(drop)
            }
            Self::Release => client.end_isolation(&"shop-web".parse().expect("target"), &plain()).await.map(drop),
            Self::Drain => {
                let draining = policy_api::model::NodeSettings { draining: true };
                client.set_node(&name("n1"), &draining, &plain()).await.map(drop)
            }
            Self::SetTeam => client.set_team(&team, &super::owning("third-*", ""), &plain()).await.map(drop),
            Self::DeleteTeam => client.delete_team(&team, &plain()).await.map(drop),
            Self::CreateToken => {
                let (_, hash) = policy_api::client::new_secret().expect("random");
                let (name, grants) = ("third".parse().expect("name"), super::grants("auditor"));
                let spec = policy_api::model::TokenSpec { name, grants, hash, expires_at: None };
                client.create_token(&spec, &plain()).await.map(drop)
            }
            Self::RevokeToken => client.revoke_token(&"third".parse().expect("name"), &plain()).await.map(drop),
        }
    }
}

/// Deeds in an order in which each can be done: by admin, operator, auditor, writer of shop, wide writer of shop, writer of pay.
const DEEDS: [(Deed, &str); 17] = [
    (Deed::MakeApp("shop-new"), "yy-yy-"),
    (Deed::MakeApp("pay-new"), "yy---y"),
    (Deed::MakeApp("ghost"), "yy----"),
    (Deed::Join("shop-new", "shop"), "yy-yy-"),
    (Deed::Join("shop-new", "pay"), "yy----"),
    (Deed::Join("shop-new", "free"), "yy----"),
    (Deed::Join("lone", "shop"), "yy----"),
    (Deed::Audit("shop-new"), "yy----"),
    (Deed::DeleteApp("ghost"), "yy----"),
    (Deed::DeleteApp("shop-new"), "yy----"),
    (Deed::Isolate, "yy----"),
    (Deed::Release, "yy----"),
    (Deed::Drain, "yy----"),
    (Deed::SetTeam, "y-----"),
    (Deed::CreateToken, "y-----"),
    (Deed::RevokeToken, "y-----"),
    (Deed::DeleteTeam, "y-----"),
];

#[tokio::test]
async fn what_is_no_rule_takes_the_role_that_the_deed_is_for() {
    let world = world_of_teams().await;
    world.prepared.join(&[world.url()], "n1", "192.168.1.1").await;
    let roles = [
        ("adm", "admin"),
        ("ops", "operator"),
        ("aud", "auditor"),
        ("wri", "writer:shop"),
        ("wid", "wide:shop"),
        ("pay", "writer:pay"),
    ];
    for (deed, expected) in DEEDS {
        // Who may not first: what was done once may be no deed any more.
        for ((bearer, granted), may) in roles.into_iter().zip(expected.chars()).filter(|(_, may)| *may == '-') {
            let client = user_of(&world, bearer, granted).await;
            let refused = deed.done_by(&client).await.expect_err(granted);
            assert_names_the_role(refused.problem().expect("a refusal"), &format!("token/{bearer}"));
            assert_eq!(may, '-');
        }
        let mut done = false;
        for ((bearer, granted), _) in roles.into_iter().zip(expected.chars()).filter(|(_, may)| *may == 'y') {
            let client = user_of(&world, bearer, granted).await;
            match deed.done_by(&client).await {
                Ok(()) => done = true,
                // Who came before has done it.
                Err(error) if done && matches!(error.status(), Some(404 | 409)) => {}
                Err(error) => panic!("{granted}: {deed:?}: {error}"),
            }
        }
    }
    world.server.stop().await;
}

/// A client by a token that is made anew: the last one of the name is revoked.
async fn user_of(world: &World, bearer: &str, granted: &str) -> Client {
    let _none = world.operator.revoke_token(&bearer.parse().expect("name"), &plain()).await;
    user(world, bearer, granted).await
}

#[tokio::test]
async fn an_app_that_is_held_cannot_be_deleted_and_made_anew_by_its_team() {
    let world = world_of_teams().await;
    let shop = user(&world, "shop", "wide:shop").await;
    let isolation =
        policy_api::model::IsolationSpec { app: app("shop-web"), instance: None, expires_at: None, reason: None };
    let held: Isolation = world.operator.isolate(&isolation, &plain()).await.expect("isolated").isolation;
    Deed::Join("shop-db", "free").done_by(&world.operator).await.expect("joined");
    for name in [held.app.as_str(), "shop-db"] {
        assert_eq!(refusal(shop.delete_app(&app(name), &plain()).await), (403, Some("name".to_owned())), "{name}");
    }
    let left = policy_api::model::AppSettings::from_json(serde_json::json!({"groups": []})).expect("settings");
    let refused = shop.set_app(&app("shop-db"), &left, &plain()).await.expect_err("left a group of operators");
    assert_names_the_role(refused.problem().expect("a refusal"), "token/shop");
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_refused_what_is_in_the_history_whoever_refused_it() {
    let world = world_of_teams().await;
    let auditor = user(&world, "aud", "auditor").await;
    // By the planner, by a handler that looks before it writes, and by the gate.
    assert_eq!(refusal(auditor.put_rule(&rule("allow shop-web shop-db 1"), &plain()).await).0, 403);
    assert_eq!(refusal(auditor.release(crate::world::ip("10.255.1.7")).await).0, 403);
    let query = HistoryQuery { who: Some("token/aud".to_owned()), ..HistoryQuery::default() };
    let told = world.operator.history(&query, true, None, 1_000).await.expect("history").items;
    let attempts: Vec<_> = told.iter().filter_map(|item| item.entry.refused.as_ref()).collect();
    let [written, released] = attempts.as_slice() else { panic!("{told:?}") };
    assert_eq!((written.method.as_str(), written.path.as_str()), ("POST", "/v1/rules"));
    assert!(written.detail.contains("it takes role `operator` or `writer:shop`"), "{}", written.detail);
    assert_eq!((released.method.as_str(), released.path.as_str()), ("DELETE", "/v1/bindings/10.255.1.7"));
    world.server.stop().await;
}

#[tokio::test]
async fn a_change_set_is_permitted_item_by_item() {
    let world = world_of_teams().await;
    let shop = user(&world, "shop", "wide:shop").await;
    let set = |body: serde_json::Value| policy_api::model::ChangeSet::from_json(body).expect("a set");
    let good = serde_json::json!({"groups": ["shop-new"], "apps": [{"name": "shop-new", "groups": ["shop-new"]}]});
    shop.change(&set(good), &plain()).await.expect("all of it is the team's");
    for (body, field) in [
        (serde_json::json!({"groups": ["new"]}), "groups[0]"),
        (serde_json::json!({"apps": [{"name": "pay-new"}]}), "apps[0].name"),
        (serde_json::json!({"apps": [{"name": "shop-web", "mode": "audit"}]}), "apps[0].mode"),
        (serde_json::json!({"apps": [{"name": "shop-web", "groups": ["free"]}]}), "apps[0].groups"),
        (serde_json::json!({"delete": ["r1"]}), "delete[0]"),
    ] {
        let refused = shop.change(&set(body), &plain()).await.expect_err(field);
        let problem = refused.problem().expect("a refusal");
        assert_names_the_role(problem, "token/shop");
        assert_eq!(problem.field.as_deref(), Some(field));
    }
    world.server.stop().await;
}

#[tokio::test]
async fn who_writes_for_both_teams_asks_nobody() {
    let world = world_of_teams().await;
    let both = user(&world, "both", "writer:shop writer:pay").await;
    let written = both.put_rule(&rule("allow shop-web pay-web 1"), &plain()).await.expect("both ends are theirs");
    assert_eq!(written.rule.team.map(|team| team.to_string()).as_deref(), Some("shop"), "the source's");
    world.server.stop().await;
}

#[tokio::test]
async fn who_may_not_remove_a_node_voids_nothing_of_it() {
    let world = world_of_teams().await;
    world.prepared.join(&[world.url()], "n1", "192.168.1.1").await;
    let auditor = user(&world, "aud", "auditor").await;
    let refused = auditor.remove_node(&name("n1"), &plain()).await.expect_err("an auditor");
    assert_names_the_role(refused.problem().expect("a refusal"), "token/aud");
    // Known still, and refused only because another key was registered with it.
    let token = world.prepared.client(&[world.url()], "join/n1.token");
    assert_eq!(refusal(token.enrol(&name("n1"), crate::world::ip("192.168.1.1")).await).0, 403);
    world.server.stop().await;
}

#[tokio::test]
async fn of_many_rules_one_that_has_to_be_asked_for_refuses_them_all() {
    let world = world_of_teams().await;
    let shop = user(&world, "shop", "writer:shop").await;
    let set = policy_api::model::ChangeSet {
        create: vec![rule("allow shop-web shop-db 1"), rule("allow shop-web pay-db 1")],
        ..Default::default()
    };
    let refused = shop.change(&set, &plain()).await.expect_err("refused");
    let problem = refused.problem().expect("a refusal");
    assert_names_the_role(problem, "token/shop");
    assert_eq!(problem.field.as_deref(), Some("create[1]"));
    assert!(problem.detail.contains("ask for this one by itself"), "{}", problem.detail);
    let rules = world.operator.list_rules(&Default::default()).await.expect("list").items;
    assert_eq!(rules.iter().filter(|view| view.rule.action == Action::Allow && view.rule.team.is_some()).count(), 0);
    world.server.stop().await;
}
