//! Bad input gets an error that names the field, and changes nothing.

use policy_api::model::Problem;
use reqwest::{Method, Response, StatusCode};

use crate::world::{Prepared, World, rule};

struct Case {
    what: &'static str,
    method: Method,
    path: &'static str,
    token: &'static str,
    body: Vec<u8>,
    status: u16,
    field: &'static str,
}

const OPERATOR: &str = "operator.token";
const JOINING: &str = "join/n1.token";
/// No token: the request goes by the certificate of `n1`.
const NODE: &str = "certificate";

fn post(
    what: &'static str,
    path: &'static str,
    token: &'static str,
    body: impl Into<Vec<u8>>,
    field: &'static str,
) -> Case {
    Case { what, method: Method::POST, path, token, body: body.into(), status: 400, field }
}

fn rule_case(what: &'static str, member: &str, field: &'static str) -> Case {
    let body = format!(r#"{{"source":"web","destination":"db","ports":["80"],"action":"allow",{member}}}"#);
    // The member comes last; where it repeats one from above, that one is taken out.
    let name = member.split('"').nth(1).expect("a member");
    let body = match name {
        "source" => body.replacen(r#""source":"web","#, "", 1),
        "destination" => body.replacen(r#""destination":"db","#, "", 1),
        "ports" => body.replacen(r#""ports":["80"],"#, "", 1),
        "action" => body.replacen(r#""action":"allow","#, "", 1),
        _ => body,
    };
    post(what, "/v1/rules", OPERATOR, body, field)
}

fn put(
    what: &'static str,
    path: &'static str,
    token: &'static str,
    body: &'static str,
    status: u16,
    field: &'static str,
) -> Case {
    Case { method: Method::PUT, status, ..post(what, path, token, body, field) }
}

fn get(what: &'static str, path: &'static str, status: u16, field: &'static str) -> Case {
    Case { what, method: Method::GET, path, token: OPERATOR, body: Vec::new(), status, field }
}

fn rules() -> Vec<Case> {
    let long = format!(r#""source":"{}""#, "x".repeat(300));
    vec![
        rule_case("an empty name", r#""source":"""#, "source"),
        rule_case("a 300-character name", &long, "source"),
        rule_case("a reserved name", r#""destination":"World""#, "destination"),
        rule_case("a selector of later", r#""source":"cidr:10.0.0.0/8""#, "source"),
        rule_case("a group without a name", r#""source":"group:""#, "source"),
        rule_case("any in another case", r#""source":"ANY""#, "source"),
        rule_case("port 70000", r#""ports":["70000"]"#, "ports[0]"),
        rule_case("port 0", r#""ports":["80","0"]"#, "ports[1]"),
        rule_case("a backwards range", r#""ports":["8010-8000"]"#, "ports[0]"),
        rule_case("no ports at all", r#""ports":[]"#, "ports"),
        rule_case("an unknown protocol", r#""protocol":"tpc""#, "protocol"),
        rule_case("a port with any protocol", r#""protocol":"any""#, "ports"),
        rule_case("a port with icmp", r#""protocol":"icmp""#, "ports"),
        rule_case("an unknown member", r#""sauce":"web""#, "sauce"),
        rule_case("a member twice", r#""mode":"enforce","mode":"enforce""#, "(body)"),
        rule_case("an unknown mode", r#""mode":"dry""#, "mode"),
        rule_case("an end that is past", r#""expires_at":"2020-01-01T00:00:00Z""#, "expires_at"),
        rule_case("an end that is no time", r#""expires_at":"2h""#, "expires_at"),
        rule_case("a way to deny what is allowed", r#""on_deny":"drop""#, "on_deny"),
        rule_case("an unknown action", r#""action":"permit""#, "action"),
        post("malformed JSON", "/v1/rules", OPERATOR, "{\"source\":", "(body)"),
        post("nothing", "/v1/rules", OPERATOR, "", "(body)"),
        post("a list", "/v1/rules", OPERATOR, "[]", "(body)"),
        post("a bad rule of a set", "/v1/changes", OPERATOR, r#"{"create":[{"source":"a"}]}"#, "create[0].destination"),
        Case { status: 413, ..post("2 MiB", "/v1/rules", OPERATOR, vec![b' '; 2 << 20], "(body)") },
        Case { status: 413, ..post("17 MiB", "/v1/changes", OPERATOR, vec![b' '; 17 << 20], "(body)") },
        Case { method: Method::DELETE, ..post("no id", "/v1/rules/12", OPERATOR, "", "id") },
        Case { method: Method::DELETE, status: 404, ..post("no rule", "/v1/rules/r77", OPERATOR, "", "id") },
    ]
}

fn questions() -> Vec<Case> {
    vec![
        get("no address", "/v1/lookup?ip=nowhere", 400, "ip"),
        get("no address at all", "/v1/lookup", 400, "ip"),
        get("an address that nobody has", "/v1/lookup?ip=10.255.1.7", 404, "ip"),
        get("a time that is none", "/v1/lookup?ip=10.255.1.7&at=now", 400, "at"),
        get("a time to come", "/v1/lookup?ip=10.255.1.7&at=2999-01-01T00:00:00Z", 400, "at"),
        get("a time before everything", "/v1/lookup?ip=10.255.1.7&at=2001-01-01T00:00:00Z", 404, "ip"),
        get("an unknown parameter", "/v1/rules?sauce=web", 400, "sauce"),
        get("an unknown app", "/v1/rules?app=wbe", 404, "app"),
        get("a limit of 0", "/v1/apps?limit=0", 400, "limit"),
        get("a cursor of ours that is none", "/v1/rules?cursor=12", 400, "cursor"),
        get("an unknown app to check", "/v1/check?source=web&destination=bd&port=80", 404, "destination"),
        get("port 70000 to check", "/v1/check?source=web&destination=db&port=70000", 400, "port"),
        get("all ports with two answers", "/v1/check?source=web&destination=db", 400, "port"),
        get("a revision that never was", "/v1/revisions/99", 404, "revision"),
        get("a revision that is none", "/v1/revisions/last", 400, "revision"),
        get("a watch from nowhere", "/v1/watch?since=x", 400, "since"),
    ]
}

fn apps() -> Vec<Case> {
    let delete =
        |what, path, status, field| Case { method: Method::DELETE, status, ..post(what, path, OPERATOR, "", field) };
    let nine = r#"{"groups":["1","2","3","4","5","6","7","8","9"]}"#;
    vec![
        put("settings that are no object", "/v1/apps/web", OPERATOR, "[]", 400, "(body)"),
        put("an unknown mode of an app", "/v1/apps/web", OPERATOR, r#"{"mode":"dry"}"#, 400, "mode"),
        put("an unknown setting", "/v1/apps/web", OPERATOR, r#"{"identity":300}"#, 400, "identity"),
        put("a group with a space", "/v1/apps/web", OPERATOR, r#"{"groups":["a","b c"]}"#, 400, "groups[1]"),
        put("all groups and one more", "/v1/apps/web", OPERATOR, r#"{"groups":[],"add_groups":["a"]}"#, 400, "groups"),
        put("nine groups", "/v1/apps/web", OPERATOR, nine, 409, "groups"),
        put("a reserved name of an app", "/v1/apps/any", OPERATOR, "{}", 400, "name"),
        put("an app in another case", "/v1/apps/WEB", OPERATOR, "{}", 409, "name"),
        delete("an app that rules name", "/v1/apps/web", 409, "name"),
        delete("no app to delete", "/v1/apps/wbe", 404, "name"),
        post("nobody to isolate", "/v1/isolations", OPERATOR, "{}", "app"),
        post("an instance as text", "/v1/isolations", OPERATOR, r#"{"app":"web","instance":"0"}"#, "instance"),
        post("an isolation with a port", "/v1/isolations", OPERATOR, r#"{"app":"web","port":1}"#, "port"),
        post(
            "an isolation that is past",
            "/v1/isolations",
            OPERATOR,
            r#"{"app":"web","expires_at":"2020-01-01T00:00:00Z"}"#,
            "expires_at",
        ),
        Case {
            status: 404,
            ..post("an unknown app to isolate", "/v1/isolations", OPERATOR, r#"{"app":"wbe"}"#, "app")
        },
        Case {
            status: 404,
            ..post("no such instance", "/v1/isolations", OPERATOR, r#"{"app":"web","instance":7}"#, "instance")
        },
        delete("no isolation", "/v1/isolations/web", 404, "target"),
        delete("no isolation of an instance", "/v1/isolations/web/0", 404, "target"),
        delete("an instance that is none", "/v1/isolations/web/x", 400, "instance"),
        get("a cursor that is no isolation", "/v1/isolations?cursor=a%20b", 400, "cursor"),
        get("a receipt of nothing", "/v1/receipts", 400, "revision"),
        get("a receipt of the future", "/v1/receipts?revision=99", 404, "revision"),
        get("a wait that is no time", "/v1/receipts?revision=1&wait_ms=2s", 400, "wait_ms"),
    ]
}

fn nodes() -> Vec<Case> {
    vec![
        post("no underlay", "/v1/nodes/n1/join", JOINING, "{}", "underlay"),
        post("an underlay that is no address", "/v1/nodes/n1/join", JOINING, r#"{"underlay":"here"}"#, "underlay"),
        post("a loopback underlay", "/v1/nodes/n1/join", JOINING, r#"{"underlay":"127.0.0.1"}"#, "underlay"),
        post("no addresses", "/v1/bindings", NODE, r#"{"app":"web"}"#, "addresses"),
        post(
            "something that is no address",
            "/v1/bindings",
            NODE,
            r#"{"app":"web","addresses":["x"]}"#,
            "addresses[0]",
        ),
        post("a report without history", "/v1/nodes/n1/report", NODE, r#"{"applied":1}"#, "history"),
        post(
            "a report with a cut that runs backwards",
            "/v1/nodes/n1/report",
            NODE,
            r#"{"history":"00ff00ff00ff00ff","applied":1,"ready":true,"rows_used":0,"rows_capacity":1,
                "cuts":[{"after":2,"applied":1,"flows":3}]}"#,
            "cuts[0].after",
        ),
        put("usage since nobody knows when", "/v1/nodes/n1/usage", NODE, r#"{"rules":[]}"#, 400, "since"),
        put("usage of nothing", "/v1/nodes/n1/usage", NODE, r#"{"since":"2026-01-31T12:00:00Z"}"#, 400, "rules"),
        Case { method: Method::DELETE, ..post("no address to free", "/v1/bindings/x", NODE, "", "address") },
    ]
}

async fn send(world: &World, node: &reqwest::Client, case: &Case) -> Response {
    let url = format!("{}{}", world.url(), case.path);
    let request = match case.token {
        NODE => node.request(case.method.clone(), url),
        file => world.raw().request(case.method.clone(), url).bearer_auth(world.prepared.read(file).trim()),
    };
    request.body(case.body.clone()).send().await.expect(case.what)
}

#[tokio::test]
async fn every_wrong_request_is_refused_naming_its_field_and_changes_nothing() {
    let world = World::new().await;
    world.operator.put_rule(&rule("allow web db 80"), &Default::default()).await.expect("rule");
    let node = world.raw_node("n1", "192.168.1.1").await;
    let before = world.revision().await;
    for case in rules().into_iter().chain(questions()).chain(apps()).chain(nodes()) {
        let response = send(&world, &node, &case).await;
        let media = response.headers().get("content-type").and_then(|media| media.to_str().ok()).map(str::to_owned);
        assert_eq!(
            (response.status().as_u16(), media.as_deref()),
            (case.status, Some(Problem::MEDIA_TYPE)),
            "{}",
            case.what
        );
        let problem: Problem = response.json().await.expect(case.what);
        assert_eq!(problem.field.as_deref(), Some(case.field), "{}: {problem}", case.what);
        assert!(problem.detail.contains(&format!("`{}`", case.field)), "{}: {problem}", case.what);
        assert_eq!(problem.status, case.status);
        assert_eq!(world.revision().await, before, "{} changed something", case.what);
    }
    world.server.stop().await;
}

#[tokio::test]
async fn who_is_not_known_or_has_no_right_is_refused() {
    let world = World::new().await;
    let http = world.raw();
    let ask = |method: Method, path: &str, token: Option<String>| {
        let request = http.request(method, format!("{}{path}", world.url())).body("{}");
        let request = token.map_or(request.try_clone().expect("no stream"), |token| request.bearer_auth(token));
        async move { request.send().await.expect("an answer").status() }
    };
    let node = world.raw_node("n1", "192.168.1.1").await;
    let ask_as_node = |method: Method, path: &str| {
        let request = node.request(method, format!("{}{path}", world.url())).body("{}");
        async move { request.send().await.expect("an answer").status() }
    };
    let token = |file: &str| Some(world.prepared.read(file).trim().to_owned());
    assert_eq!(ask(Method::GET, "/v1/rules", None).await, StatusCode::UNAUTHORIZED);
    assert_eq!(ask(Method::GET, "/metrics", None).await, StatusCode::UNAUTHORIZED);
    assert_eq!(ask(Method::GET, "/v1/watch", Some("x".to_owned())).await, StatusCode::UNAUTHORIZED);
    assert_eq!(ask(Method::GET, "/v1/rules", Some("0".repeat(64))).await, StatusCode::UNAUTHORIZED);
    assert_eq!(ask_as_node(Method::POST, "/v1/rules").await, StatusCode::FORBIDDEN);
    assert_eq!(ask_as_node(Method::POST, "/v1/changes").await, StatusCode::FORBIDDEN);
    assert_eq!(ask_as_node(Method::DELETE, "/v1/rules/r1").await, StatusCode::FORBIDDEN);
    assert_eq!(ask_as_node(Method::POST, "/v1/nodes/n2/join").await, StatusCode::FORBIDDEN);
    assert_eq!(ask_as_node(Method::POST, "/v1/nodes/n2/report").await, StatusCode::FORBIDDEN);
    for path in ["/v1/rules", "/v1/watch", "/v1/nodes", "/metrics"] {
        assert_eq!(ask(Method::GET, path, token(JOINING)).await, StatusCode::FORBIDDEN, "{path}");
    }
    assert_eq!(ask(Method::POST, "/v1/nodes/n2/join", token(JOINING)).await, StatusCode::FORBIDDEN);
    assert_eq!(ask(Method::POST, "/v1/nodes/n1/join", token(OPERATOR)).await, StatusCode::FORBIDDEN);
    assert_eq!(ask(Method::POST, "/v1/bindings", token(OPERATOR)).await, StatusCode::FORBIDDEN);
    assert_eq!(ask(Method::GET, "/healthz", None).await, StatusCode::OK);
    assert_eq!(ask(Method::GET, "/readyz", None).await, StatusCode::OK);
    assert_eq!(ask(Method::GET, "/nowhere", token(OPERATOR)).await, StatusCode::NOT_FOUND);
    assert_eq!(ask(Method::PUT, "/v1/rules", token(OPERATOR)).await, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(world.revision().await.0, 3, "nothing but what the store is born with, the first signer and the node");
    world.server.stop().await;
}

#[tokio::test]
async fn a_server_of_another_ca_is_not_believed() {
    let world = World::new().await;
    let stranger = Prepared::new();
    let client = stranger.client(&[world.url()], OPERATOR);
    let error = client.status().await.expect_err("another CA").to_string();
    assert!(error.contains("cannot reach"), "{error}");
    world.server.stop().await;
}

#[tokio::test]
async fn everything_described_is_there_and_described_to_whoever_is_known() {
    let world = World::new().await;
    let node = world.raw_node("n1", "192.168.1.1").await;
    let request = node.get(format!("{}/openapi.json", world.url()));
    let text = request.send().await.expect("an answer").text().await.expect("text");
    for path in ["/v1/rules", "/v1/changes", "/v1/check", "/v1/watch", "/v1/bindings/{address}"] {
        assert!(text.contains(&format!("\"{path}\"")), "{path}");
    }
    let metrics = node.get(format!("{}/metrics", world.url()));
    let text = metrics.send().await.expect("an answer").text().await.expect("text");
    assert!(text.contains("netpol_store_revision_number 3"), "{text}");
    world.server.stop().await;
}
