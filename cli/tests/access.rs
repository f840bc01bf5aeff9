//! Who may do what on which resource, as an operator writes and asks it: the real CLI against the real policy API.

use std::fs::File;

mod support;

use support::api::Api;
use support::{Said, Shell};

const RELEASE: &str = "
rules:
  - {source: ci, destination: bot, ports: [443], action: allow}
layers:
  - name: ci
    members: [host:ci-1, host:ci-2]
roles:
  - name: production/bot/publisher
    members: [layer:ci, role:operators]
  - {name: operators, members: [user:olga]}
resources:
  - id: production/bot
    permissions:
      - role: production/bot/publisher
        privileges: [read, create]
      - {role: operators, privileges: [delete]}
";

fn write(shell: &Shell, name: &str, text: &str) -> String {
    let path = shell.path(name);
    std::fs::write(&path, text).expect("a file");
    path.to_string_lossy().into_owned()
}

/// Pipes a text into a command.
fn fed(shell: &Shell, line: &str, text: &str) -> Said {
    let file = File::open(write(shell, "fed", text)).expect("a file");
    shell.command().args(line.split(' ')).stdin(file).output().expect("netpol starts").into()
}

fn released() -> (Api, String) {
    let api = Api::start();
    let file = write(&api.shell, "release.yaml", RELEASE);
    api.shell.netpol(&format!("apply -f {file} --no-wait")).exits(0);
    (api, file)
}

#[test]
fn roles_and_resources_of_files_stand_with_the_rules_in_one_revision_and_diff_says_nothing_then() {
    let api = Api::start();
    let shell = &api.shell;
    let file = write(shell, "release.yaml", RELEASE);
    let diff = shell.netpol(&format!("diff -f {file}")).exits(1);
    diff.prints("+ layer ci  +host:ci-1, +host:ci-2")
        .prints("+ role production/bot/publisher  +layer:ci, +role:operators")
        .prints("+ resource production/bot  +operators(delete), +production/bot/publisher(create)")
        .prints("1 rule to create, 0 to update, 0 to delete, 0 unchanged; roles and resources: 4 to set, 0 to delete");
    let before = api.revision();
    shell
        .netpol(&format!("apply -f {file} --no-wait"))
        .exits(0)
        .prints("roles and resources: 4 set, 0 deleted")
        .tells("brings back rules alone");
    assert_eq!(api.revision(), before + 1);
    let said = shell.netpol(&format!("diff -f {file} --prune")).exits(0);
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("", ""));
    shell.netpol(&format!("apply -f {file} --no-wait")).exits(0);
    assert_eq!(api.revision(), before + 1, "applying twice is the same as once");
    let told = shell.netpol(&format!("history {}", before + 1)).exits(0);
    told.prints("role production/bot/publisher created, members layer:ci,role:operators");
}

#[test]
fn an_export_applies_to_itself_as_nothing_and_elsewhere_as_everything() {
    let (api, _) = released();
    for format in ["", " -o json", " -o yaml"] {
        let exported = api.shell.netpol(&format!("export{format}")).exits(0).stdout;
        let revision = api.revision();
        fed(&api.shell, "apply -f - --prune", &exported).exits(0);
        assert_eq!(api.revision(), revision, "export{format} | apply changes nothing");
    }
    let other = Api::start();
    let exported = api.shell.netpol("export").exits(0).stdout;
    fed(&other.shell, "apply -f - --prune --no-wait", &exported).exits(0);
    assert_eq!(other.shell.netpol("export").exits(0).stdout, exported, "the same policy is the same text");
}

#[test]
fn a_question_is_answered_by_its_exit_code_with_the_way_or_what_is_nearest() {
    let (api, _) = released();
    let shell = &api.shell;
    shell
        .netpol("can host:ci-1 create production/bot")
        .exits(0)
        .prints("yes  host:ci-1 create production/bot  by layer:ci > role:production/bot/publisher");
    shell
        .netpol("can host:ci-1 delete production/bot")
        .exits(1)
        .prints("no  host:ci-1 delete production/bot  may only create,read there; the role that may: operators");
    shell.netpol("can operators create production/bot").exits(0).prints("by role:production/bot/publisher");
    shell.netpol("can production/bot/publisher delete production/bot").exits(1);
    let json = shell.netpol("can user:olga delete production/bot -o json").exits(0).json();
    assert_eq!((&json["allowed"], &json["way"][1]), (&true.into(), &"role:operators".into()));
    shell.netpol("can host:ci-1 create production/bo").exits(1).tells("did you mean `production/bot`?");
    shell.netpol("can operatrs create production/bot").exits(1).tells("did you mean `operators`?");
    shell.netpol("can host:ci1 create production/bot").exits(1).tells("did you mean `host:ci-1`?");
    shell.netpol("can host:ci-1 Create production/bot").exits(2).tells("`Create` is not a privilege");
}

#[test]
fn who_can_and_the_report_are_of_now_or_of_any_time() {
    let (api, file) = released();
    let shell = &api.shell;
    let then = api.revision();
    shell
        .netpol("who-can create production/bot")
        .exits(0)
        .prints("host:ci-1  layer:ci > role:production/bot/publisher")
        .prints("user:olga  role:operators > role:production/bot/publisher");
    let without = RELEASE.replace("[host:ci-1, host:ci-2]", "[host:ci-2]");
    std::fs::write(&file, without).expect("a file");
    shell.netpol(&format!("apply -f {file} --no-wait")).exits(0).prints("~ layer ci  -host:ci-1");
    let names = |line: &str| shell.netpol(line).exits(0).stdout;
    assert_eq!(names("who-can create production/bot -o name"), "host:ci-2\nuser:olga\n");
    let past = format!("who-can create production/bot -o name --at {then}");
    assert_eq!(names(&past), "host:ci-1\nhost:ci-2\nuser:olga\n");
    shell.netpol("can host:ci-1 create production/bot").exits(1);
    shell.netpol(&format!("can host:ci-1 create production/bot --at {then}")).exits(0).tells("as of revision");
    let report = shell.netpol(&format!("permissions --subject host:ci-1 --at {then} -o wide")).exits(0);
    report.prints("production/bot").prints("create,read").prints("production/bot/publisher");
    let rows = shell.netpol("permissions --resource production/bot -o json").exits(0).json();
    assert_eq!(rows["items"].as_array().map(Vec::len), Some(2));
    shell.netpol("who-can execute production/bot").exits(1).tells("no role may execute production/bot");
}

#[test]
fn pruning_takes_what_no_file_has_with_what_named_it_and_spares_kinds_that_no_file_speaks_of() {
    let (api, _) = released();
    let shell = &api.shell;
    let rules = write(shell, "rules.yaml", "rules:\n  - {source: ci, destination: bot, ports: [443], action: allow}\n");
    shell.netpol(&format!("diff -f {rules} --prune")).exits(0);
    let used = write(shell, "used.yaml", "layers: []\n");
    shell
        .netpol(&format!("apply -f {used} -f {rules} --prune --no-wait"))
        .exits(6)
        .tells("is named by role:production/bot/publisher");
    let none = write(shell, "none.yaml", "layers: []\nroles: []\nresources: []\n");
    shell
        .netpol(&format!("apply -f {none} -f {rules} --prune --no-wait"))
        .exits(0)
        .prints("- role operators")
        .prints("- resource production/bot");
    shell.netpol("permissions").exits(0).tells("no permissions");
}

#[test]
fn what_cannot_be_is_refused_whole_naming_what_of_the_file_it_is() {
    let (api, file) = released();
    let shell = &api.shell;
    let before = api.revision();
    let circle = RELEASE.replace("members: [user:olga]", "members: [role:production/bot/publisher]");
    std::fs::write(&file, circle).expect("a file");
    shell
        .netpol(&format!("apply -f {file} --no-wait"))
        .exits(6)
        .tells("`operators` has in it `production/bot/publisher` has in it `operators`")
        .tells("is role operators");
    std::fs::write(&file, RELEASE.replace("members: [layer:ci,", "members: [layer:cj,")).expect("a file");
    shell.netpol(&format!("apply -f {file} --no-wait")).exits(1).tells("did you mean `ci`?");
    std::fs::write(&file, RELEASE.replace("[read, create]", "[read, Create]")).expect("a file");
    shell.netpol(&format!("apply -f {file}")).exits(2).tells("release.yaml:15:28: field `resources[0].permissions[0]");
    assert_eq!(api.revision(), before, "nothing was changed");
}
