//! Texts of the help: the grouped list of commands, and examples for each.

/// The top help. clap cannot group commands, so the list stands here; a test compares it with the real commands.
pub(crate) const TOP: &str = "\
{about}

Usage: netpol [OPTIONS] COMMAND

Policy
  allow       Let one app reach another
  deny        Forbid it, whatever else allows it
  revoke      Remove a rule; live flows stop
  list        Show the rules, and what each is used for
  isolate     Cut an app or an instance off from everybody
  release     End that
  isolations  Who is isolated
  app         Set an app's mode and groups, or delete it

Policy as files
  apply       Make what files say stand, all or nothing
  diff        What stands otherwise than files say
  export      Write what stands as a file
  rollback    Make the rules as they were at a revision

Who may
  login       Prove a token, and keep it for later commands
  whoami      Who am I, and in which roles?
  can-i       May I write this rule, or remove it?
  requests    Rules that one team asks another for
  accept      Make such a rule stand
  reject      Reject a request, or withdraw your own
  teams       Teams, and what they own
  team        Say what a team owns, or delete it
  token       Make, show and revoke tokens
  identity-token  Prove who you are to what a gatekeeper guards

Ask
  check       Would this connection be allowed, and by which rule?
  can         May they do this on a resource, and by which role?
  who-can     Who may do this on a resource?
  permissions Who may do what on which resource
  lookup      Which instance has this address, or had it then? (also: who)
  history     Who changed what, when, from where and why

See
  apps        Apps, their identity, mode and groups
  instances   Running instances
  nodes       Nodes, and how far each has come
  node        Drain a node, or remove one that is off
  status      The API, and this node's agent
  observe     Which flows began, ended, were denied or cut on this node, and why

On a node
  attach      Give a network namespace an endpoint
  detach      Take it away
  run         Run a command as an instance of an app

As cf spells it
  add-network-policy, remove-network-policy, network-policies

More
  completion, version, help

Options
{options}{after-help}";

pub(crate) const TOP_EXAMPLES: &str = "\
Examples:
  netpol allow appA appB --port 8080 --wait
  netpol check appA appB --port 8080
  netpol revoke appA appB --port 8080

netpol help COMMAND      flags and examples
netpol help connection   how to reach the API: flags, variables, config file
Exit codes: 0 yes or done, 1 no, 2 usage, 3 not permitted, 4 unreachable, 5 timed out, 6 conflict.";

pub(crate) const ALLOW: &str = "\
Examples:
  netpol allow appA appB --port 8080
  netpol allow appA appB --port 8080 --wait            wait until every node enforces it
  netpol allow appA appB --port 80,443 --port 8000-8010 --reason CHG-118
  netpol allow appA appB --protocol icmp               ping
  netpol allow appA appB                               every tcp port
  netpol allow group:front appB --protocol any         every app in the group, every protocol
  netpol allow any appB --port 9090 --ttl 2h           every app; ends by itself
  netpol allow appA appB --port 22 --mode audit        only report what it would allow
  netpol allow host appB --port 8080                   health checks from the node itself

Who writes for one end's team only asks the other by it: exit code 1, and nothing stands until they accept.

An app or group that no rule has named before is created. Allowing twice is the same as once: mode and
end are as said last, a reason stays until another is given. Replies need no rule. Undo: the line that
the command prints.";

pub(crate) const DENY: &str = "\
Examples:
  netpol deny appA appB --port 22
  netpol deny appA appB --wait --reason INC-77
  netpol deny any appB --port 22 --mode audit          only report what it would deny
  netpol deny appA appB --on-deny drop                 the sender is told nothing

Everything is denied unless a rule allows it; a deny is for what no allow may open. It stops live
flows too, and prints how many each node cut.";

pub(crate) const REVOKE_USAGE: &str = "\
netpol revoke SRC DST [--port PORT]... [--protocol PROTOCOL] [--action ACTION]
       netpol revoke RULE-ID
       netpol revoke SRC DST --all";

pub(crate) const REVOKE: &str = "\
Examples:
  netpol revoke appA appB --port 8080                  the rule with exactly these ports
  netpol revoke appA appB --port 8080 --action deny    where an allow and a deny both stand
  netpol revoke r12 --wait
  netpol revoke appA appB --all                        every rule from appA to appB

Live flows that nothing else allows stop; prints how many each node cut, and what still allows the pair,
groups and `any` included. Never removes a part of a rule. Exit code 1: there is no such rule (the nearest is named);
6: an allow and a deny both fit (both are named).";

pub(crate) const LIST: &str = "\
Examples:
  netpol list
  netpol list --app appB               rules that name appB on either side
  netpol list --source appA -o json
  netpol list --source group:front
  netpol list --unused 30d             rules that nothing has needed for 30 days
  netpol list --at 7d                  as it was a week ago; also a revision, or a time
  netpol list -w                       print again on every change";

pub(crate) const HISTORY: &str = "\
Examples:
  netpol history                             the last 50 entries, newest first
  netpol history --app appA --since 7d       what was changed of appA in the last week
  netpol history --rule r12 -o wide          the life of a rule, with requests and seals
  netpol history 1207                        all that is known of one revision: also by when each node had it in force
  netpol history --kind refused              what somebody had no right to
  netpol history --kind all --limit 0 -o jsonl
  netpol history -w                          print what comes, until Ctrl-C
  netpol history verify                      prove that it is what was written

IN-FORCE is when every registered node had the change in force. Containers that begin and end are
of kind placement, and shown where they are asked for. What stood then: netpol list --at REVISION";

pub(crate) const HISTORY_VERIFY: &str = "\
Examples:
  netpol history verify
  netpol history verify --known 1207:5d41…   also hold it against what an earlier verify printed

Each entry is sealed over the one before it. Whoever can write to the store could seal all of it anew,
but not so that it has the seal that you keep elsewhere. Exit code 1: it does not fit, and the first
entry that does not is named.";

pub(crate) const ISOLATE: &str = "\
Examples:
  netpol isolate appA                  every instance, also those to come
  netpol isolate appA/0 --ttl 2h --reason INC-77
  netpol isolate appA --dry-run

Nothing passes, in no direction, not even health checks from the node; live flows are cut, and the command
prints how many each node cut. Undo: netpol release.";

pub(crate) const RELEASE: &str = "\
Examples:
  netpol release appA
  netpol release appA/0 --wait

Ends exactly the isolation that is named: releasing an app does not release an instance that was isolated by
itself, nor the other way. Exit code 1: it was not isolated.";

pub(crate) const ISOLATIONS: &str = "\
Examples:
  netpol isolations
  netpol isolations -o name";

pub(crate) const APP: &str = "\
Examples:
  netpol app set appA --group front --group eu
  netpol app set appA --mode audit
  netpol app delete appA";

pub(crate) const APP_SET: &str = "\
Examples:
  netpol app set appA --mode audit     deny nothing at its own end, and report what would be denied
  netpol app set appA --mode enforce
  netpol app set appA --group front --group eu
  netpol app set appA --add-group blue --remove-group green
  netpol app set appA --group ''       in no group

An app can be in 8 groups. A flow that is denied passes only if the apps at both its ends are in audit.";

pub(crate) const APP_DELETE: &str = "\
Examples:
  netpol app delete appA

Exit code 6: it has running instances, or rules name it.";

pub(crate) const APPLY: &str = "\
Examples:
  netpol export > policy.yaml
  netpol apply -f policy.yaml --dry-run      what would change, and how many live flows that touches
  netpol apply -f policy.yaml --wait
  netpol apply -f policy/ --prune            and rules that no file has go
  netpol apply -f web.yaml --prune --app web

  # policy.yaml
  apps:
    - {name: web, mode: enforce, groups: [front]}
  rules:
    - {source: group:front, destination: db, ports: [5432], action: allow, reason: CHG-118}
    - {source: any, destination: db, ports: [22], action: deny, on_deny: drop, mode: audit}
    - {source: ops, destination: db, ports: [22], action: allow, ttl: 2h}
  layers:
    - {name: ci, members: [host:ci-1, host:ci-2]}
  roles:
    - {name: production/release-bot/publisher, members: [layer:ci]}
  resources:
    - id: production/release-bot
      permissions:
        - {role: production/release-bot/publisher, privileges: [read, create]}

What files say is made to stand in one revision, or nothing is changed. A rule of a file is whole:
what it leaves out is as by default. Of an app, what is left out stays. Applying twice is the same
as once: a rule with `ttl` that stands is not made longer, and one whose `expires_at` is past is
passed over. The built-in rule is never pruned, and isolations are no part of files.

Members: app:NAME, host:NAME (a token of role machine), user:NAME; in roles also layer:NAME and role:NAME. A layer, role or
resource of a file is whole: who is left out is out of it. --prune takes away those that no file has, of the kinds of which
some file speaks; `roles: []` speaks of roles. `netpol rollback` brings back rules, not roles.

A dry run counts flows that live by rules that would change or go, or that a new deny may hit, as
nodes counted them in the last ten seconds. Those that something else allows would go on.";

pub(crate) const DIFF: &str = "\
Examples:
  netpol diff -f policy.yaml
  netpol diff -f policy/ --prune             also rules that no file has
  netpol diff -f web.yaml -f db.yaml

Lines begin with + for what would be made, ~ for what would be changed and - for what would go.
Exit code 0: what stands is what the files say; 1: something differs.";

pub(crate) const EXPORT: &str = "\
Examples:
  netpol export > policy.yaml
  netpol export --app web
  netpol export -o json

All rules, the built-in one too, by source and destination; apps that rules name or that are set
otherwise than a new app is; groups. The same policy is the same text. Isolations are not in it.";

pub(crate) const ROLLBACK: &str = "\
Examples:
  netpol rollback 1207 --dry-run
  netpol rollback 1207 --wait
  netpol rollback 2026-01-31T12:00:00Z

Rules that came since go, rules that went come again under new ids, and rules and apps that were set
otherwise are set back: in one new revision, so that it can be undone. Rules whose end is past stay
gone.";

pub(crate) const CHECK: &str = "\
Examples:
  netpol check appA appB --port 8080
  netpol check appA appB --port 8080 -q && echo open
  netpol check appA appB --protocol icmp
  netpol check any appB --protocol any
  netpol check appA appB --port 8080 --at 2026-01-31T12:00:00Z   would it have been allowed then?

Answers by what happens on the wire; where audited rules or apps would change that, a second line says how.
Without --port the answer is for all ports, if it is the same for all of them; `any` and group:NAME are
answered if every app they stand for, now or later, fares the same.";

pub(crate) const LOOKUP: &str = "\
Examples:
  netpol lookup 10.255.1.2
  netpol who 10.255.1.2:41922
  netpol lookup '[fd00::2]:8080' -o json
  netpol lookup 10.255.1.2 --at 2026-01-31T12:00:00Z   who had it then
  netpol lookup 10.255.1.2 --at 7d                     who had it a week ago

Exit code 1: nobody has this address, or had it then; who had it before and after is said.";

pub(crate) const APPS: &str = "\
Examples:
  netpol apps
  netpol apps -o name";

pub(crate) const INSTANCES: &str = "\
Examples:
  netpol instances
  netpol instances appB -o wide
  netpol instances -w";

pub(crate) const NODES: &str = "\
Examples:
  netpol nodes
  netpol nodes -o wide";

pub(crate) const NODE: &str = "\
Examples:
  netpol node drain n1
  netpol node remove n1";

pub(crate) const NODE_DRAIN: &str = "\
Examples:
  netpol node drain n1
  netpol node drain n1 --dry-run

What runs there goes on and keeps its addresses, also over restarts of the agent. Undo: netpol node undrain.";

pub(crate) const NODE_UNDRAIN: &str = "\
Examples:
  netpol node undrain n1";

pub(crate) const NODE_REMOVE: &str = "\
Examples:
  netpol node remove n1 --dry-run      what is live there
  netpol node remove n1

Who says so says that the machine is off, or soon will be: nobody can ask it. To everybody else its
instances are gone at once, and no identity token that they have is good any more. Its name, its
address on the underlay and its slices are free again; slices are given out again only when no node
can still remember who had their addresses.";

pub(crate) const STATUS: &str = "\
Examples:
  netpol status
  netpol status -o json";

pub(crate) const OBSERVE: &str = "\
Examples:
  netpol observe                                       what the agent has kept, oldest first
  netpol observe -f --kind denied,cut                  and go on, until Ctrl-C
  netpol observe -f --kind would-deny,would-allow      what audited rules and apps would change
  netpol observe -f --last 0 --app appB                only what happens from now on
  netpol observe --source appA --destination appB --reason no-rule
  netpol observe -f -o jsonl                           one line of JSON per event

Works on a node, as root: it speaks to the agent's socket. A denial shows its reason, and the deny
rule if that is one; a flow shows the rule that allows it, and what it carried when it is over or cut.
What is only audited names the rule that would decide otherwise. Times are UTC.";

pub(crate) const ATTACH: &str = "\
Examples:
  netpol attach --app appA --netns /run/netns/box
  netpol attach --app appA --netns box --instance 3 --label version=1.4
  netpol attach --app appA --netns /proc/4711/ns/net

Works on a node, as root: it speaks to the agent's socket.";

pub(crate) const DETACH: &str = "\
Examples:
  netpol detach --netns /run/netns/box";

pub(crate) const RUN: &str = "\
Examples:
  netpol run --app appB -- python3 -m http.server 8080
  netpol run --app appA -- curl http://10.255.1.2:8080

The endpoint goes when the command ends. Signals are passed on. Exit code: the command's own,
128+N if signal N ended it, 127 if there is no such command, 126 if it cannot be started,
125 if netpol itself failed.";

pub(crate) const LOGIN: &str = "\
Examples:
  netpol login alice.token
  netpol login                         reads it from standard input; a terminal does not show it

Keeps the token in ~/.config/netpol/token, which only you can read. A token of an OpenID provider is one too.
--token-file, NETPOL_TOKEN_FILE, NETPOL_TOKEN and a token-file of the config file go before it.";

pub(crate) const WHOAMI: &str = "\
Examples:
  netpol whoami
  netpol whoami -o json";

pub(crate) const CAN_I: &str = "\
Examples:
  netpol can-i allow shop-web shop-db --port 5432
  netpol can-i deny any shop-db
  netpol can-i revoke shop-web pay-db --port 443
  netpol can-i allow shop-web pay-db -q && echo mine to open

Does nothing. A no says why, and which role would do.";

pub(crate) const CAN: &str = "\
Examples:
  netpol can host:ci-1 create production/release-bot
  netpol can app:web read production/release-bot --at 7d
  netpol can production/release-bot/publisher delete production/release-bot     whoever is in this role
  netpol can user:olga delete production/release-bot -q && echo she may

A yes says by which role, and how they come to it; a no says what they may, and which roles would do. Roles, layers and
resources are written by files: netpol help apply.";

pub(crate) const WHO_CAN: &str = "\
Examples:
  netpol who-can create production/release-bot
  netpol who-can delete production/release-bot --at 2026-01-31T12:00:00Z
  netpol who-can delete production/release-bot -o name

BY is how they come to the role that may, the shortest way. Exit code 1: nobody.";

pub(crate) const PERMISSIONS: &str = "\
Examples:
  netpol permissions
  netpol permissions --resource production/release-bot -o wide     also by which roles
  netpol permissions --subject host:ci-1
  netpol permissions --at 30d -o json                              as it was a month ago
  netpol permissions -w";

pub(crate) const REQUESTS: &str = "\
Examples:
  netpol requests
  netpol requests -w

A writer who has one end of a rule only asks for it by `netpol allow`. Whoever writes for the other end's team
accepts or rejects it, or an operator; nobody's answer ends it after a week.";

pub(crate) const ACCEPT: &str = "\
Examples:
  netpol accept q12 --dry-run
  netpol accept q12";

pub(crate) const REJECT: &str = "\
Examples:
  netpol reject q12";

pub(crate) const TEAMS: &str = "\
Examples:
  netpol teams
  netpol teams -o wide";

pub(crate) const TEAM: &str = "\
Examples:
  netpol team set shop --app shop-*
  netpol team delete shop";

pub(crate) const TEAM_SET: &str = "\
Examples:
  netpol team set shop --app shop-*
  netpol team set shop --app shop-* --app cart --group shop-* --most-rules 200
  netpol team set shop --app shop-* --resource shop    writers say who may what on shop/…, and who is in roles shop/…

No app and no group is ever two teams'. A writer of the team opens what is between its apps, and asks for what is
between one of them and another team's. Takes the role admin.";

pub(crate) const TEAM_DELETE: &str = "\
Examples:
  netpol team delete shop

Exit code 6: it has rules or tokens.";

pub(crate) const TOKEN: &str = "\
Examples:
  netpol token create alice --role writer:shop --out alice.token
  netpol token list
  netpol token revoke alice";

pub(crate) const TOKEN_CREATE: &str = "\
Examples:
  netpol token create alice --role writer:shop --out alice.token
  netpol token create ci --role wide:shop --ttl 90d > ci.token
  netpol token create root --role admin
  netpol token create ci-1 --role machine --ttl 90d --out ci-1.token

Roles: admin everything; operator all of policy and the nodes; auditor reads; writer:TEAM writes rules of the team's
apps; wide:TEAM names groups, any and host in them too. machine asks for identity tokens as host:NAME, gate follows what
a gatekeeper has to know: neither reads nor writes policy, and neither has another role beside it. The token is made here, and the API is told its hash alone:
nobody can show it again.";

pub(crate) const TOKEN_LIST: &str = "\
Examples:
  netpol token list
  netpol token list -o wide

LAST-USED is what the API that answers knows since it started: the column KNOWN-SINCE of -o wide.";

pub(crate) const TOKEN_REVOKE: &str = "\
Examples:
  netpol token revoke alice

At once and at every API; watches that it opened end, and what it asked for is asked no more. Rules stay.";

pub(crate) const IDENTITY_TOKEN: &str = "\
Examples:
  netpol identity-token release-bot | sed 's/^/Authorization: Bearer /' | curl -H @- https://release-bot.example.org/
  netpol identity-token production/release-bot --ttl 30m -o json
  netpol identity-token revoke host:ci-1

Of a user it is for user:NAME, of a token of role machine for host:NAME. What may be done with it, the roles of policy
files say. It ends by itself, and with the API token that it was asked for with. Instances need none of this: their
node's agent asks for them.";

pub(crate) const IDENTITY_TOKEN_REVOKE: &str = "\
Examples:
  netpol identity-token revoke host:ci-1
  netpol identity-token revoke node:n1                             all that its instances have
  netpol identity-token revoke 3f2a9c0d11e7b8653f2a9c0d11e7b865

Gatekeepers know within a moment, and cut what is open by it. New ones can be asked for: to end that, revoke the API
token. One's own may anybody revoke, others operators.";

pub(crate) const CF_ADD: &str = "\
Examples:
  netpol add-network-policy appA appB
  netpol add-network-policy appA --destination-app appB --protocol tcp --port 8080

Same as: netpol allow appA appB --protocol tcp --port 8080";

pub(crate) const CF_REMOVE: &str = "\
Examples:
  netpol remove-network-policy appA appB
  netpol remove-network-policy appA --destination-app appB --protocol tcp --port 8080

Same as: netpol revoke appA appB --protocol tcp --port 8080 --action allow";

pub(crate) const CF_LIST: &str = "\
Examples:
  netpol network-policies
  netpol network-policies --source appA

Same as: netpol list --source appA";

pub(crate) const COMPLETION: &str = "\
Examples:
  source <(netpol completion bash)
  netpol completion zsh > ~/.zfunc/_netpol
  netpol completion fish > ~/.config/fish/completions/netpol.fish";

pub(crate) const VERSION: &str = "\
Examples:
  netpol version
  netpol version -o json";

pub(crate) const HELP: &str = "\
Examples:
  netpol help allow
  netpol help connection";

/// The topic that no command is.
pub(crate) const CONNECTION_TOPIC: &str = "connection";

pub(crate) const CONNECTION: &str = "\
How netpol reaches the policy API, and on a node the agent

  Flag               Variable           Default
  --api URL,...      NETPOL_API         https://127.0.0.1:7443
  --ca FILE          NETPOL_CA          /etc/netpol/ca.pem
  --token-file FILE  NETPOL_TOKEN_FILE  what `netpol login` kept, else /etc/netpol/operator.token
                     NETPOL_TOKEN       (the token itself)
  --config FILE      NETPOL_CONFIG      /etc/netpol/cli.toml
  --context NAME     NETPOL_CONTEXT     `context` of the config file
  --socket PATH      NETPOL_SOCKET      /run/netpol/agent.sock

A flag beats a variable beats the config file. No flag takes a token itself: other users of the machine could
see it. Of several addresses the first that answers is used. `netpol-api init` writes CA and token.
NETPOL_OUTPUT sets the default of --output.

The config file holds the same names, once for all and once per context:

  ca = \"/etc/netpol/ca.pem\"
  context = \"lab\"

  [contexts.lab]
  api = [\"https://10.0.0.1:7443\"]
  token-file = \"/etc/netpol/lab.token\"

  [contexts.prod]
  api = [\"https://10.1.0.1:7443\", \"https://10.1.0.2:7443\"]
  ca = \"/etc/netpol/prod-ca.pem\"
  token-file = \"/etc/netpol/prod.token\"
  output = \"wide\"
  color = \"never\"
";
