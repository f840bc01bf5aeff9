//! Who may, as users of three roles see it: the real CLI against the real policy API.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

mod support;

use support::Shell;
use support::api::Api;

/// The policy API with the teams shop and pay.
fn teams() -> Api {
    let api = Api::start();
    api.shell
        .netpol("team set shop --app shop-* --group shop")
        .exits(0)
        .prints("created team shop  apps shop-*, groups shop");
    api.shell.netpol("team set pay --app pay-*").exits(0);
    api
}

/// A shell of somebody with a new token in these roles.
fn user(api: &Api, name: &str, role: &str) -> Shell {
    let mut shell = Shell::new();
    let file = shell.path("token");
    api.shell.netpol(&format!("token create {name} --role {role} --out {}", file.display())).exits(0);
    shell.set("NETPOL_API", &api.url);
    shell.set("NETPOL_CA", &api.dir().join("ca.pem").to_string_lossy());
    shell.set("NETPOL_TOKEN_FILE", &file.to_string_lossy());
    shell
}

#[test]
fn a_writer_opens_what_is_his_asks_for_what_is_half_his_and_is_told_who_could_do_the_rest() {
    let api = teams();
    let (alice, bob) = (user(&api, "alice", "writer:shop"), user(&api, "bob", "writer:pay"));
    alice.netpol("whoami").exits(0).prints("token/alice  writer:shop");
    alice.netpol("can-i allow shop-web shop-db --port 5432").exits(0).prints("yes");
    alice.netpol("allow shop-web shop-db --port 5432").exits(0).prints("created r2");

    alice.netpol("can-i allow shop-web pay-api --port 443").exits(1).prints("team pay has to accept it");
    let asked = alice.netpol("allow shop-web pay-api --port 443 --reason CHG-7").exits(1);
    let asked = asked.prints("asked q1  allow shop-web -> pay-api tcp/443  of team pay").tells("netpol accept q1");
    assert!(asked.stderr.contains("nothing stands yet"), "{}", asked.stderr);
    bob.netpol("check shop-web shop-db --port 443").exits(1);
    bob.netpol("requests").exits(0).prints("q1").prints("shop").prints("CHG-7");
    alice.netpol("accept q1").exits(3).tells("`token/alice` may not accept q1").tells("writer:pay");
    bob.netpol("accept q1 --dry-run").exits(0).prints("would be created");
    bob.netpol("accept q1").exits(0).prints("created r3").tells("undo: netpol revoke r3");
    alice.netpol("check shop-web pay-api --port 443").exits(0);

    alice.netpol("can-i allow any shop-db").exits(1).prints("wide:shop");
    alice.netpol("allow any shop-db").exits(3).tells("wide:shop");
    alice.netpol("isolate shop-web").exits(3).tells("role `operator`");
    alice.netpol("token create eve --role admin").exits(3).tells("role `admin`");
    alice.netpol("list").exits(0).prints("r3");
}

#[test]
fn a_token_is_shown_once_or_written_for_its_owner_alone_and_is_void_when_revoked() {
    let api = teams();
    let shown = api.shell.netpol("token create ci --role auditor --ttl 90d").exits(0).tells("shown this once");
    let token = shown.stdout.trim().to_owned();
    assert!(token.len() == 64 && !shown.stderr.contains(&token), "{shown:?}");
    let file = api.shell.path("alice.token");
    let out = format!("token create alice --role writer:shop --out {}", file.display());
    let said = api.shell.netpol(&out).exits(0).tells("undo: netpol token revoke alice");
    let written = std::fs::read_to_string(&file).expect("a file");
    assert!(!said.stdout.contains(written.trim()) && !said.stderr.contains(written.trim()));
    assert_eq!(std::fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
    api.shell.netpol(&out).exits(2).tells("alice.token");
    let list = api.shell.netpol("token list -o json").exits(0);
    assert!(list.stdout.contains("alice") && !list.stdout.contains("hash"), "{}", list.stdout);

    let mut ci = Shell::new();
    ci.set("NETPOL_API", &api.url);
    ci.set("NETPOL_CA", &api.dir().join("ca.pem").to_string_lossy());
    ci.set("NETPOL_TOKEN", &token);
    ci.netpol("list").exits(0);
    api.shell.netpol("token revoke ci --dry-run").exits(0).prints("would be revoked token ci");
    ci.netpol("list").exits(0);
    api.shell.netpol("token revoke ci").exits(0).prints("revoked token ci  auditor");
    ci.netpol("list").exits(3).tells("does not know this token");
}

#[test]
fn a_token_that_was_refused_leaves_no_file_behind() {
    let api = teams();
    let file = api.shell.path("x.token");
    api.shell
        .netpol(&format!("token create x --role writer:shpo --out {}", file.display()))
        .exits(1)
        .tells("did you mean `shop`");
    assert!(!file.exists());
}

#[test]
fn who_logs_in_is_known_by_later_commands_and_his_token_is_his_alone() {
    let api = teams();
    let alice = user(&api, "alice", "writer:shop");
    let token = std::fs::read_to_string(alice.path("token")).expect("a token");
    let mut shell = Shell::new();
    let home = shell.path("home");
    shell.set("HOME", &home.to_string_lossy());
    shell.set("XDG_CONFIG_HOME", "");
    shell.set("NETPOL_API", &api.url);
    shell.set("NETPOL_CA", &api.dir().join("ca.pem").to_string_lossy());
    let login = |text: &str| {
        let mut process = shell
            .command()
            .arg("login")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("netpol");
        std::io::Write::write_all(&mut process.stdin.take().expect("a pipe"), text.as_bytes()).expect("written");
        support::Said::from(process.wait_with_output().expect("it ends"))
    };
    let kept = home.join(".config/netpol/token");
    login(&"0".repeat(64)).exits(3).tells("does not know this token");
    assert!(!kept.exists(), "what nobody knows is not kept");
    let said = login(&token).exits(0).prints("token/alice  writer:shop").tells("kept in");
    assert!(!said.stderr.contains(token.trim()) && !said.stdout.contains(token.trim()));
    assert_eq!(std::fs::metadata(&kept).expect("a file").permissions().mode() & 0o777, 0o600);
    shell.netpol("whoami").exits(0).prints("token/alice");
}

#[test]
fn an_identity_token_is_printed_for_who_asks_and_ends_with_a_word() {
    let api = Api::start();
    let machine = user(&api, "ci-1", "machine");
    let said = machine.netpol("identity-token release-bot").exits(0).tells("host:ci-1 for release-bot");
    let token = said.stdout.trim().to_owned();
    assert_eq!(token.split('.').count(), 3, "a JWT alone, to be piped: {token}");
    assert!(!said.stderr.contains(&token), "{}", said.stderr);
    let json = machine.netpol("identity-token release-bot --ttl 30s -o json").exits(0);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).expect("json");
    assert_eq!((&json["subject"], &json["audience"]), (&"host:ci-1".into(), &"release-bot".into()));
    let id = json["id"].as_str().expect("an id").to_owned();

    machine.netpol("identity-token release-bot --ttl 2h").exits(2).tells("lifetime");
    machine.netpol("identity-token 'a b'").exits(2);
    machine.netpol("list").exits(3).tells("this one's is `machine`");
    machine.netpol(&format!("identity-token revoke {id}")).exits(3).tells("role `operator`");
    machine.netpol("identity-token revoke user:operator").exits(3).tells("role `operator`");
    machine.netpol("identity-token revoke host:ci-1").exits(0).prints("revoked identity tokens of host:ci-1");
    api.shell.netpol(&format!("identity-token revoke {id} --dry-run")).exits(0).prints("would be revoked");
    api.shell.netpol(&format!("identity-token revoke {id}")).exits(0).prints(&format!("revoked identity token {id}"));
    api.shell.netpol("identity-token revoke everything").exits(2).tells("neither an id nor a subject");
    api.shell.netpol("history").exits(0).prints("identity tokens of host:ci-1 revoked");
}
