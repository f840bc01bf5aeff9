//! The check that other people's gatekeepers make with each request, as Conjur answers it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use policy_api::{
    client::Client,
    model::{ChangeSet, EntryKind, HistoryQuery},
};
use reqwest::{Response, header::AUTHORIZATION};

use super::{BOT, audience, own_token};
use crate::{
    right::{plain, user},
    world::World,
};

const RESOURCE: &str = "production/release-bot";

/// Changes layers, roles and resources.
pub(crate) async fn set(world: &World, body: serde_json::Value) {
    let changes = ChangeSet::from_json(body).expect("a change set");
    world.operator.change(&changes, &plain()).await.expect("done");
}

/// A world where CI publishes and operators delete.
pub(crate) async fn releases() -> World {
    let world = World::new().await;
    let body = serde_json::json!({
        "layers": [{"name": "ci", "members": ["host:ci-1"]}],
        "roles": [{"name": "publisher", "members": ["layer:ci"]}, {"name": "ops", "members": ["user:operator"]}],
        "resources": [{"id": RESOURCE, "permissions": [
            {"role": "publisher", "privileges": ["create", "read"]}, {"role": "ops", "privileges": ["delete"]},
        ]}],
    });
    set(&world, body).await;
    world
}

async fn ask(world: &World, path: &str, authorization: &[&str]) -> Response {
    let request = world.raw().get(world.url() + path);
    let request = authorization.iter().fold(request, |request, value| request.header(AUTHORIZATION, *value));
    request.send().await.expect("an answer")
}

fn path(privilege: &str) -> String {
    format!("/resources/main/webservice/production%2Frelease-bot?check=true&privilege={privilege}")
}

async fn token_for(client: &Client, whom: &str) -> String {
    client.identity_token(&audience(whom), None, None).await.expect("a token").token
}

#[tokio::test]
async fn whoever_may_is_let_through_however_his_client_writes_it() {
    let world = releases().await;
    let machine = user(&world, "ci-1", "machine").await;
    let token = token_for(&machine, RESOURCE).await;
    let in_base64 = STANDARD.encode(&token);
    let plain = "/resources/main/webservice/production/release-bot?check=true&privilege=create";
    for authorization in [
        format!("Bearer {token}"),
        format!("bearer {token}"),
        format!("Token token=\"{token}\""),
        format!("Token token=\"{in_base64}\""),
    ] {
        for path in [path("create").as_str(), plain] {
            let answer = ask(&world, path, &[&authorization]).await;
            assert_eq!(answer.status(), 204, "{path}");
        }
    }
    // For whom else the gatekeeper says that tokens are.
    let named = token_for(&machine, BOT).await;
    let with_audience = format!("{}&audience={BOT}", path("create"));
    assert_eq!(ask(&world, &with_audience, &[&format!("Bearer {named}")]).await.status(), 204);
    let query = HistoryQuery { kinds: [EntryKind::Gate].into(), ..HistoryQuery::default() };
    let items = world.operator.history(&query, true, None, 100).await.expect("history").items;
    assert_eq!(items.len(), 1, "of nine times the first stands in the history");
    assert_eq!(items[0].entry.who, "host:ci-1");
    world.server.stop().await;
}

#[tokio::test]
async fn whoever_may_not_is_refused_and_stands_in_the_history_by_his_own_name() {
    let world = releases().await;
    let machine = user(&world, "ci-1", "machine").await;
    let stranger = user(&world, "lost", "machine").await;
    for (client, privilege) in [(&machine, "delete"), (&stranger, "create")] {
        let authorization = format!("Bearer {}", token_for(client, RESOURCE).await);
        let answer = ask(&world, &path(privilege), &[&authorization]).await;
        assert_eq!(answer.status(), 403);
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
    }
    let query = HistoryQuery { kinds: [EntryKind::Refused].into(), ..HistoryQuery::default() };
    let items = world.operator.history(&query, true, None, 100).await.expect("history").items;
    let who: Vec<&str> = items.iter().map(|item| item.entry.who.as_str()).collect();
    assert_eq!(who, ["host:ci-1", "host:lost"]);
    world.server.stop().await;
}

#[tokio::test]
async fn what_proves_nothing_is_refused_whatever_it_is() {
    let world = releases().await;
    let machine = user(&world, "ci-1", "machine").await;
    let good = format!("Bearer {}", token_for(&machine, RESOURCE).await);
    let elsewhere = format!("Bearer {}", token_for(&machine, "staging/release-bot").await);
    let api_token = format!("Bearer {}", world.prepared.read("operator.token").trim());
    let cases: [&[&str]; 8] = [
        &[],
        &["Bearer"],
        &["Bearer a.b.c"],
        &["Basic dXNlcjpwYXNz"],
        &["Token token=unquoted.a.b"],
        &[&elsewhere],
        &[&api_token],
        // Whichever of two it is that counts, another reader may take the other one.
        &[&good, &elsewhere],
    ];
    for authorization in cases {
        let answer = ask(&world, &path("create"), authorization).await;
        assert_eq!(answer.status(), 401, "{authorization:?}");
        assert_eq!(answer.headers()["www-authenticate"], "Bearer");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
    }
    assert_eq!(ask(&world, &path("create"), &[&good]).await.status(), 204);
    let id = own_token(&world.operator).await.id;
    world.operator.revoke_identity_token(&id, &plain()).await.expect("another one");
    assert_eq!(ask(&world, &path("create"), &[&good]).await.status(), 204);
    world.operator.revoke_token(&"ci-1".parse().expect("name"), &plain()).await.expect("revoked");
    assert_eq!(ask(&world, &path("create"), &[&good]).await.status(), 401, "with the API token that made it");
    world.server.stop().await;
}

#[tokio::test]
async fn what_nobody_knows_is_not_found_and_what_makes_no_sense_is_refused_by_name() {
    let world = releases().await;
    let machine = user(&world, "ci-1", "machine").await;
    let unknown = format!("Bearer {}", token_for(&machine, "production/nothing").await);
    let answer =
        ask(&world, "/resources/main/webservice/production%2Fnothing?check=true&privilege=read", &[&unknown]).await;
    assert_eq!(answer.status(), 404);
    let good = format!("Bearer {}", token_for(&machine, RESOURCE).await);
    let variable = path("read").replace("webservice", "variable");
    assert_eq!(ask(&world, &variable, &[&good]).await.status(), 404);
    let base = "/resources/main/webservice/production%2Frelease-bot";
    for query in [
        "",
        "?check=true",
        "?privilege=read",
        "?check=false&privilege=read",
        "?check=true&privilege=READ",
        "?check=true&privilege=read&role=ops",
    ] {
        assert_eq!(ask(&world, &format!("{base}{query}"), &[&good]).await.status(), 400, "{query}");
    }
    for odd in ["production%2F..%2Frelease-bot", "production//release-bot", "production%2F%2Frelease-bot"] {
        let path = format!("/resources/main/webservice/{odd}?check=true&privilege=read");
        let status = ask(&world, &path, &[&good]).await.status().as_u16();
        assert!([400, 401, 404].contains(&status), "{odd}: {status}");
    }
    world.server.stop().await;
}
