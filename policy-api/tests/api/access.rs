//! Who may do what on which resource, asked over HTTP.

use policy_api::model::{At, CanQuery, ChangeSet, HistoryQuery, Revision, Subject, TeamSettings, WhoCanQuery};

use crate::{
    right::{assert_names_the_role, plain, user},
    world::{World, refusal},
};

fn set(body: serde_json::Value) -> ChangeSet {
    ChangeSet::from_json(body).expect("a change set")
}

fn can(who: &str, privilege: &str) -> CanQuery {
    let privilege = privilege.parse().expect("privilege");
    CanQuery { who: who.parse().expect("who"), privilege, resource: "production/bot".parse().expect("id") }
}

fn who_can(privilege: &str, resource: &str) -> WhoCanQuery {
    WhoCanQuery { privilege: privilege.parse().expect("privilege"), resource: resource.parse().expect("id") }
}

/// The answer at a path, by the operator's token.
async fn get(world: &World, path: &str) -> serde_json::Value {
    let url = format!("{}{path}", world.url());
    let token = world.prepared.read("operator.token");
    let response = world.raw().get(url).bearer_auth(token.trim()).send().await.expect("answered");
    assert_eq!(response.status(), 200, "{path}");
    response.json().await.expect("JSON")
}

async fn released() -> (World, Revision) {
    let world = World::with_nodes().await;
    let body = serde_json::json!({
        "layers": [{"name": "ci", "members": ["host:ci-1", "host:ci-2"]}],
        "roles": [
            {"name": "bot/publisher", "members": ["layer:ci", "role:ops"]},
            {"name": "ops", "members": ["user:olga"]},
        ],
        "resources": [
            {"id": "production/bot", "permissions": [
                {"role": "bot/publisher", "privileges": ["create", "read"]}, {"role": "ops", "privileges": ["delete"]},
            ]},
            {"id": "staging/bot", "permissions": [{"role": "ops", "privileges": ["delete"]}]},
        ],
    });
    let done = world.operator.change(&set(body), &plain()).await.expect("done");
    (world, done.revision)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_is_told_with_the_way_now_and_as_it_was() {
    let (world, then) = released().await;
    let operator = &world.operator;
    let yes = operator.can(&can("host:ci-1", "create")).await.expect("an answer");
    let way: Vec<String> = yes.way.iter().map(ToString::to_string).collect();
    assert!(yes.allowed && yes.revision == then);
    assert_eq!(way, ["host:ci-1", "layer:ci", "role:bot/publisher"]);
    let no = operator.can(&can("host:ci-1", "delete")).await.expect("an answer");
    assert!(!no.allowed && no.way.is_empty());
    assert_eq!(no.roles.iter().map(ToString::to_string).collect::<Vec<_>>(), ["ops"]);
    assert_eq!(no.privileges.iter().map(ToString::to_string).collect::<Vec<_>>(), ["create", "read"]);
    assert!(operator.can(&can("role:ops", "read")).await.expect("an answer").allowed);

    let smaller = serde_json::json!({"layers": [{"name": "ci", "members": ["host:ci-2"]}]});
    operator.change(&set(smaller), &plain()).await.expect("done");
    let names = |answer: policy_api::model::WhoCanAnswer| {
        answer.subjects.iter().map(|who| who.subject.to_string()).collect::<Vec<_>>()
    };
    let query = who_can("create", "production/bot");
    assert_eq!(names(operator.who_can(&query).await.expect("an answer")), ["host:ci-2", "user:olga"]);
    let past = operator.at(At::Revision(then));
    assert_eq!(names(past.who_can(&query).await.expect("an answer")), ["host:ci-1", "host:ci-2", "user:olga"]);
    assert!(past.can(&can("host:ci-1", "create")).await.expect("an answer").allowed);
    assert_eq!(past.permissions(None, None).await.expect("rows").items.len(), 4);
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_report_is_of_a_resource_of_a_subject_or_of_all_by_the_page() {
    let (world, _) = released().await;
    let operator = &world.operator;
    let olga: Subject = "user:olga".parse().expect("subject");
    let staging = "staging/bot".parse().expect("id");
    let rows = |list: policy_api::model::List<policy_api::model::PermissionRow>| {
        let words = |row: &policy_api::model::PermissionRow| {
            let privileges: Vec<&str> = row.privileges.iter().map(|privilege| privilege.as_str()).collect();
            format!("{} {} {}", row.resource, row.subject, privileges.join(","))
        };
        list.items.iter().map(words).collect::<Vec<_>>()
    };
    let all = rows(operator.permissions(None, None).await.expect("rows"));
    assert_eq!(
        all,
        [
            "production/bot host:ci-1 create,read",
            "production/bot host:ci-2 create,read",
            "production/bot user:olga create,delete,read",
            "staging/bot user:olga delete",
        ]
    );
    assert_eq!(rows(operator.permissions(None, Some(&olga)).await.expect("rows")), all[2..]);
    assert_eq!(rows(operator.permissions(Some(&staging), None).await.expect("rows")), all[3..]);
    let mut paged = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = get(&world, &format!("/v1/permissions?limit=1{cursor}")).await;
        paged.extend(page["items"].as_array().expect("items").iter().map(|row| row["subject"].clone()));
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={}", next.replace(' ', "%20"));
    }
    assert_eq!(paged, ["host:ci-1", "host:ci-2", "user:olga", "user:olga"]);
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_nobody_knows_is_refused_and_the_nearest_is_told() {
    let (world, _) = released().await;
    let operator = &world.operator;
    for (who, field, nearest) in [
        ("host:ci1", "subject", "host:ci-1"),
        ("user:olgaa", "subject", "user:olga"),
        ("app:web", "subject", ""),
        ("role:bot/publish", "role", "bot/publisher"),
    ] {
        let refused = operator.can(&can(who, "read")).await.expect_err(who);
        let problem = refused.problem().expect("a refusal");
        assert_eq!((problem.status, problem.field.as_deref()), (404, Some(field)), "{}", problem.detail);
        assert!(problem.detail.contains(nearest), "{}", problem.detail);
    }
    let refused = operator.who_can(&who_can("read", "production/bt")).await;
    assert_eq!(refusal(refused), (404, Some("resource".to_owned())));
    // Who has a token, and is in nothing yet, is known; so is whom a provider may yet vouch for.
    let _stranger = user(&world, "ci-9", "machine").await;
    for who in ["host:ci-9", "user:oidc/anybody"] {
        assert!(!operator.can(&can(who, "read")).await.expect(who).allowed);
    }
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_auditor_reads_it_writes_none_of_it_and_the_attempt_is_in_the_history() {
    let (world, _) = released().await;
    let auditor = user(&world, "aud", "auditor").await;
    assert_eq!(auditor.roles().await.expect("roles").items.len(), 2);
    assert_eq!(auditor.resources().await.expect("resources").items.len(), 2);
    let wishes = [
        (serde_json::json!({"layers": [{"name": "ci", "members": []}]}), "layers[0].name"),
        (serde_json::json!({"roles": [{"name": "ops", "members": ["user:aud"]}]}), "roles[0].name"),
        (serde_json::json!({"resources": [{"id": "new", "permissions": []}]}), "resources[0].id"),
        (serde_json::json!({"delete_resources": ["staging/bot"]}), "delete_resources[0]"),
    ];
    for (wish, field) in wishes {
        let refused = auditor.change(&set(wish), &plain()).await;
        assert_eq!(refusal(refused), (403, Some(field.to_owned())));
    }
    let query = HistoryQuery { who: Some("token/aud".to_owned()), ..HistoryQuery::default() };
    let told = world.operator.history(&query, true, None, 100).await.expect("history").items;
    let attempts: Vec<_> = told.iter().filter_map(|item| item.entry.refused.as_ref()).collect();
    assert!(attempts.iter().any(|attempt| attempt.detail.contains("may not set role ops")), "{attempts:?}");
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_team_says_who_may_what_on_what_is_its_and_on_nothing_else() {
    let (world, _) = released().await;
    let owning = |id: &str| TeamSettings { resources: [id.parse().expect("id")].into(), ..TeamSettings::default() };
    let name = |text: &str| text.parse().expect("name");
    world.operator.set_team(&name("shop"), &owning("shop"), &plain()).await.expect("team");
    let twice = world.operator.set_team(&name("other"), &owning("shop/bot"), &plain()).await;
    assert_eq!(refusal(twice), (409, Some("resources[0]".to_owned())));
    let writer = user(&world, "alice", "writer:shop").await;
    let own = serde_json::json!({
        "roles": [{"name": "shop/bot/publisher", "members": ["host:ci-1", "role:ops"]}],
        "resources": [{"id": "shop/bot", "permissions": [
            {"role": "shop/bot/publisher", "privileges": ["create"]}, {"role": "ops", "privileges": ["delete"]},
        ]}],
    });
    writer.change(&set(own), &plain()).await.expect("all of it is the team's");
    let of_others = [
        (serde_json::json!({"roles": [{"name": "ops", "members": ["user:alice"]}]}), "roles[0].name"),
        (serde_json::json!({"roles": [{"name": "shopping", "members": []}]}), "roles[0].name"),
        (serde_json::json!({"layers": [{"name": "ci", "members": ["host:ci-9"]}]}), "layers[0].name"),
        (serde_json::json!({"resources": [{"id": "staging/bot", "permissions": []}]}), "resources[0].id"),
        (serde_json::json!({"delete_roles": ["bot/publisher"]}), "delete_roles[0]"),
    ];
    for (wish, field) in of_others {
        let refused = writer.change(&set(wish), &plain()).await.expect_err(field);
        let problem = refused.problem().expect("a refusal");
        assert_names_the_role(problem, "token/alice");
        assert_eq!(problem.field.as_deref(), Some(field));
    }
    let gone = serde_json::json!({"delete_resources": ["shop/bot"], "delete_roles": ["shop/bot/publisher"]});
    writer.change(&set(gone), &plain()).await.expect("what is its it may delete");
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_told_nothing_of_it() {
    let (world, _) = released().await;
    assert_eq!(refusal(world.n1.roles().await).0, 403);
    assert_eq!(refusal(world.n1.can(&can("host:ci-1", "create")).await).0, 403);
    let mut watch = world.n1.watch_scope(None).await.expect("watch");
    let mut follower = policy_api::model::Follower::default();
    while follower.held().is_none() {
        follower.take(watch.next().await.expect("a line")).expect("it fits");
    }
    assert_eq!(follower.held().expect("held").1.access().count(), 0);
    let before = follower.held().expect("held").1.digest();
    let smaller = serde_json::json!({"layers": [{"name": "ci", "members": ["host:ci-2"]}]});
    let after = world.operator.change(&set(smaller), &plain()).await.expect("done").revision;
    while follower.held().expect("held").1.revision() < after {
        let line = watch.next().await.expect("a line");
        let text = serde_json::to_string(&line).expect("json");
        assert!(!text.contains("ci-2") && !text.contains("layer"), "{text}");
        follower.take(line).expect("it fits: the digest is that of what the node holds");
    }
    assert_eq!(follower.held().expect("held").1.digest(), before);
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_is_shown_by_its_name_with_slashes_written_as_they_must_be() {
    let (world, _) = released().await;
    let role = get(&world, "/v1/roles/bot%2Fpublisher").await;
    assert_eq!(role["members"], serde_json::json!(["layer:ci", "role:ops"]));
    let resource = get(&world, "/v1/resources/staging%2Fbot").await;
    assert_eq!(resource["permissions"], serde_json::json!([{"role": "ops", "privileges": ["delete"]}]));
    assert_eq!(get(&world, "/v1/layers/ci").await["members"], serde_json::json!(["host:ci-1", "host:ci-2"]));
    world.server.stop().await;
}
