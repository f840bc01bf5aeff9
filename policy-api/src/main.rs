//! `netpol-api`: prepares (`init`) and runs (`serve`) the policy API.

use std::{
    io::{IsTerminal as _, Write as _},
    net::SocketAddr,
    num::NonZeroU32,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use policy_api::{
    challenge::Underlay,
    directory::Found,
    http::Compat,
    init::{Init, NodeWish, TeamWish, TokenWish, init, reseal},
    model::{History, Invalid, KnownSeal, Misfit, Prefix, Verified},
    oidc::{KeySource, ProviderConfig, RoleOf},
    server::{Server, ServerConfig},
    store::{Copied, Location, OverlayWish, Retention, accept, back_up, longest_overlay, restore, verify_store},
};
use tokio::signal::unix::{SignalKind, signal};

/// What the API holds is many small things, made by one thread and given back by another (`docs/benchmarks.md`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The policy API of netpol: what users want, in one order of changes, for every node to enforce.
#[derive(Parser)]
#[command(name = "netpol-api", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes the CA, the store and the tokens; run again to add nodes.
    #[command(after_help = "Examples:\n  \
        netpol-api init --dir /etc/netpol/api --store sqlite:///var/lib/netpol/policy.db --node n1 --node n2\n  \
        netpol-api init --dir /etc/netpol/api --store sqlite:///var/lib/netpol/policy.db --node n3=web-*,cache\n  \
        netpol-api init --dir /etc/netpol/api --store etcd://127.0.0.1:2379 --node n1\n  \
        netpol-api init --node n1 --team shop=shop-* --token alice=writer:shop\n\n\
        Writes ca.pem, ca.key, seal.key, operator.token, join/NAME.token and tokens/NAME.token, each readable by its owner alone. The\n\
        store keeps hashes of the tokens. Teams and tokens of users are made here as long as nobody serves the store, and\n\
        by `netpol team set` and `netpol token create` from then on. Running it again keeps what is there; a token file that was removed is replaced, and the old token\n\
        is void.")]
    Init(InitArgs),
    /// Serves the API over TLS, until SIGTERM or SIGINT.
    #[command(after_help = "Examples:\n  \
        netpol-api serve --dir /etc/netpol/api --store sqlite:///var/lib/netpol/policy.db\n  \
        netpol-api serve --dir /etc/netpol/api --store sqlite:///var/lib/netpol/policy.db --listen 192.168.1.1:7443\n  \
        netpol-api serve --dir /etc/netpol/api --listen 192.168.1.1:7443 \\\n    \
        --store 'etcd://a:2379,b:2379,c:2379/netpol?ca=/etc/netpol/etcd/ca.pem&cert=/etc/netpol/etcd/api.pem&key=/etc/netpol/etcd/api.key'\n\n\
        A store in a file is served by one process. One in etcd is served by as many as you like, each with a copy of --dir:\n\
        name them all in `--api`, and any of them may die. Beyond loopback etcd wants client certificates.\n\n\
        Users of an OpenID provider, beside those with tokens of `netpol token create`:\n  \
        netpol-api serve … --oidc-issuer https://id.example.org --oidc-audience netpol \\\n    \
        --oidc-keys https://id.example.org/jwks.json --oidc-claim groups \\\n    \
        --oidc-role shop-developers=writer:shop --oidc-role on-call=operator")]
    Serve(Box<ServeArgs>),
    /// Copies the store into a file, also while it is served.
    #[command(after_help = "Example:\n  \
        netpol-api backup --store sqlite:///var/lib/netpol/policy.db /var/backups/netpol-2026-01-31.db\n\n\
        The copy is whole as of one revision, and writes go on meanwhile. It holds hashes of tokens\n\
        and no key that opens anything: with a copy of --dir beside it everything can be put back.")]
    Backup(BackupArgs),
    /// Puts a backup in the place of a store.
    #[command(after_help = "Examples:\n  \
        netpol-api restore --store sqlite:///var/lib/netpol/policy.db /var/backups/netpol-2026-01-31.db\n  \
        netpol-api restore --store sqlite:///var/lib/netpol/policy.db --replace /var/backups/netpol-2026-01-31.db\n\n\
        The backup is proven whole first. What it replaces in a file stays until the moment of the change, and nobody may\n\
        serve it; who serves a store in etcd goes on with what was restored. A backup of either can become either.\n\
        The restored store begins a new history, and no old entity tag holds. Agents go on enforcing\n\
        what they have until the new history is accepted, with --accept or later with `accept`.")]
    Restore(RestoreArgs),
    /// Lets agents follow a store that was restored, also while it is served.
    #[command(after_help = "Examples:\n  \
        netpol-api accept --store sqlite:///var/lib/netpol/policy.db\n  \
        netpol-api accept --store sqlite:///var/lib/netpol/policy.db 3f2a9c0d11e7b865\n\n\
        An agent never follows a store of another history by itself: it might be an old copy, without\n\
        the denies that came since. Its status names the history that it follows.")]
    Accept(AcceptArgs),
    /// Makes a new seal key where the one before is lost, or somebody else may have it.
    #[command(after_help = "Example:\n  \
        netpol-api reseal --dir /etc/netpol/api --store sqlite:///var/lib/netpol/policy.db\n\n\
        The store holds the keys that identity tokens are signed with, sealed by seal.key of --dir, so that a backup signs\n\
        nothing. This gives them up: tokens that are out are void, and the next `serve` makes a new key. Nobody may serve the store\n\
        meanwhile; where several do, copy the new seal.key to all of them before they start again.")]
    Reseal(ResealArgs),
    /// Looks at the history beside whoever serves the store, or where nobody does.
    #[command(subcommand)]
    History(HistoryCommand),
}

#[derive(Subcommand)]
enum HistoryCommand {
    /// Proves that the history is what was written; names the first entry that is not.
    #[command(after_help = "Examples:\n  \
        netpol-api history verify --store sqlite:///var/lib/netpol/policy.db\n  \
        netpol-api history verify --store sqlite:///var/backups/netpol-2026-01-31.db --known 1207:5d41…\n\n\
        Of a backup, too. What it prints last, kept where nobody who can write to the store can write, proves more.")]
    Verify(VerifyArgs),
}

#[derive(Args)]
struct VerifyArgs {
    /// Where the store is.
    #[arg(long, value_name = "URL", default_value = "sqlite:///var/lib/netpol/policy.db")]
    store: Location,
    /// What an earlier `verify` printed: the number of an entry and its seal.
    #[arg(long, value_name = "NUMBER:SEAL")]
    known: Option<KnownSeal>,
}

#[derive(Args)]
struct ResealArgs {
    /// Directory of the CA and the tokens.
    #[arg(long, value_name = "DIR", default_value = "/etc/netpol/api")]
    dir: PathBuf,
    /// Where the store is.
    #[arg(long, value_name = "URL", default_value = "sqlite:///var/lib/netpol/policy.db")]
    store: Location,
}

#[derive(Args)]
struct AcceptArgs {
    /// Where the store is.
    #[arg(long, value_name = "URL", default_value = "sqlite:///var/lib/netpol/policy.db")]
    store: Location,
    /// What agents follow [default: what the restored store was before].
    #[arg(value_name = "HISTORY")]
    histories: Vec<History>,
}

#[derive(Args)]
struct BackupArgs {
    /// Where the store is.
    #[arg(long, value_name = "URL", default_value = "sqlite:///var/lib/netpol/policy.db")]
    store: Location,
    /// A file that does not exist yet.
    #[arg(value_name = "FILE")]
    to: PathBuf,
}

#[derive(Args)]
struct RestoreArgs {
    /// Where the store is to be.
    #[arg(long, value_name = "URL", default_value = "sqlite:///var/lib/netpol/policy.db")]
    store: Location,
    /// Give up the store that is there.
    #[arg(long)]
    replace: bool,
    /// Let agents follow it at once.
    #[arg(long)]
    accept: bool,
    /// The backup.
    #[arg(value_name = "FILE")]
    from: PathBuf,
}

#[derive(Args)]
struct Place {
    /// Directory of the CA and the tokens.
    #[arg(long, value_name = "DIR", default_value = "/etc/netpol/api")]
    dir: PathBuf,
    /// Where the store is.
    #[arg(long, value_name = "URL", default_value = "sqlite:///var/lib/netpol/policy.db")]
    store: Location,
    /// Another name or address that the server is reached by.
    #[arg(long = "san", value_name = "IP|NAME", value_parser = parse_name)]
    names: Vec<String>,
    /// Address space of instances; fixed once a node has joined [default: 10.255.0.0/16].
    #[arg(long, value_name = "PREFIX", value_parser = parse_overlay_v4)]
    overlay_v4: Option<Prefix>,
    /// The same for IPv6 [default: a random unique local /48].
    #[arg(long, value_name = "PREFIX", value_parser = parse_overlay_v6)]
    overlay_v6: Option<Prefix>,
}

#[derive(Args)]
struct InitArgs {
    #[command(flatten)]
    place: Place,
    /// A node that may join, and the apps that it may run (all, if it does not say).
    #[arg(long = "node", value_name = "NAME[=APP,…]")]
    nodes: Vec<NodeWish>,
    /// A team, and the apps that are its own.
    #[arg(long = "team", value_name = "NAME=APP,…")]
    teams: Vec<TeamWish>,
    /// A token for somebody, written to tokens/NAME.token: admin, operator, auditor, writer:TEAM, wide:TEAM.
    #[arg(long = "token", value_name = "NAME=ROLE,…")]
    tokens: Vec<TokenWish>,
}

#[derive(Args)]
struct ServeArgs {
    #[command(flatten)]
    place: Place,
    /// Where to listen.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:7443")]
    listen: SocketAddr,
    /// Time between heartbeats of a watch, at most 5s: readers give up after three.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_heartbeat)]
    heartbeat: Duration,
    /// Whether a node that joins has to prove that it is at its underlay address: proven (it shows what we send there, to UDP
    /// port 789), or believed (where we have no way to those addresses: a node may then claim any that no other has).
    #[arg(long, value_name = "HOW", default_value = "proven", hide_possible_values = true)]
    underlay: Underlay,
    /// How long a node's certificate is good for: 10s to 30d. Nodes renew theirs at half of it.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse_lifetime)]
    certificate_lifetime: Duration,
    /// How long one key signs identity tokens: 10s to 30d. The next one is published half of that before it signs.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse_lifetime)]
    signer_lifetime: Duration,
    /// How many requests each caller, an operator or a node, may make in a second; twice as many at once.
    #[arg(long, value_name = "N", default_value_t = NonZeroU32::new(1_000).expect("not zero"))]
    requests_per_second: NonZeroU32,
    /// How long it is known which instance had an address, after it gave it up: 1h to 3650d.
    #[arg(long, value_name = "TIME", default_value = "400d", value_parser = parse_kept)]
    keep_owners: Duration,
    /// How long the history is kept: who changed what, and what stood then: 1h to 3650d.
    #[arg(long, value_name = "TIME", default_value = "400d", value_parser = parse_kept)]
    keep_history: Duration,
    /// How much of it is kept at most, in MiB; the oldest goes first. In etcd it takes a part of the quota (2 GiB, as a rule).
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    keep_history_size: u64,
    /// Serve the paths of Cloud Foundry's policy server, too: /networking/v0 and /networking/v1.
    #[arg(long)]
    cf_compat: bool,
    /// An origin that browsers may ask those paths from; may be repeated, * is all.
    #[arg(long, value_name = "ORIGIN", requires = "cf_compat")]
    cf_allow_origin: Vec<String>,
    #[command(flatten)]
    oidc: OidcArgs,
}

/// Users whom an OpenID provider vouches for.
#[derive(Args)]
struct OidcArgs {
    /// An OpenID provider whose tokens let users in, as these say it in `iss`.
    #[arg(long, value_name = "URL", requires_all = ["oidc_audience", "oidc_keys", "oidc_roles"], help_heading = "OpenID")]
    oidc_issuer: Option<String>,
    /// Whom its tokens must be for (`aud`).
    #[arg(long, value_name = "NAME", requires = "oidc_issuer", help_heading = "OpenID")]
    oidc_audience: Option<String>,
    /// Where its keys are published (JWKS): a file, or an https URL. Read again every five minutes, and for a new key.
    #[arg(long, value_name = "FILE|URL", requires = "oidc_issuer", help_heading = "OpenID")]
    oidc_keys: Option<String>,
    /// The certificates that the URL's server is known by.
    #[arg(long, value_name = "FILE", default_value = "/etc/ssl/certs/ca-certificates.crt", help_heading = "OpenID")]
    oidc_ca: PathBuf,
    /// The claim that says what somebody is; `a.b` is member `b` of `a`.
    #[arg(long, value_name = "NAME", default_value = "groups", help_heading = "OpenID")]
    oidc_claim: String,
    /// A value of the claim and the role that it gives: admin, operator, auditor, writer:TEAM or wide:TEAM; may be repeated.
    #[arg(long = "oidc-role", value_name = "VALUE=ROLE", requires = "oidc_issuer", help_heading = "OpenID")]
    oidc_roles: Vec<RoleOf>,
}

impl OidcArgs {
    fn provider(self) -> anyhow::Result<Option<ProviderConfig>> {
        let (Some(issuer), Some(audience), Some(keys)) = (self.oidc_issuer, self.oidc_audience, self.oidc_keys) else {
            return Ok(None);
        };
        let keys = KeySource::new(&keys, self.oidc_ca).context("--oidc-keys")?;
        Ok(Some(ProviderConfig { issuer, audience, keys, claim: self.oidc_claim, roles: self.oidc_roles }))
    }
}

fn main() -> ExitCode {
    log();
    let done = match Cli::parse().command {
        Command::Init(args) => prepare(args),
        Command::Serve(args) => serve(*args),
        Command::Backup(args) => save(&args),
        Command::Restore(args) => put_back(&args),
        Command::Accept(args) => let_follow(&args.store, &args.histories),
        Command::Reseal(args) => seal_anew(&args),
        Command::History(HistoryCommand::Verify(args)) => verify(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("netpol-api: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("NETPOL_LOG").unwrap_or_else(|_| "info".into());
    let colour = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colour).with_writer(std::io::stderr).init();
}

fn prepare(args: InitArgs) -> anyhow::Result<()> {
    let wish = Init {
        overlay: args.place.overlay(),
        directory: args.place.dir,
        store: args.place.store,
        nodes: args.nodes,
        teams: args.teams,
        tokens: args.tokens,
        names: args.place.names,
    };
    let report = init(&wish).context("prepare the policy API")?;
    let mut out = std::io::stdout().lock();
    for (what, found) in report {
        let word = match found {
            Found::Kept => "kept",
            Found::Written => "wrote",
        };
        writeln!(out, "{word} {what}").context("write to stdout")?;
    }
    Ok(())
}

fn save(args: &BackupArgs) -> anyhow::Result<()> {
    let copied = back_up(&args.store, &args.to).context("back up the store")?;
    say(&format!("wrote {}: {}", args.to.display(), content(&copied)))
}

fn put_back(args: &RestoreArgs) -> anyhow::Result<()> {
    let copied = restore(&args.from, &args.store, args.replace).context("restore the store")?;
    say(&format!("restored {}: {}", args.store, content(&copied)))?;
    if args.accept {
        return let_follow(&args.store, &[]);
    }
    eprintln!("agents enforce what they have until you run: netpol-api accept --store {}", args.store);
    Ok(())
}

fn let_follow(store: &Location, histories: &[History]) -> anyhow::Result<()> {
    let accepted = accept(store, histories).context("accept the store's history")?;
    let names: Vec<&str> = accepted.iter().map(History::as_str).collect();
    say(&format!("agents that follow {} go over to {store}", names.join(", ")))
}

fn seal_anew(args: &ResealArgs) -> anyhow::Result<()> {
    let path = reseal(&args.dir, &args.store).context("make a new seal key")?;
    say(&format!("wrote {}: keys of the signer that were sealed before are given up", path.display()))
}

fn verify(args: &VerifyArgs) -> anyhow::Result<()> {
    let verified = verify_store(&args.store, args.known).context("read the history")?;
    let Verified { first, number, seal, revision, misfit, .. } = verified;
    if let Some(Misfit { problem, revision, .. }) = misfit {
        bail!("the history does not fit: {problem}; from revision {revision} on nothing is proven");
    }
    say(&format!("the history fits: entries {first} to {number}, up to revision {revision}"))?;
    say(&KnownSeal { number, seal }.to_string())
}

fn content(copied: &Copied) -> String {
    format!("revision {} of history {}, {} bytes", copied.revision, copied.history.as_str(), copied.bytes)
}

fn say(line: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{line}").context("write to stdout")
}

fn serve(args: ServeArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(serve_until_told(args))
}

/// Each agent holds two connections open, and what a process may open without asking is often 1,024.
fn open_as_many_files_as_we_may() -> anyhow::Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).context("read the limit of open files")?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("raise the limit of open files")
}

async fn serve_until_told(args: ServeArgs) -> anyhow::Result<()> {
    open_as_many_files_as_we_may()?;
    // Listened for before anything is opened, so that being told early is not missed.
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let config = ServerConfig {
        listen: args.listen,
        overlay: args.place.overlay(),
        underlay: args.underlay,
        store: args.place.store,
        directory: args.place.dir,
        names: args.place.names,
        heartbeat: args.heartbeat,
        retention: Retention {
            owners: args.keep_owners,
            history: args.keep_history,
            history_bytes: args.keep_history_size << 20,
        },
        certificate_lifetime: args.certificate_lifetime,
        signer_lifetime: args.signer_lifetime,
        requests_per_second: args.requests_per_second,
        provider: args.oidc.provider()?,
        cf_compat: args.cf_compat.then_some(Compat { origins: args.cf_allow_origin }),
    };
    let mut server = Server::start(config).await.context("serve the policy API")?;
    eprintln!("listening on https://{}", server.address());
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        error = server.failed() => return Err(error).context("serve the policy API"),
    }
    server.stop().await;
    Ok(())
}

impl Place {
    fn overlay(&self) -> OverlayWish {
        OverlayWish { v4: self.overlay_v4, v6: self.overlay_v6 }
    }
}

fn parse_overlay_v4(text: &str) -> Result<Prefix, Invalid> {
    parse_overlay(text, true, "10.255.0.0/16")
}

fn parse_overlay_v6(text: &str) -> Result<Prefix, Invalid> {
    parse_overlay(text, false, "fd12:3456:789a::/48")
}

fn parse_overlay(text: &str, v4: bool, example: &'static str) -> Result<Prefix, Invalid> {
    let refuse = |problem| Invalid::new(text, problem, format!("use a prefix like `{example}`"));
    let prefix: Prefix = text.parse()?;
    if prefix.is_v4() != v4 {
        return Err(refuse("is of the other address family"));
    }
    if prefix.length() == 0 || prefix.length() > longest_overlay(v4) {
        return Err(refuse("has no room for the slices of nodes"));
    }
    Ok(prefix)
}

fn parse_name(text: &str) -> Result<String, Invalid> {
    match rustls::pki_types::ServerName::try_from(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(Invalid::new(text, "is neither an address nor a host name", "use one, like `192.168.1.1`")),
    }
}

fn parse_heartbeat(text: &str) -> Result<Duration, Invalid> {
    let refuse = || Invalid::new(text, "is not a time between heartbeats", "use 100ms to 5s, like `500ms` or `2s`");
    let (number, unit): (&str, fn(u64) -> Duration) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(number), _) => (number, Duration::from_millis),
        (None, Some(number)) => (number, Duration::from_secs),
        (None, None) => return Err(refuse()),
    };
    let time = number.parse().map(unit).map_err(|_| refuse())?;
    let fits = (Duration::from_millis(100)..=Duration::from_secs(5)).contains(&time);
    fits.then_some(time).ok_or_else(refuse)
}

fn parse_lifetime(text: &str) -> Result<Duration, Invalid> {
    const SHORTEST: u64 = 10;
    const DAY: u64 = 24 * 3_600;
    let refuse =
        || Invalid::new(text, "is not a lifetime of certificates or keys", "use 10s to 30d, like `30m`, `24h` or `7d`");
    let units = [('s', 1), ('m', 60), ('h', 3_600), ('d', DAY)];
    let split = units.iter().find_map(|(letter, unit)| Some((text.strip_suffix(*letter)?, *unit)));
    let (number, unit) = split.ok_or_else(refuse)?;
    let seconds = number.parse().ok().and_then(|number: u64| number.checked_mul(unit)).ok_or_else(refuse)?;
    (SHORTEST..=30 * DAY).contains(&seconds).then(|| Duration::from_secs(seconds)).ok_or_else(refuse)
}

fn parse_kept(text: &str) -> Result<Duration, Invalid> {
    const HOUR: u64 = 3_600;
    const DAY: u64 = 24 * HOUR;
    let refuse = || Invalid::new(text, "is not a time to keep", "use 1h to 3650d, like `48h` or `400d`");
    let (number, unit) = match (text.strip_suffix('h'), text.strip_suffix('d')) {
        (Some(number), _) => (number, HOUR),
        (None, Some(number)) => (number, DAY),
        (None, None) => return Err(refuse()),
    };
    let seconds = number.parse().ok().and_then(|number: u64| number.checked_mul(unit)).ok_or_else(refuse)?;
    (HOUR..=3_650 * DAY).contains(&seconds).then(|| Duration::from_secs(seconds)).ok_or_else(refuse)
}
