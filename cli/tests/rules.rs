//! What rules, apps and isolation can say beyond a pair and a port, against the real policy API.

use std::time::Duration;

use policy_api::model::Timestamp;
use serde_json::json;

mod support;

use support::api::{Api, Conduct};
use support::eventually;

const HOUR: Duration = Duration::from_secs(3_600);

#[test]
fn a_new_store_shows_its_one_rule_and_lets_it_go() {
    let api = Api::as_born();
    let shell = &api.shell;
    shell.netpol("list -o wide").exits(0).prints("r1").prints("host").prints("any").prints("built-in");
    shell.netpol("allow appA appB").exits(0);
    shell.netpol("check host appB --port 80").exits(0).prints("by r1");
    shell.netpol("check host any --protocol any").exits(0).prints("by r1");
    shell
        .netpol("revoke host any --protocol any")
        .exits(0)
        .prints("revoked r1")
        .tells("undo: netpol allow host any --protocol any --reason");
}

#[test]
fn a_rule_with_a_lifetime_says_when_it_ends_and_is_gone_then() {
    let api = Api::start();
    let shell = &api.shell;
    shell.netpol("allow appA appB --port 80 --ttl 2h").exits(0).prints("created r2").prints(", expires in ");
    shell.netpol("list").exits(0).prints("EXPIRES").prints("in ");
    let made = &shell.netpol("list -o json").exits(0).json()["items"][0];
    let [made, end] =
        ["created_at", "expires_at"].map(|time| made[time].as_str().expect("a time").parse::<Timestamp>());
    let (made, end) = (made.expect("a time"), end.expect("a time"));
    // By the API's clock, which was asked before the rule was made.
    assert!(made.until(end) <= 2 * HOUR && made.until(end) > HOUR, "{made} {end}");
    shell
        .netpol("allow appA appB --port 80")
        .exits(0)
        .prints("updated r2  allow appA -> appB tcp/80  revision")
        // So long as is left of it.
        .tells("undo: netpol allow appA appB --port 80 --ttl ");
    // Where the machine is busy its end may be past when the API hears of it, which refuses it then.
    eventually("r3 is made in time", || {
        shell.netpol("allow appA appB --port 81 --ttl 1s").stdout.contains("created r3")
    });
    eventually("r3 ends", || shell.netpol("list -o name").stdout == "r2\n");
}

#[test]
fn audit_and_the_way_to_deny_are_updated_in_place() {
    let api = Api::start();
    let shell = &api.shell;
    shell
        .netpol("deny appA appB --port 22 --mode audit")
        .exits(0)
        .prints("created r2  deny appA -> appB tcp/22, audit");
    shell
        .netpol("deny appA appB --port 22")
        .exits(0)
        .prints("updated r2")
        .tells("undo: netpol deny appA appB --port 22 --mode audit");
    shell.netpol("deny appA appB --port 22 --on-deny drop").exits(0).prints("updated r2").prints("told to nobody");
    shell.netpol("deny appA appB --port 22 --on-deny drop").exits(0).prints("unchanged r2");
    let json = shell.netpol("list -o json").exits(0).json();
    assert_eq!((&json["items"][0]["mode"], &json["items"][0]["on_deny"]), (&json!("enforce"), &json!("drop")));
    assert_eq!(json["items"][0]["usage"], json!({"packets": 0, "bytes": 0, "flows": 0}));
}

#[test]
fn a_revoke_names_groups_and_wildcards_that_still_allow_the_pair() {
    let api = Api::start();
    let shell = &api.shell;
    shell.netpol("app set appA --group front").exits(0).prints("created appA  enforced, groups front");
    shell.netpol("allow appA appB --port 80").exits(0);
    shell.netpol("allow group:front appB --protocol any").exits(0);
    shell.netpol("allow any any --port 53 --protocol udp").exits(0);
    shell.netpol("allow any any --port 54 --mode audit").exits(0);
    shell.netpol("allow group:back appB").exits(0);
    let said = shell.netpol("revoke appA appB --port 80").exits(0).prints("revoked r2");
    let said = said.prints("r3 (allow group:front -> appB any)").prints("r4 (allow any -> any udp/53)");
    assert!(!said.stdout.contains("r5") && !said.stdout.contains("r6"), "{}", said.stdout);
}

#[test]
fn a_deny_and_a_revoke_say_what_each_node_cut() {
    let api = Api::start();
    let shell = &api.shell;
    shell.netpol("deny appA appB --port 1").exits(0).prints("0 live flows cut; there is no node");
    let _n1 = api.node("n1", 1, Conduct::Cutting { flows: 2, runs: "appA" });
    let n2 = api.node("n2", 2, Conduct::Cutting { flows: 1, runs: "appB" });
    shell.netpol("allow appA appB --port 80 --wait").exits(0).prints("in force on 2 nodes");
    shell.netpol("deny appA appB --port 80").exits(0).prints("3 live flows cut: 2 on n1, 1 on n2");
    shell.netpol("deny appA appB --port 80").exits(0).prints("unchanged");
    let said = shell.netpol("deny appA appB --port 81 --no-wait").exits(0);
    assert!(!said.stdout.contains("cut"), "{}", said.stdout);
    let said = shell.netpol("deny appA appB --port 82 --mode audit").exits(0);
    assert!(!said.stdout.contains("cut"), "{}", said.stdout);
    let json = shell.netpol("revoke appA appB --port 80 --action allow -o json").exits(0).json();
    assert_eq!((&json["receipt"]["flows"], &json["receipt"]["missing"]), (&json!(3), &json!([])));
    shell.netpol("allow appA appB --port 80").exits(0);
    drop(n2);
    eventually("n2 is seen to be gone", || shell.netpol("nodes").stdout.contains("disconnected"));
    shell
        .netpol("revoke appA appB --port 80 --action allow")
        .exits(0)
        .prints("2 live flows cut: 2 on n1; not heard from: n2");
}

#[test]
fn isolation_comes_and_goes_by_name_and_says_what_it_cut() {
    let api = Api::start();
    let shell = &api.shell;
    let _n1 = api.node("n1", 1, Conduct::Prompt { runs: Some("appB") });
    eventually("the instance is there", || shell.netpol("instances -o name").stdout == "appB/0\n");
    shell.netpol("isolate apB").exits(1).tells("did you mean `appB`?");
    shell.netpol("isolate appB/7").exits(1).tells("did you mean `appB/0`?");
    shell
        .netpol("isolate appB --reason INC-7 --ttl 2h")
        .exits(0)
        .prints("isolated appB, expires in 2h")
        .prints("0 live flows cut")
        .tells("undo: netpol release appB");
    shell.netpol("isolate appB/0 --no-wait").exits(0).prints("isolated appB/0");
    shell.netpol("isolate appB/0").exits(0).prints("unchanged, isolated appB/0");
    shell.netpol("allow any any").exits(0);
    shell.netpol("check any appB").exits(1).prints("isolated: appB, appB/0").tells("to end it: netpol release appB; ");
    shell.netpol("isolations").exits(0).prints("ISOLATED").prints("appB/0").prints("INC-7");
    shell.netpol("release appB").exits(0).prints("released appB").prints("still isolated by themselves: appB/0");
    shell.netpol("release appB").exits(1);
    shell.netpol("release appB/0 --wait").exits(0).prints("in force on 1 node").tells("undo: netpol isolate appB/0");
    shell.netpol("isolations").exits(0).tells("no isolations");
}

#[test]
fn an_app_is_set_shown_and_deleted() {
    let api = Api::start();
    let shell = &api.shell;
    shell.netpol("allow appA appB --port 80").exits(0);
    shell
        .netpol("app set appA --mode audit --group front --group eu")
        .exits(0)
        .prints("updated appA  in audit, groups eu,front")
        .tells("undo: netpol app set appA --mode enforce --group ''");
    shell.netpol("app set appA --mode audit").exits(0).prints("unchanged appA");
    shell
        .netpol("app set appA --remove-group eu --dry-run")
        .exits(0)
        .prints("would be updated appA")
        .tells("nothing was changed");
    shell.netpol("check appA host --port 1").exits(0).prints("in audit").prints("would be denied");
    shell.netpol("apps").exits(0).prints("GROUPS").prints("eu,front").prints("audit");
    shell.netpol("list --source group:frnt").exits(1).tells("did you mean `front`?");
    shell.netpol("app delete appA").exits(6).tells("is named by r2");
    shell.netpol("revoke r2 --no-wait").exits(0);
    shell.netpol("app delete appA").exits(0).prints("deleted appA");
    shell.netpol("apps -o name").exits(0).prints("appB\n");
    shell.netpol("app set apB --group x").exits(0).prints("created apB").tells("did you mean `appB`?");
}

#[test]
fn rules_that_are_new_are_not_unused() {
    let api = Api::start();
    let shell = &api.shell;
    shell.netpol("allow appA appB --port 80").exits(0);
    assert_eq!(shell.netpol("list --unused 30d -o name").exits(0).stdout, "");
    eventually("it was unused for a second", || shell.netpol("list --unused 1s -o name").stdout == "r2\n");
}
