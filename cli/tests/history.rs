//! The history, against the real policy API and nodes that follow it.

mod support;

use support::api::{Api, Conduct};
use support::eventually;

#[test]
fn a_revision_is_told_with_who_made_it_why_and_by_when_each_node_had_it_in_force() {
    let api = Api::start();
    let _n1 = api.node("n1", 1, Conduct::Prompt { runs: Some("appA") });
    let _n2 = api.node("n2", 2, Conduct::Prompt { runs: Some("appB") });
    let shell = &api.shell;
    shell.netpol("allow appA appB --port 80 --reason CHG-7 --wait").exits(0);
    let revision = api.revision();
    let ask = format!("history {revision}");
    eventually("it is written down", || shell.netpol(&ask).stdout.contains(" on every node\n"));
    shell
        .netpol(&ask)
        .exits(0)
        .prints(&format!("revision {revision}, entry "))
        .prints("by operator from 127.0.0.1")
        .prints("why       CHG-7")
        .prints("(allow appA -> appB tcp/80) created")
        .prints(" on n1, ")
        .prints(" on n2, ");
    let told = shell.netpol(&format!("{ask} -o json")).exits(0).json();
    let nodes: Vec<_> = told["in_force_on"].as_array().expect("a list").iter().map(|on| on["node"].clone()).collect();
    assert_eq!(nodes, ["n1", "n2"], "{told}");
    shell.netpol("history -o wide").exits(0).prints("ON-NODES").prints("n1 +0.").prints(", n2 +0.");
    let listed = shell.netpol("history").exits(0);
    assert!(!listed.stdout.contains("ON-NODES"), "{}", listed.stdout);
}

#[test]
fn a_revision_that_never_was_is_a_no() {
    let api = Api::start();
    api.shell.netpol("history 9999").exits(1).tells("the history has no revision 9999");
    api.shell.netpol("history 1 --app appA").exits(2);
    api.shell.netpol("history verify").exits(0).prints("history fits");
}
