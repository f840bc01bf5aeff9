//! Policy as files, against the real policy API: apply, diff and export.

use std::process::{Command, Stdio};
use std::time::Instant;

mod support;

use support::api::Api;
use support::{Said, Shell};

const WEB: &str = "
apps:
  - {name: web, mode: audit, groups: [front]}
rules:
  - {source: web, destination: db, ports: [5432], action: allow, reason: CHG-118}
  - {source: group:front, destination: db, protocol: icmp, action: deny, on_deny: drop}
  - {source: ops, destination: db, ports: [22], action: allow, ttl: 2h}
";

fn write(shell: &Shell, name: &str, text: &str) -> String {
    let path = shell.path(name);
    std::fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
    std::fs::write(&path, text).expect("a file");
    path.to_string_lossy().into_owned()
}

/// Pipes a text into a command.
fn fed(shell: &Shell, line: &str, text: &str) -> Said {
    let input = write(shell, "fed", text);
    let file = std::fs::File::open(input).expect("a file");
    shell.command().args(line.split(' ')).stdin(file).output().expect("netpol starts").into()
}

#[test]
fn what_is_applied_stands_and_diff_says_nothing_then() {
    let api = Api::start();
    let shell = &api.shell;
    let file = write(shell, "web.yaml", WEB);
    shell
        .netpol(&format!("diff -f {file}"))
        .exits(1)
        .prints("+ allow web -> db tcp/5432")
        .prints("+ app web  mode enforce -> audit, groups none -> front");
    shell
        .netpol(&format!("apply -f {file} --dry-run"))
        .exits(0)
        .prints("3 rules to create, 0 to update")
        .tells("nothing was changed");
    let said = shell.netpol("list").exits(0);
    assert_eq!(said.stdout, "");
    let before = api.revision();
    shell
        .netpol(&format!("apply -f {file} --no-wait"))
        .exits(0)
        .prints("3 rules created, 0 updated, 0 deleted, 0 unchanged");
    assert_eq!(api.revision(), before + 1, "one revision for apps and rules together");
    let said = shell.netpol(&format!("diff -f {file}")).exits(0);
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("", ""));
    shell.netpol(&format!("apply -f {file}")).exits(0).prints("0 rules created, 0 updated, 0 deleted, 3 unchanged");
    assert_eq!(api.revision(), before + 1, "applying twice is the same as once");
    shell.netpol("apps -o json").exits(0).prints("\"audit\"").prints("front");
}

#[test]
fn an_export_applies_to_itself_as_nothing_and_to_an_empty_api_as_everything() {
    let (api, other) = (Api::as_born(), Api::as_born());
    api.shell.netpol(&format!("apply -f {} --no-wait", write(&api.shell, "web.yaml", WEB))).exits(0);
    for format in ["", " -o json", " -o yaml"] {
        let exported = api.shell.netpol(&format!("export{format}")).exits(0).stdout;
        let revision = api.revision();
        let said = fed(&api.shell, "apply -f - --prune", &exported).exits(0);
        said.prints("0 rules created, 0 updated, 0 deleted, 4 unchanged");
        assert_eq!(api.revision(), revision, "export{format} | apply changes nothing");
    }
    let exported = api.shell.netpol("export").exits(0).stdout;
    fed(&other.shell, "apply -f - --prune --no-wait", &exported)
        .exits(0)
        .prints("3 rules created, 0 updated, 0 deleted, 1 unchanged");
    assert_eq!(other.shell.netpol("export").exits(0).stdout, exported, "the same policy is the same text");
}

#[test]
fn pruning_takes_what_no_file_has_and_never_the_built_in_rule() {
    let api = Api::as_born();
    let shell = &api.shell;
    shell.netpol("allow old db --port 80").exits(0);
    shell.netpol("allow older cache --port 80").exits(0);
    let directory = shell.path("policy");
    write(shell, "policy/web.yaml", WEB);
    let apply = format!("apply -f {} --no-wait", directory.display());
    shell
        .netpol(&format!("{apply} --prune --app db"))
        .exits(0)
        .prints("- r2 allow old -> db tcp/80")
        .prints("1 deleted");
    shell.netpol(&apply).exits(0).prints("0 deleted");
    shell
        .netpol(&format!("diff --prune -f {}", directory.display()))
        .exits(1)
        .prints("- r3 allow older -> cache tcp/80");
    shell.netpol(&format!("{apply} --prune")).exits(0).prints("1 deleted");
    shell.netpol("list").exits(0).prints("r1").prints("web");
    shell
        .netpol(&format!("apply -f {}", shell.dir.path().join("api/join").display()))
        .exits(2)
        .tells("there is no *.yaml");
}

#[test]
fn a_rollback_makes_the_rules_as_they_were_and_can_be_rolled_back() {
    let api = Api::as_born();
    let shell = &api.shell;
    shell.netpol(&format!("apply -f {} --no-wait", write(shell, "web.yaml", WEB))).exits(0);
    let (then, exported) = (api.revision(), shell.netpol("export").exits(0).stdout);
    shell.netpol("revoke r2 --no-wait").exits(0);
    shell.netpol("revoke r1 --no-wait").exits(0);
    shell.netpol("app set web --mode enforce").exits(0);
    shell.netpol("deny web db --no-wait").exits(0);
    let (now, changed) = (api.revision(), shell.netpol("export").exits(0).stdout);
    shell
        .netpol(&format!("rollback {then} --dry-run"))
        .exits(0)
        .prints("~ app web  mode enforce -> audit")
        .prints("+ deny group:front -> db icmp")
        .prints("- r5 deny web -> db tcp/all")
        .prints("2 rules to create, 0 to update, 1 to delete, 2 unchanged; touches 0 live flows");
    shell.netpol(&format!("rollback {then} --no-wait")).exits(0).tells(&format!("undo: netpol rollback {now}"));
    assert_eq!((shell.netpol("export").exits(0).stdout, api.revision()), (exported, now + 1));
    shell.netpol(&format!("rollback {now} --no-wait")).exits(0);
    assert_eq!(shell.netpol("export").exits(0).stdout, changed);
    shell.netpol("rollback 9999").exits(1).tells("9999");
}

#[test]
fn a_file_that_is_wrong_is_refused_by_file_line_and_field_and_changes_nothing() {
    let api = Api::start();
    let shell = &api.shell;
    let revision = api.revision();
    let file = write(shell, "bad.yaml", &WEB.replace("[5432]", "[54321, 99999]"));
    shell
        .netpol(&format!("apply -f {file}"))
        .exits(2)
        .tells("bad.yaml:5:51: field `rules[0].ports[1]`: `99999` is out of range; use a port");
    let clash = write(
        shell,
        "clash.yaml",
        "rules:\n- {source: a, destination: b, action: allow}\n- {source: A, destination: b, action: allow}\n",
    );
    shell
        .netpol(&format!("apply -f {clash}"))
        .exits(6)
        .tells("nothing was changed")
        .tells("create[1].source")
        .tells("create[1] is allow a -> b tcp/all");
    shell.netpol("apply -f missing.yaml").exits(2).tells("missing.yaml: No such file");
    shell.netpol("apply").exits(2);
    assert_eq!(api.revision(), revision);
}

#[test]
fn ten_thousand_rules_are_one_change_and_a_kill_in_its_middle_leaves_all_or_nothing() {
    const RULES: usize = 10_000;
    let mut api = Api::start();
    let rule = |i: usize| {
        format!("- {{source: app{}, destination: db{}, ports: [{}], action: allow}}\n", i % 100, i % 97, i + 1)
    };
    let text = format!("rules:\n{}", (0..RULES).map(rule).collect::<String>());
    let file = write(&api.shell, "many.yaml", &text);
    let stands = |api: &Api| api.shell.netpol("list -o name").exits(0).stdout.lines().count();
    let began = Instant::now();
    let mut apply: Command = api.shell.command();
    let mut apply = apply
        .args(["apply", "--no-wait", "-o", "name", "-f", &file])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("netpol starts");
    // Reading the file and what stands comes first, so that kills of many runs fall on all parts of the way.
    std::thread::sleep(std::time::Duration::from_millis(150 + u64::from(std::process::id() % 7) * 100));
    api.kill_and_start_again();
    // Its answer may have been lost with the API, or not.
    let _status = apply.wait().expect("it ends");
    let after = stands(&api);
    assert!(after == 0 || after == RULES, "{after} rules of {RULES} stand");
    let middle = Instant::now();
    api.shell.netpol(&format!("apply --no-wait -o name -f {file}")).exits(0);
    eprintln!("killed after {:?}, {after} stood; whole in {:?}", middle - began, middle.elapsed());
    assert_eq!(stands(&api), RULES);
    api.shell.netpol(&format!("diff --prune -f {file}")).exits(0);
}
