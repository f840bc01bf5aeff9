//! Cloud Foundry's own integration cases of its policy server, against our face of it: as they are listed, or with the
//! difference that `docs/cf-compat.md` states.

mod limits;

use std::{collections::BTreeSet, time::Duration};

use policy_api::{
    client::WriteOptions,
    model::{Mode, RuleFilter},
};
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::{
    etcd_cluster::EtcdCluster,
    world::{Prepared, SOON, World, rule, until},
};

const ORIGIN: &str = "https://apps.example";

/// Somebody who speaks to the face as their command line does.
struct Cf {
    world: World,
    http: reqwest::Client,
    token: String,
}

impl Cf {
    async fn new() -> Self {
        Self::on(Prepared::new()).await
    }

    async fn on(prepared: Prepared) -> Self {
        let world = World::with_cf(prepared, ORIGIN).await;
        let (http, token) = (world.raw(), world.prepared.read("operator.token").trim().to_owned());
        Self { world, http, token }
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.request_to(&self.world.url(), method, path)
    }

    fn request_to(&self, url: &str, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{url}{path}"))
    }

    /// Has this server, which may be another one of ours, create policies or delete them.
    async fn change_by(&self, url: &str, path: &str, policies: &Value) -> (u16, Value) {
        let body = json!({ "policies": policies }).to_string();
        let request = self.request_to(url, Method::POST, path).bearer_auth(&self.token).body(body);
        said(request.send().await.expect("an answer")).await
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        said(self.request(Method::GET, path).bearer_auth(&self.token).send().await.expect("an answer")).await
    }

    async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
        let request = self.request(Method::POST, path).bearer_auth(&self.token).body(body);
        said(request.send().await.expect("an answer")).await
    }

    async fn create(&self, policies: Value) -> (u16, Value) {
        self.post(V1, json!({ "policies": policies }).to_string()).await
    }

    async fn delete(&self, policies: Value) -> (u16, Value) {
        self.post(&format!("{V1}/delete"), json!({ "policies": policies }).to_string()).await
    }

    async fn total(&self, query: &str) -> u64 {
        let (status, list) = self.get(&format!("{V1}{query}")).await;
        let policies = list["policies"].as_array().expect("a list");
        assert_eq!((status, list["total_policies"].as_u64()), (200, u64::try_from(policies.len()).ok()), "{list}");
        list["total_policies"].as_u64().expect("a number")
    }
}

const V1: &str = "/networking/v1/external/policies";
const V0: &str = "/networking/v0/external/policies";

async fn said(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.expect("text");
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

fn refused(status: u16, text: &str) -> (u16, Value) {
    (status, json!({ "error": text }))
}

fn policy(source: &str, destination: &str, start: i64, end: i64) -> Value {
    json!({"source": {"id": source}, "destination": {"id": destination, "protocol": "tcp", "ports": {"start": start, "end": end}}})
}

#[tokio::test]
async fn p1_p2_a_policy_is_listed_once_however_often_it_is_posted_and_without_tags() {
    let cf = Cf::new().await;
    let wanted = policy("some-app", "other-app", 8080, 8090);
    assert_eq!(cf.create(json!([wanted])).await, (200, json!({})));
    assert_eq!(cf.create(json!([wanted, wanted])).await, (200, json!({})));
    assert_eq!(cf.get(V1).await, (200, json!({"total_policies": 1, "policies": [wanted]})));
    let rules = cf.world.operator.list_rules(&RuleFilter::default()).await.expect("rules").items;
    assert_eq!(rules.last().map(|view| view.rule.ports.to_string()), Some("8080-8090".to_owned()));
}

/// A policy of an app with itself, each time of another.
fn one(i: i64) -> Value {
    json!([policy(&format!("app{i}"), &format!("app{i}"), 1_000 + i, 1_000 + i)])
}

fn tags(listed: &Value) -> BTreeSet<String> {
    listed["tags"].as_array().expect("a list").iter().map(|tag| tag["tag"].to_string()).collect()
}

const TAGS: &str = "/networking/v1/external/tags";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_p4_a_hundred_policies_by_two_servers_at_once_are_a_hundred_with_a_tag_each_and_none_when_deleted() {
    let cluster = limits::aside(EtcdCluster::start).await;
    let (prepared, _cluster) = limits::aside(|| (Prepared::in_etcd(&cluster), cluster)).await;
    let cf = Cf::on(prepared).await;
    let second = cf.world.prepared.serve_cf(ORIGIN).await;
    let urls = [cf.world.url(), format!("https://{}", second.address())];
    let url = |i: i64| &urls[usize::from(i % 2 == 1)];
    let answered = (200, json!({}));
    let created = futures_util::future::join_all((0..100).map(async |i| cf.change_by(url(i), V1, &one(i)).await));
    assert!(created.await.iter().all(|answer| *answer == answered));
    let listed = async |url: &str, path: &str| {
        let request = cf.request_to(url, Method::GET, path).bearer_auth(&cf.token);
        said(request.send().await.expect("an answer")).await.1
    };
    for url in &urls {
        until("both list all of them", SOON, async || listed(url, V1).await["total_policies"] == 100).await;
        assert_eq!(tags(&listed(url, TAGS).await).len(), 100);
    }
    let mixed = futures_util::future::join_all((0..100).map(async |i| {
        cf.change_by(url(i), V1, &one(i)).await;
        cf.change_by(url(i + 1), &format!("{V1}/delete"), &one(i)).await
    }));
    assert!(mixed.await.iter().all(|answer| *answer == answered));
    for url in &urls {
        until("neither lists any", SOON, async || listed(url, V1).await["total_policies"] == 0).await;
        assert_eq!(listed(url, TAGS).await, json!({"tags": []}));
    }
    second.stop().await;
    cf.world.server.stop().await;
}

#[tokio::test]
async fn p4_p15_a_hundred_policies_at_once_are_a_hundred_and_none_when_deleted_and_no_tag_comes_again() {
    let cf = Cf::new().await;
    let created = futures_util::future::join_all((0..100).map(|i| cf.create(one(i)))).await;
    assert!(created.iter().all(|(status, _)| *status == 200));
    assert_eq!(cf.total("").await, 100);
    let (_, first) = cf.get(TAGS).await;
    assert_eq!(tags(&first).len(), 100, "each app has a tag of its own");
    assert_eq!(first["tags"][0], json!({"id": "app0", "type": "app", "tag": first["tags"][0]["tag"]}));
    let mixed = futures_util::future::join_all((0..100).map(async |i| {
        cf.create(one(i)).await;
        cf.delete(one(i)).await
    }));
    assert!(mixed.await.iter().all(|answer| *answer == (200, json!({}))));
    assert_eq!(cf.total("").await, 0);
    assert_eq!(cf.get(TAGS).await.1, json!({"tags": []}));
    cf.create(json!([policy("fresh", "fresh", 1, 1)])).await;
    let (_, fresh) = cf.get(TAGS).await;
    assert!(tags(&fresh).is_disjoint(&tags(&first)), "a tag that nodes may remember is nobody else's");
}

#[tokio::test]
async fn p5_each_check_has_its_message_and_comes_in_its_turn() {
    let cf = Cf::new().await;
    let with = |path: &str, value: Value| {
        let mut policy = policy("a", "b", 8080, 8081);
        *policy.pointer_mut(path).expect("there") = value;
        json!({"policies": [policy]}).to_string()
    };
    let v0 = |port: Value| {
        json!({"policies": [{"source": {"id": "a"}, "destination": {"id": "b", "protocol": "udp", "port": port}}]})
            .to_string()
    };
    let cases = [
        (V1, "{}".to_owned(), "missing policies"),
        (V1, r#"{"policies":[]}"#.to_owned(), "missing policies"),
        (V1, with("/source/id", json!("")), "missing source id"),
        (V1, with("/destination/id", json!(null)), "missing destination id"),
        (V1, with("/destination/protocol", json!("TCP")), "invalid destination protocol, specify either udp or tcp"),
        (
            V1,
            with("/destination/ports/start", json!(8090)),
            "invalid port range 8090-8081, start must be less than or equal to end",
        ),
        (V1, with("/destination/ports/start", json!(-1)), "invalid start port -1, must be in range 1-65535"),
        (V1, with("/destination/ports/start", json!(0)), "missing start port"),
        (V1, with("/destination/ports", json!(null)), "missing start port"),
        (
            V1,
            with("/destination/ports", json!({"start": 1})),
            "invalid port range 1-0, start must be less than or equal to end",
        ),
        (V1, with("/destination/ports/end", json!(70_000)), "invalid end port 70000, must be in range 1-65535"),
        (V1, with("/source", json!({"id": "a", "tag": "0001"})), "tags may not be specified"),
        (V0, v0(json!(-1)), "invalid port -1, must be in range 1-65535"),
        (V0, v0(json!(0)), "missing port"),
        // Theirs takes it, and no agent can apply a policy any more.
        (V0, v0(json!(70_000)), "invalid port 70000, must be in range 1-65535"),
    ];
    for (path, body, text) in cases {
        let expected = refused(400, &format!("mapper: validate policies: {text}"));
        assert_eq!(cf.post(path, body.clone()).await, expected, "{body}");
        assert_eq!(cf.post(&format!("{path}/delete"), body.clone()).await, expected, "{body}");
    }
    let (status, error) = cf.post(V1, "{").await;
    let text = error["error"].as_str().expect("JSON, though the text has quotes and more").to_owned();
    assert!(status == 400 && text.starts_with("mapper: unmarshal json: "), "{text}");
    let unknown = json!({"colour": 1, "policies": [{"name": "x", "source": {"id": "a"}, "destination": {"id": "b", "protocol": "tcp", "ports": {"start": 1, "end": 1}}}]});
    assert_eq!(cf.post(V1, unknown.to_string()).await, (200, json!({})), "what they do not know they ignore");
}

#[tokio::test]
async fn ids_that_are_no_names_of_ours_are_refused_in_their_shape_with_their_text_escaped() {
    let cf = Cf::new().await;
    for id in ["a\"b", "any", "host", "cidr:10.0.0.0/8", "group:x", "-a", &"x".repeat(64)] {
        let (status, error) = cf.create(json!([policy(id, "b", 80, 80)])).await;
        let text = error["error"].as_str().expect("JSON");
        assert!(status == 400 && text.starts_with("mapper: validate policies: invalid source id: `"), "{id}: {text}");
    }
    let guid = "5351a742-7704-46df-8de0-1a376adab65c";
    assert_eq!(cf.create(json!([policy(guid, guid, 80, 80)])).await, (200, json!({})));
    let (status, error) = cf.create(json!([policy(&guid.to_uppercase(), "b", 80, 80)])).await;
    assert!(status == 400 && error["error"].to_string().contains("differs only by case"), "{error}");
}

#[tokio::test]
async fn p6_one_bad_policy_rejects_all() {
    let cf = Cf::new().await;
    let both = json!([policy("a", "b", 80, 80), policy("a", "b", 90, 80)]);
    assert_eq!(cf.create(both).await.0, 400);
    assert_eq!(cf.total("").await, 0);
}

#[tokio::test]
async fn p7_lists_are_filtered_by_the_first_of_each_parameter() {
    let cf = Cf::new().await;
    cf.create(json!([policy("a", "b", 1, 1), policy("b", "c", 2, 2), policy("c", "a", 3, 3), policy("d", "d", 4, 4)]))
        .await;
    let cases = [
        ("?id=a,d", 3),
        ("?id=a&source_id=d", 2),
        ("?id=a&id=d", 2),
        ("?source_id=a,b&dest_id=c,d", 1),
        ("?source_id=a,b", 2),
        ("?dest_id=a", 1),
        ("?id=", 0),
        ("?other=x", 4),
        ("", 4),
    ];
    for (query, total) in cases {
        assert_eq!(cf.total(query).await, total, "{query}");
    }
}

#[tokio::test]
async fn p9_a_body_of_eleven_megabytes_is_refused_by_each_path_in_its_words() {
    let cf = Cf::new().await;
    let large = || vec![b' '; 11 << 20];
    assert_eq!(cf.post(V1, large()).await, refused(400, "failed reading request body"));
    assert_eq!(cf.post(&format!("{V1}/delete"), large()).await, refused(400, "invalid request body"));
}

#[tokio::test]
async fn p10_the_older_version_shows_single_ports_only_and_counts_what_it_shows() {
    let cf = Cf::new().await;
    cf.create(json!([policy("a", "b", 8080, 8090), policy("a", "b", 53, 53)])).await;
    let shown = json!({"source": {"id": "a"}, "destination": {"id": "b", "protocol": "tcp", "port": 53}});
    assert_eq!(cf.get(V0).await, (200, json!({"total_policies": 1, "policies": [shown]})));
    assert_eq!(cf.post(V0, json!({"policies": [shown]}).to_string()).await, (200, json!({})));
    assert_eq!(cf.total("").await, 2);
    assert_eq!(cf.post(&format!("{V0}/delete"), json!({"policies": [shown]}).to_string()).await, (200, json!({})));
    assert_eq!(cf.total("").await, 1);
}

#[tokio::test]
async fn p11_p12_version_comes_before_header_token_and_scope() {
    let cf = Cf::new().await;
    let bare = |path: &str| cf.request(Method::GET, path);
    let none = said(bare("/networking/v2/external/policies").send().await.expect("an answer")).await;
    assert_eq!(none, refused(406, "api version 'v2' not supported"));
    let response = bare(V1).send().await.expect("an answer");
    assert_eq!(response.headers()["www-authenticate"], "Bearer");
    assert_eq!(said(response).await, refused(401, "missing authorization header"));
    let wrong = bare(V1).bearer_auth("wrong").send().await.expect("an answer");
    assert_eq!(said(wrong).await, refused(401, "failed to verify token with uaa"));
    for header in [format!("bearer {}", cf.token), cf.token.clone()] {
        let lower = bare(V1).header("authorization", header).send().await.expect("an answer");
        assert_eq!(lower.status(), 200, "the prefix is optional, and small letters do");
    }
    let join = cf.world.prepared.read("join/n1.token");
    let unscoped = bare(V1).bearer_auth(join.trim()).send().await.expect("an answer");
    assert_eq!(
        said(unscoped).await,
        refused(403, "provided scopes [] do not include allowed scopes [network.admin network.write]")
    );
    assert_eq!(cf.get("/networking/v1/external/whoami").await, (200, json!({"subject": "operator"})));
    assert_eq!(cf.post(&format!("{V1}/cleanup"), "").await, (200, json!({"total_policies": 0, "policies": []})));
    assert_eq!(cf.get("/networking/v1/external/nonsense").await.0, 404);
    assert_eq!(cf.get(&format!("{V1}/delete")).await.0, 405);
}

#[tokio::test]
async fn p13_an_origin_that_is_allowed_is_said_so_and_no_other() {
    let cf = Cf::new().await;
    let asked =
        |method: Method, origin: &str| cf.request(method, V1).bearer_auth(&cf.token).header("origin", origin).send();
    let options = asked(Method::OPTIONS, ORIGIN).await.expect("an answer");
    let header = |response: &Response, name: &str| {
        response.headers().get(name).map(|value| value.to_str().expect("text").to_owned())
    };
    assert_eq!(options.status(), 200);
    assert_eq!(header(&options, "access-control-allow-methods").as_deref(), Some("POST,GET,OPTIONS"));
    assert_eq!(header(&options, "access-control-allow-headers").as_deref(), Some("authorization"));
    assert_eq!(header(&options, "access-control-allow-origin").as_deref(), Some(ORIGIN));
    let other = asked(Method::GET, "https://evil.example").await.expect("an answer");
    assert_eq!(header(&other, "access-control-allow-origin"), None);
    assert_eq!(header(&other, "x-frame-options").as_deref(), Some("deny"));
    assert_eq!(header(&other, "content-type").as_deref(), Some("text/plain; charset=utf-8"));
}

#[tokio::test]
async fn p14_the_paths_that_need_no_token_answer() {
    let cf = Cf::new().await;
    for path in ["/", "/networking"] {
        let (status, text) = said(cf.request(Method::GET, path).send().await.expect("an answer")).await;
        assert!(status == 200 && text.to_string().contains("Network policy server, up for "), "{text}");
    }
    assert_eq!(cf.request(Method::GET, "/health").send().await.expect("an answer").status(), 200);
}

#[tokio::test]
async fn p16_p17_p20_agents_ask_by_certificate_and_see_tags_a_stamp_that_grows_and_no_security_groups() {
    let cf = Cf::new().await;
    let node = cf.world.raw_node("n1", "192.168.1.1").await;
    let ask = async |client: &reqwest::Client, path: &str| {
        said(client.get(format!("{}/networking/v1/internal/{path}", cf.world.url())).send().await.expect("an answer"))
            .await
    };
    assert_eq!(ask(&cf.http, "policies").await, refused(401, "a node's certificate is required"));
    let (_, before) = ask(&node, "policies_last_updated").await;
    cf.create(json!([policy("a", "b", 80, 90), policy("c", "d", 80, 80)])).await;
    let (_, after) = ask(&node, "policies_last_updated").await;
    assert!(before.as_u64() < after.as_u64(), "{before} {after}");
    let (status, list) = ask(&node, "policies?id=a,x").await;
    let tags = cf.get("/networking/v1/external/tags").await.1;
    let tag = |place: usize| tags["tags"][place]["tag"].clone();
    let expected = json!({"source": {"id": "a", "tag": tag(0)}, "destination": {"id": "b", "tag": tag(1), "protocol": "tcp", "ports": {"start": 80, "end": 90}}});
    assert_eq!((status, list), (200, json!({"total_policies": 1, "policies": [expected]})));
    assert_eq!(ask(&node, "security_groups?limit=5").await, (200, json!({"next": 0, "security_groups": []})));
    assert_eq!(ask(&node, "security_groups?from=x").await, refused(500, "invalid value for 'from' parameter"));
    let put = |body: Value| {
        let request = node.put(format!("{}/networking/v1/internal/tags", cf.world.url()));
        async move { said(request.body(body.to_string()).send().await.expect("an answer")).await }
    };
    assert_eq!(put(json!({"id": "a", "type": "app"})).await, (200, json!({"id": "a", "type": "app", "tag": tag(0)})));
    assert_eq!(put(json!({"id": "nobody", "type": "router"})).await, refused(500, "database create failed"));
    let web_only = cf.world.raw_node("n2", "192.168.1.2").await;
    assert_eq!(
        ask(&web_only, "policies").await.1["total_policies"],
        0,
        "a node that may run web* is told of web* only"
    );
}

#[tokio::test]
async fn rules_that_theirs_has_no_word_for_are_not_shown_and_parts_of_rules_are_not_deleted_unsaid() {
    let cf = Cf::new().await;
    let mut audited = rule("allow a b 9090");
    audited.mode = Mode::Audit;
    for spec in [rule("allow a b 80,443"), rule("deny a b 22"), rule("allow any b 53"), audited] {
        cf.world.operator.put_rule(&spec, &WriteOptions::default()).await.expect("a rule");
    }
    assert_eq!(cf.total("").await, 2, "each range of a rule is a policy");
    let (status, error) = cf.delete(json!([policy("a", "b", 80, 80)])).await;
    assert!(status == 400 && error["error"].to_string().contains("it is a part of rule r2"), "{error}");
    assert_eq!(
        cf.delete(json!([policy("a", "b", 80, 90)])).await,
        (200, json!({})),
        "what matches nothing is no error"
    );
    assert_eq!(cf.total("").await, 2);
}

#[tokio::test]
async fn the_face_is_not_there_unless_it_is_asked_for() {
    let world = World::new().await;
    let response = world.raw().get(format!("{}{V1}", world.url())).send();
    let response = tokio::time::timeout(Duration::from_secs(20), response).await.expect("in time").expect("an answer");
    assert_eq!(response.status(), 404);
}
