//! What needs neither API nor agent: help, completions, settings, closed pipes, and input refused before it is sent.

mod support;

use support::Shell;

#[test]
fn help_goes_to_stdout_and_a_usage_error_to_stderr() {
    let shell = Shell::new();
    shell.netpol("--help").exits(0).prints("Usage: netpol").prints("help connection");
    shell.netpol("help").exits(0).prints("Usage: netpol");
    shell.netpol("help connection").exits(0).prints("NETPOL_TOKEN_FILE");
    shell.netpol("help alow").exits(2).tells("did you mean `allow`?");
    shell.netpol("help allow").exits(0).prints("Examples:");
    let said = shell.netpol("allow").exits(2).tells("<SRC>");
    assert_eq!(said.stdout, "");
    shell.netpol("").exits(2).tells("Usage: netpol");
    shell.netpol("version").exits(0).prints("netpol 0.");
    assert_eq!(shell.netpol("version -o json").exits(0).json()["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn completions_know_the_commands() {
    let shell = Shell::new();
    for name in ["bash", "zsh", "fish"] {
        shell.netpol(&format!("completion {name}")).exits(0).prints("revoke").prints("network-policies");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let shell = Shell::new();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = shell.command().args(["completion", "zsh"]).stdout(writer).output().expect("netpol starts");
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

#[test]
fn bad_input_is_refused_before_a_connection_is_tried() {
    // There is neither a token nor an API here, so anything but a usage error would mean that one was looked for.
    let shell = Shell::new();
    for (line, part) in [
        ("allow appA appB --port 70000", "70000"),
        ("allow host host --port 80", "destination"),
        ("allow appA appB --protocol icmp --port 8", "--port"),
        ("check host host --port 80", "destination"),
        ("check appA appB --protocol icmp --port 8", "--port"),
        ("revoke appA", "rule id"),
        ("revoke world appB", "world"),
        ("revoke appA appB --protocol icmp --port 8", "--port"),
    ] {
        shell.netpol(line).exits(2).tells(part);
    }
}

#[test]
fn missing_or_wrong_settings_are_named() {
    let mut shell = Shell::new();
    shell.set("NETPOL_CA", "/no/such/ca.pem");
    shell.netpol("list").exits(2).tells("/no/such/ca.pem").tells("--ca");
    shell.netpol("list --api http://127.0.0.1:1").exits(2).tells("--api").tells("http://127.0.0.1:1");
    shell.netpol("list --config /no/such/file").exits(2).tells("--config").tells("/no/such/file");
    shell.netpol("list --context lab").exits(2).tells("lab");
    shell.set("NETPOL_OUTPUT", "xml");
    shell.netpol("list").exits(2).tells("NETPOL_OUTPUT").tells("xml");
}

#[test]
fn a_token_in_the_wrong_place_is_not_shown() {
    let shell = Shell::new();
    let config = shell.path("cli.toml");
    std::fs::write(&config, "output = \"wide\"\ntoken = \"hunter2\"\n").expect("a file");
    let said = shell.netpol(&format!("list --config {}", config.display())).exits(2).tells("line 2").tells("`token`");
    assert!(!said.stderr.contains("hunter2"), "{}", said.stderr);
    // What is typed can be seen by every user of the machine: it is not taken.
    shell.run(["list", "--token", "hunter2"]).exits(2).tells("--token");
}
