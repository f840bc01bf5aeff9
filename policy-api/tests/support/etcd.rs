//! Real etcd clusters on loopback, for tests: three members each, with data on disk, gone with the process that made them.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, OnceLock, PoisonError, mpsc},
    time::{Duration, Instant},
};

const MEMBERS: usize = 3;
/// Long enough for any machine.
const SOON: Duration = Duration::from_secs(30);

pub(crate) struct EtcdCluster {
    directory: PathBuf,
    /// Whether clients need certificates.
    is_secured: bool,
    /// Where clients and where the other members reach each.
    addresses: Vec<[SocketAddr; 2]>,
    members: Mutex<Vec<Option<Child>>>,
}

impl EtcdCluster {
    pub(crate) fn start() -> Self {
        Self::start_with(false)
    }

    fn start_with(is_secured: bool) -> Self {
        let directory = make_directory();
        if is_secured {
            make_certificates(&directory);
        }
        let addresses = free_addresses(MEMBERS * 2).chunks(2).map(|pair| [pair[0], pair[1]]).collect();
        let cluster =
            Self { directory, is_secured, addresses, members: Mutex::new((0..MEMBERS).map(|_| None).collect()) };
        (0..MEMBERS).for_each(|member| cluster.revive(member));
        cluster.await_leader();
        cluster
    }

    /// One that takes clients with a certificate only.
    pub(crate) fn start_secured() -> Self {
        Self::start_with(true)
    }

    /// `HOST:PORT` of each member.
    pub(crate) fn members(&self) -> Vec<String> {
        self.addresses.iter().map(|[client, _]| client.to_string()).collect()
    }

    /// The `--store` of a place in it.
    pub(crate) fn store(&self, prefix: &str) -> String {
        let place = format!("etcd://{}/{prefix}", self.members().join(","));
        if !self.is_secured {
            return place;
        }
        let [ca, certificate, key] = CLIENT_FILES.map(|file| self.directory.join(file).display().to_string());
        format!("{place}?ca={ca}&cert={certificate}&key={key}")
    }

    fn scheme(&self) -> &'static str {
        if self.is_secured { "https" } else { "http" }
    }

    /// Starts a member, with the data that it had.
    pub(crate) fn revive(&self, member: usize) {
        let [client, peer] = self.addresses[member];
        let log = File::create(self.directory.join(format!("{member}.log"))).expect("a log");
        let all: Vec<_> =
            self.addresses.iter().enumerate().map(|(number, [_, peer])| format!("m{number}=http://{peer}")).collect();
        let mut command = Command::new("setpriv");
        // It dies with us, by whatever means we do.
        command.args(["--pdeathsig", "KILL"]).arg(program());
        command.arg("--name").arg(format!("m{member}")).arg("--data-dir").arg(self.directory.join(member.to_string()));
        let url = format!("{}://{client}", self.scheme());
        command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
        if self.is_secured {
            let file = |name: &str| self.directory.join(name);
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(file("ca.pem"));
            command.arg("--cert-file").arg(file("member.pem")).arg("--key-file").arg(file("member.key"));
        }
        command.args(["--listen-peer-urls", &format!("http://{peer}")]);
        command.args(["--initial-advertise-peer-urls", &format!("http://{peer}")]);
        command.args(["--initial-cluster", &all.join(","), "--initial-cluster-state", "new"]);
        command.args(["--heartbeat-interval", "50", "--election-timeout", "500"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = spawn_lasting(command);
        self.lock()[member] = Some(child);
    }

    /// `kill -9`.
    pub(crate) fn kill(&self, member: usize) {
        if let Some(mut child) = self.lock()[member].take() {
            child.kill().expect("killed");
            child.wait().expect("gone");
        }
    }

    /// The member that leads; waits until there is one.
    pub(crate) fn await_leader(&self) -> usize {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < SOON, "no leader; the logs are in {}", self.directory.display());
            if let Some(leader) = (0..MEMBERS).find(|member| runtime.block_on(self.leads(*member))) {
                return leader;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    async fn leads(&self, member: usize) -> bool {
        let asking = async {
            let url = format!("{}://{}", self.scheme(), self.members()[member]);
            let mut client = etcd_client::Client::connect([url], self.options()).await.ok()?;
            let id = client.status().await.ok()?;
            // Only a member that hears the others answers this.
            client.get("x", None).await.ok()?;
            Some(id.header()?.member_id() == id.leader())
        };
        tokio::time::timeout(Duration::from_secs(1), asking).await.ok().flatten() == Some(true)
    }

    fn options(&self) -> Option<etcd_client::ConnectOptions> {
        let read = |name: &str| fs::read(self.directory.join(name)).expect("a file");
        let [ca, certificate, key] = self.is_secured.then(|| CLIENT_FILES.map(read))?;
        let tls = etcd_client::TlsOptions::new()
            .ca_certificate(etcd_client::Certificate::from_pem(ca))
            .identity(etcd_client::Identity::from_pem(certificate, key));
        Some(etcd_client::ConnectOptions::new().with_tls(tls))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Option<Child>>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for EtcdCluster {
    fn drop(&mut self) {
        (0..MEMBERS).for_each(|member| self.kill(member));
        fs::remove_dir_all(&self.directory).unwrap_or_default();
    }
}

/// What a client shows and believes.
const CLIENT_FILES: [&str; 3] = ["ca.pem", "client.pem", "client.key"];

/// A CA, and certificates of it for the members and for a client.
fn make_certificates(directory: &Path) {
    use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
    let write =
        |name: &str, text: String| policy_api::private::keep(&directory.join(name), text.as_bytes()).expect("kept");
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    write("ca.pem", params.self_signed(&key).expect("a CA").pem());
    let issuer = Issuer::new(params, key);
    for name in ["member", "client"] {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        write(&format!("{name}.pem"), params.signed_by(&key, &issuer).expect("a certificate").pem());
        write(&format!("{name}.key"), key.serialize_pem());
    }
}

/// As `cargo xtask setup` puts it there, or else as the machine has it.
fn program() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/bin/etcd");
    if own.exists() { own } else { "etcd".into() }
}

/// Starts a process from a thread that lasts as long as we do: it is that thread's death that ends the process.
fn spawn_lasting(command: Command) -> Child {
    type Order = (Command, mpsc::Sender<std::io::Result<Child>>);
    static KEEPER: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();
    let keeper = KEEPER.get_or_init(|| {
        let (sender, orders) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in orders {
                answer.send(command.spawn()).expect("somebody waits");
            }
        });
        Mutex::new(sender)
    });
    let (sender, answer) = mpsc::channel();
    keeper.lock().unwrap_or_else(PoisonError::into_inner).send((command, sender)).expect("the keeper lives");
    answer.recv().expect("the keeper lives").expect("etcd starts; `cargo xtask setup` installs it")
}

fn free_addresses(count: usize) -> Vec<SocketAddr> {
    let listeners: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    listeners.iter().map(|listener| listener.local_addr().expect("an address")).collect()
}

/// A directory on disk. Those that nobody removed are, once they are old: whose they are cannot be told, as processes of other
/// sandboxes have numbers like ours.
fn make_directory() -> PathBuf {
    const NAME: &str = "netpol-test-etcd-";
    const OLD: Duration = Duration::from_secs(3_600);
    let parent = std::env::temp_dir();
    for entry in fs::read_dir(&parent).expect("a directory").flatten() {
        let made = entry.metadata().and_then(|metadata| metadata.created()).ok();
        let is_old = made.and_then(|made| made.elapsed().ok()).is_some_and(|age| age > OLD);
        if is_old && entry.file_name().to_string_lossy().starts_with(NAME) {
            fs::remove_dir_all(entry.path()).unwrap_or_default();
        }
    }
    let path = parent.join(format!("{NAME}{:016x}", fastrand::u64(..)));
    fs::create_dir(&path).expect("a directory");
    path
}
