//! The help texts, each with examples.

use crate::command::Topic;

pub(crate) const OVERVIEW: &str = "\
cargo xtask COMMAND

  demo             two nodes on this machine, the real binaries, the whole story told step by step
  test [FILTER]    every test there is, or those that FILTER names
  api              asks a real policy API all that its description allows, and much that it does not
  lint [--deps]    formatting and clippy; with --deps also licences, sources and bans of every dependency
  setup            installs what is missing to build and run; the other commands do this by themselves
  bench NAME...    measures, prints a table and writes target/bench/NAME.json
  soak NAME        runs one test file or test at its long setting
  help [COMMAND]   more about one of them

On a fresh machine: cargo xtask demo, then cargo xtask test. Both need root, and leave nothing behind.";

const SETUP: &str = "\
cargo xtask setup

Installs what is missing and nothing else: rust-src for the pinned toolchain, a bpf-linker built against
that toolchain's own LLVM (in .tools/, about a minute), and Debian packages for the test networks.
At once when nothing is missing. Run it again after moving the checkout or changing the toolchain.

  cargo xtask setup";

const LINT: &str = "\
cargo xtask lint [--deps]

Checks formatting and clippy (warnings are errors) for the workspace and for the eBPF programs.
--deps also installs cargo-deny into .tools/ (minutes, once) and checks deny.toml: licences, sources, bans.

  cargo xtask lint
  cargo xtask lint --deps";

const TEST: &str = "\
cargo xtask test [FILTER]

Sets up, builds everything once in debug, and runs every test in a sandbox of its own namespaces: networks,
pins and processes vanish with it, also on Ctrl-C or kill -9. The last line reads `N passed, N failed`.
FILTER is the name of a file in tests/tests, or a part of test names. Needs root.

  cargo xtask test
  cargo xtask test story
  cargo xtask test a_revoked_rule_stops";

const API: &str = "\
cargo xtask api

Starts netpol-api over an empty store and has schemathesis make requests from its /openapi.json for a minute and
a quarter: good ones, and ones that the description forbids. Fails where an answer is a 5xx, comes too late, or is
one that the description does not have. The store is left in target/api. Installs schemathesis into .tools/, once.

  cargo xtask api";

const DEMO: &str = "\
cargo xtask demo

Sets up, builds, then makes two nodes with an underlay between them, starts netpol-api and two agents, and
walks through the story: default deny, allow, revoke under live streams, deny over allow. Needs root and
leaves nothing behind, also on Ctrl-C.

  cargo xtask demo";

const BENCH: &str = "\
cargo xtask bench NAME... [--release] [--plot]

Runs the benches in a sandbox, prints their tables and writes target/bench/NAME.json. Programs in the kernel
are always optimised; --release optimises the daemons too (a build of minutes). --plot draws what there is to
draw into docs/. docs/benchmarks.md says what the figures mean.

  datapath     what a packet costs in the programs, in hash look-ups, in five shapes of policy
  path         between two nodes: ours, plain VXLAN, iptables and nftables, at 0 to 10,000 rules
  same-node    the same between two instances of one node
  deny         how soon a refused one knows, and a flood of refusals
  memory       memory of agent and API, and the time to make a million rules (minutes)
  change       from a change of policy until it is in force
  apply        ten thousand rules from a file, beside the one request that takes (--release)

  cargo xtask bench datapath
  cargo xtask bench path same-node --plot";

const SOAK: &str = "\
cargo xtask soak NAME

Runs one test file of tests/tests, or the tests that NAME is part of, at the long setting: more rounds, more
packets. What `cargo xtask test` runs of each takes at most a minute. Built into target/soak, as fast as a release with
the checks of a debug build.

`fuzz` is none of them: it feeds what reads frames, watch lines, requests and files of policy with anything, a
minute each (fuzz/fuzz_targets). Installs cargo-fuzz into .tools/, once. What breaks one is kept in fuzz/artifacts.

  cargo xtask soak forgery
  cargo xtask soak fuzz
  cargo xtask soak lifecycle";

pub(crate) fn text(topic: Topic) -> &'static str {
    match topic {
        Topic::Overview => OVERVIEW,
        Topic::Setup => SETUP,
        Topic::Lint => LINT,
        Topic::Test => TEST,
        Topic::Api => API,
        Topic::Demo => DEMO,
        Topic::Bench => BENCH,
        Topic::Soak => SOAK,
    }
}
