//! Every form of the command line that the contract names, and what is refused.

use clap::{CommandFactory, Parser};
use policy_api::model::{Action, Ports, Protocol, RuleId};

use super::*;
use crate::failure::Exit;

fn parse(line: &str) -> Result<Command, clap::Error> {
    Cli::try_parse_from(std::iter::once("netpol").chain(line.split_whitespace())).map(|cli| cli.command)
}

#[track_caller]
fn accepted(line: &str) -> Command {
    parse(line).unwrap_or_else(|error| panic!("{line}: {error}"))
}

#[track_caller]
fn refused(line: &str) -> String {
    let error = parse(line).err().unwrap_or_else(|| panic!("{line} was accepted"));
    assert_eq!(error.exit_code(), 2, "{line}");
    error.to_string()
}

#[test]
fn every_form_of_the_contract_is_accepted() {
    for line in [
        "allow appA appB",
        "allow appA appB --port 8080",
        "allow appA appB --port 80,443 --port 8000-8010",
        "allow appA appB -p 80",
        "allow appA appB --protocol udp --port 53",
        "allow appA appB --protocol icmp",
        "allow appA appB --mode enforce",
        "allow appA appB --mode audit",
        "allow appA appB --ttl 2h --protocol sctp --port 5000",
        "allow any group:db --protocol any",
        "deny any any --on-deny drop --no-wait",
        "revoke appA appB --no-wait",
        "revoke group:a any --all",
        "isolate appA",
        "isolate appA/0 --ttl 2h --reason INC-7 --no-wait --wait",
        "release appA/0 --wait=2s",
        "isolations -w",
        "app set appA --mode audit --group a --group b",
        "app set appA --add-group a --remove-group b --dry-run",
        "app delete appA",
        "node drain n1",
        "node undrain n1 --dry-run",
        "node remove n1",
        "list --unused 30d",
        "allow appA appB --reason CHG-118",
        "allow appA appB --wait",
        "allow appA appB --wait=500ms --port 8080",
        "allow appA appB --wait --port 8080",
        "allow appA appB --dry-run",
        "allow host appB --port 8080",
        "deny appA host",
        "deny appA appB --port 22 --reason INC-77 --wait=2s",
        "revoke appA appB",
        "revoke appA appB --port 8080 --protocol tcp --action deny",
        "revoke r12",
        "revoke r12 --wait",
        "revoke appA appB --all --wait=1m",
        "list",
        "list --app appA",
        "list --source appA --destination host -w",
        "apply -f policy.yaml",
        "apply -f a.yaml -f dir --prune --app web --dry-run",
        "apply --file - --wait=2s --no-wait",
        "diff -f policy.yaml --prune",
        "export --app web",
        "rollback 12 --dry-run",
        "rollback 2026-01-31T12:00:00Z --wait",
        "check appA appB --port 8080",
        "check appA appB --protocol icmp",
        "can host:ci-1 create production/release-bot",
        "can production/release-bot/publisher create production/release-bot --at 7d",
        "who-can delete production/release-bot -o json",
        "permissions",
        "permissions --resource production/release-bot --subject app:web --at 12",
        "lookup 10.255.1.2",
        "lookup 10.255.1.2:8080",
        "who [fd00::2]:8080",
        "who 10.255.1.2 --at 2026-01-31T12:00:00+01:00",
        "lookup 10.255.1.2 --at 7d",
        "apps",
        "apps --watch",
        "instances",
        "instances appA -w",
        "nodes -o wide",
        "status -o json",
        "observe",
        "observe -f",
        "observe --follow --app appA --last 10 -o jsonl",
        "observe --source host --destination appB --kind start,end --kind cut -o wide",
        "observe --kind denied --reason deny-rule -o json",
        "attach --app appA --netns /run/netns/box",
        "attach --app appA --instance 3 --netns box --ifname eth1 --label a=b --label c=d",
        "detach --netns /run/netns/box",
        "run --app appA -- sleep 5",
        "run --app appA --instance 2 -- sh -c exit",
        "add-network-policy appA appB",
        "add-network-policy appA --destination-app appB",
        "add-network-policy appA --destination-app appB --protocol udp --port 53",
        "add-network-policy appA appB --protocol tcp --port 8000-8010",
        "remove-network-policy appA --destination-app appB --protocol tcp --port 8080",
        "network-policies",
        "network-policies --source appA",
        "completion bash",
        "version",
        "help",
        "help allow",
        "--api https://a:1,https://b:1 --token-file /t --ca /c --socket /s -q --no-headers --color never list",
        "list --api https://a:1 -o jsonl",
    ] {
        accepted(line);
    }
}

#[test]
fn what_is_refused_is_refused_by_name_and_value() {
    for (line, parts) in [
        ("allow appA world", &["world", "not supported by this version"][..]),
        ("allow group: appB", &["group:", "is empty"]),
        ("allow ANY appB", &["ANY", "write `any`"]),
        ("allow appA cidr:10.0.0.0/8", &["cidr:10.0.0.0/8", "not supported"]),
        ("allow -bad appB", &["-b"]),
        ("allow appA app_", &["app_", "letter or digit"]),
        ("allow appA appB --port 70000", &["--port", "70000", "1 to 65535"]),
        ("allow appA appB --port 0", &["--port", "`0`"]),
        ("allow appA appB --port 8010-8000", &["8010-8000", "backwards", "8000-8010"]),
        ("allow appA appB --port 80,", &["--port", "80,"]),
        ("allow appA appB --port http", &["--port", "http"]),
        ("allow appA appB --protocol tpc", &["tpc", "`tcp`"]),
        ("allow appA appB --mode dry", &["--mode", "dry", "`enforce` or `audit`"]),
        ("allow appA appB --ttl 2", &["--ttl", "`2`", "2h"]),
        ("allow appA appB --ttl 0s", &["--ttl", "0s"]),
        ("allow appA appB --on-deny drop", &["--on-deny"]),
        ("deny appA appB --on-deny reject", &["--on-deny", "reject", "`reset` or `drop`"]),
        ("isolate", &["APP[/N]"]),
        ("isolate web/x", &["web/x", "web/0"]),
        ("isolate any", &["any", "reserved"]),
        ("isolate web --ttl soon", &["--ttl", "soon"]),
        ("app set appA", &["--mode", "--group"]),
        ("app set appA --mode off", &["--mode", "off", "`enforce` or `audit`"]),
        ("app set appA --group a --add-group b", &["--group", "--add-group"]),
        ("app set appA --add-group a/b", &["--add-group", "a/b"]),
        ("list --unused 30", &["--unused", "`30`", "7d"]),
        ("allow appA appB --wait=5", &["--wait", "`5`", "5s"]),
        ("allow appA appB --wait 5s", &["5s"]),
        ("allow appA appB --wait --dry-run", &["--dry-run", "--wait"]),
        ("allow appA", &["<DST>"]),
        ("allow appA appB appC", &["appC"]),
        ("allow appA appB --no-such", &["--no-such"]),
        ("allow appA appB --watch", &["--watch"]),
        ("revoke r12 --port 80", &["DST"]),
        ("revoke r12 --all", &["DST"]),
        ("revoke appA appB --all --port 80", &["--all", "--port"]),
        ("revoke appA appB --action audit", &["--action", "audit", "allow", "deny"]),
        ("check appA appB --port 80,443", &["--port", "80,443", "more than one"]),
        ("lookup webserver", &["webserver", "10.255.1.2"]),
        ("lookup 10.255.1.2/24", &["10.255.1.2/24"]),
        ("lookup 10.255.1.2 --at yesterday", &["--at", "`yesterday`", "2h"]),
        ("instances no/name", &["no/name"]),
        ("attach --app appA", &["--netns"]),
        ("attach --app any --netns x", &["any", "reserved"]),
        ("attach --app appA --netns x --label novalue", &["novalue", "KEY=VALUE"]),
        ("attach --app appA --netns x --instance -1", &["-1"]),
        ("run --app appA", &["CMD"]),
        ("run --app appA sleep 5", &["sleep"]),
        ("add-network-policy appA", &["DESTINATION_APP"]),
        ("add-network-policy appA appB --destination-app appB", &["--destination-app"]),
        ("add-network-policy appA appB --protocol icmp", &["icmp", "tcp or udp"]),
        ("add-network-policy host appB", &["host", "reserved"]),
        ("completion tcsh", &["tcsh", "bash"]),
        ("list -o xml", &["xml", "jsonl"]),
        ("list --token a", &["--token"]),
        ("can-i eat appA appB", &["eat", "allow", "revoke"]),
        ("team set shop", &["--app"]),
        ("team set shop --app shop/x", &["--app", "shop/x", "web-*"]),
        ("token create alice", &["--role"]),
        ("token create alice --role root", &["--role", "root", "writer:TEAM"]),
        ("accept r1", &["r1", "q12"]),
        ("observe --reason no-rul", &["--reason", "no-rul", "similar", "'no-rule'"]),
        ("observe --reason sunshine", &["--reason", "sunshine", "no-rule", "mtu-too-small"]),
        ("observe --kind dropped", &["--kind", "dropped", "would-deny"]),
        ("observe --app world", &["--app", "world", "not supported"]),
        ("observe --last few", &["--last", "few"]),
        ("observe -w", &["-w"]),
        ("allwo a b", &["allwo", "allow"]),
    ] {
        let said = refused(line);
        for part in parts {
            assert!(said.contains(part), "`{line}` does not mention `{part}`:\n{said}");
        }
    }
}

#[test]
fn a_long_name_is_refused_without_repeating_all_of_it() {
    let long = "x".repeat(300);
    let said = refused(&format!("allow {long} appB"));
    assert!(said.contains("too long") && said.contains("63"), "{said}");
}

#[test]
fn ports_of_several_flags_are_one_set() {
    let Command::Allow(args) = accepted("allow a b --port 8005-8010 --port 80,8000-8004 -p 80") else {
        panic!("not allow")
    };
    assert_eq!(args.traffic.ports().expect("ports").to_string(), "80,8000-8010");
    let Command::Allow(args) = accepted("allow a b") else { panic!("not allow") };
    assert_eq!(args.traffic.ports().expect("ports"), Ports::All);
    assert_eq!(args.traffic.protocol, Protocol::Tcp);
}

#[test]
fn a_port_where_there_is_none_is_a_usage_error() {
    let Command::Allow(args) = accepted("allow a b --protocol icmp --port 8") else { panic!("not allow") };
    let failure = args.traffic.ports().expect_err("icmp");
    assert_eq!(failure.exit(), Exit::Usage);
    assert!(failure.to_string().contains("--port"), "{failure}");
    let Command::Check(args) = accepted("check a b --protocol icmp --port 8") else { panic!("not check") };
    assert_eq!(args.validate().expect_err("icmp").exit(), Exit::Usage);
}

#[track_caller]
fn target(line: &str) -> RevokeTarget {
    let Command::Revoke(args) = accepted(line) else { panic!("not revoke") };
    args.target().expect("a target")
}

#[test]
fn the_three_forms_of_revoke_are_told_apart() {
    let selector = |text: &str| text.parse().expect("a selector");
    assert_eq!(target("revoke r12"), RevokeTarget::Rule(RuleId(12)));
    assert_eq!(target("revoke a b --all"), RevokeTarget::Pair { source: selector("a"), destination: selector("b") });
    assert_eq!(
        target("revoke r12 b --port 80 --action deny"),
        RevokeTarget::Exact {
            source: selector("r12"),
            destination: selector("b"),
            protocol: Protocol::Tcp,
            ports: "80".parse().expect("ports"),
            action: Some(Action::Deny),
        }
    );
}

#[test]
fn a_single_word_that_is_no_rule_id_is_explained() {
    let Command::Revoke(args) = accepted("revoke appA") else { panic!("not revoke") };
    let failure = args.target().expect_err("no id");
    assert_eq!(failure.exit(), Exit::Usage);
    let text = failure.to_string();
    assert!(text.contains("r12") && text.contains("revoke appA DST"), "{text}");
}

#[test]
fn waiting_is_five_seconds_unless_told_otherwise() {
    let patience = |line: &str| match accepted(line) {
        Command::Allow(args) => args.wait.wait.map(|patience| patience.0.as_millis()),
        other => panic!("{other:?}"),
    };
    assert_eq!(patience("allow a b"), None);
    assert_eq!(patience("allow a b --wait"), Some(5_000));
    assert_eq!(patience("allow a b --wait=250ms"), Some(250));
}

#[test]
fn cf_spellings_have_cfs_defaults() {
    for line in ["add-network-policy a b", "add-network-policy a --destination-app b"] {
        let Command::AddNetworkPolicy(args) = accepted(line) else { panic!("not cf") };
        let (source, destination) = args.pair().expect("a pair");
        let traffic = args.traffic();
        assert_eq!((source.to_string(), destination.to_string()), ("a".into(), "b".into()));
        assert_eq!((traffic.protocol, traffic.ports().expect("ports").to_string()), (Protocol::Tcp, "8080".into()));
    }
}

#[test]
fn the_command_under_run_keeps_its_own_flags() {
    let Command::Run(args) = accepted("run --app a -- sh -c true --wait") else { panic!("not run") };
    assert_eq!(args.command, ["sh", "-c", "true", "--wait"]);
}

#[test]
fn the_top_help_names_every_command_and_every_command_has_examples() {
    let top = Cli::command().render_help().to_string();
    for command in Cli::command().get_subcommands() {
        let name = command.get_name();
        assert!(top.contains(name), "`{name}` is not in the top help:\n{top}");
        let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(examples.contains("Examples:") && examples.contains("netpol"), "`{name}` has no examples");
    }
}

#[test]
fn the_connection_topic_names_every_flag_that_short_help_hides() {
    for flag in Cli::command().get_arguments().filter(|flag| flag.is_hide_short_help_set()) {
        let long = flag.get_long().expect("a flag");
        assert!(help::CONNECTION.contains(&format!("--{long} ")), "--{long} is explained nowhere");
        let variable = format!("NETPOL_{}", long.replace('-', "_").to_uppercase());
        assert!(help::CONNECTION.contains(&variable), "{variable} is explained nowhere");
    }
}

#[test]
fn the_definitions_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn the_examples_of_the_help_can_be_typed() {
    for command in Cli::command().get_subcommands() {
        let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let examples = text.lines().filter_map(|line| line.strip_prefix("  netpol "));
        for example in examples.map(typed).filter(|example| !example.is_empty()) {
            accepted(&example);
        }
    }
}

/// The part of an example that is the command: without a remark behind it, and without the shell's own.
fn typed(example: &str) -> String {
    let command = example.split("  ").next().unwrap_or_default();
    let command = command.split(" > ").next().unwrap_or_default();
    let command = command.split(" | ").next().unwrap_or_default();
    command.split(" && ").next().unwrap_or_default().replace('\'', "")
}
