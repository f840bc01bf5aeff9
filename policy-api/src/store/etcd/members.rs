//! The members of an etcd cluster, any of which may be gone: one call is tried at one after the other.
//!
//! `etcd-client` fails a call where the member that it chose is dead, and never tries another; so each member has a client
//! of its own here. Every call may be made again: reads change nothing, and all writes are such that doing them twice is
//! doing them once.

use std::{
    fs,
    future::Future,
    io,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use etcd_client::{Certificate, Client, ConnectOptions, Error, Identity, KvClient, TlsOptions};
use tokio::{
    sync::OnceCell,
    time::{Instant, sleep, timeout},
};
use tracing::debug;

use crate::{
    private,
    store::{
        error::DatabaseError,
        location::{Cluster, TlsFiles},
    },
};

/// How long one member may take for one answer, at first: more than a healthy cluster needs, and little beside the time
/// that it takes to elect a leader. Where none answers in that time they get more.
const ATTEMPT: Duration = Duration::from_secs(1);
const LONGEST_ATTEMPT: u32 = 4;
/// How long to go on trying: the cluster elects a new leader meanwhile.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between rounds in which no member answered.
const PAUSE: Duration = Duration::from_millis(100);
/// Etcd bounds what it takes, not what it gives: a page of large values is more than the client's usual 4 MiB.
pub(super) const LARGEST_ANSWER: usize = 256 << 20;

pub(super) struct Members {
    urls: Vec<String>,
    options: ConnectOptions,
    clients: Vec<OnceCell<Client>>,
    /// The one that answered last.
    current: AtomicUsize,
}

impl Members {
    pub(super) fn of(cluster: &Cluster) -> Result<Self, DatabaseError> {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(ATTEMPT)
            .with_keep_alive(Duration::from_secs(3), ATTEMPT)
            .with_keep_alive_while_idle(true)
            .with_require_leader(true);
        if let Some(files) = &cluster.tls {
            options = options.with_tls(tls(files)?);
        }
        let scheme = if cluster.tls.is_some() { "https" } else { "http" };
        let urls: Vec<String> = cluster.members.iter().map(|member| format!("{scheme}://{member}")).collect();
        let clients = urls.iter().map(|_| OnceCell::new()).collect();
        Ok(Self { urls, options, clients, current: AtomicUsize::new(0) })
    }

    /// Makes a call, at one member after the other until one answers.
    pub(super) async fn call<T, F>(&self, call: impl Fn(Client) -> F) -> Result<T, DatabaseError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let deadline = Instant::now() + PATIENCE;
        let mut failures: usize = 0;
        loop {
            let index = self.current();
            let attempt = async { call(self.client(index).await?).await };
            let rounds = u32::try_from(failures / self.urls.len()).unwrap_or(LONGEST_ATTEMPT);
            let limit = ATTEMPT * (1 + rounds).min(LONGEST_ATTEMPT);
            let failure = match timeout(limit, attempt).await {
                Ok(Ok(answer)) => return Ok(answer),
                // If an earlier attempt was heard by another member, this refusal says nothing about it.
                Ok(Err(error)) if is_final(&error) && failures == 0 => {
                    return Err(DatabaseError::Etcd(format!("{}: {error}", self.urls[index])));
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {} s", limit.as_secs()),
            };
            debug!(member = %self.urls[index], %failure, "etcd did not answer");
            if Instant::now() >= deadline {
                return Err(DatabaseError::Unsure(format!("{}: {failure}", self.urls[index])));
            }
            self.leave(index);
            failures += 1;
            if failures.is_multiple_of(self.urls.len()) {
                sleep(PAUSE).await;
            }
        }
    }

    /// The member to ask first.
    pub(super) fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed) % self.urls.len()
    }

    /// Notes that a member does not answer. Somebody else may have noted that already.
    pub(super) fn leave(&self, index: usize) {
        let next = (index + 1) % self.urls.len();
        let _moved = self.current.compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    pub(super) async fn client(&self, index: usize) -> Result<Client, Error> {
        let connect = || Client::connect([&self.urls[index]], Some(self.options.clone()));
        self.clients[index].get_or_try_init(connect).await.cloned()
    }
}

fn tls(files: &TlsFiles) -> Result<TlsOptions, DatabaseError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| DatabaseError::File { path, source }
    };
    let read = |path: &Path| fs::read(path).map_err(at(path));
    let absent = || io::Error::from(io::ErrorKind::NotFound);
    let key = private::read_secret(&files.key).and_then(|key| key.ok_or_else(absent)).map_err(at(&files.key))?;
    Ok(TlsOptions::new()
        .ca_certificate(Certificate::from_pem(read(&files.ca)?))
        .identity(Identity::from_pem(read(&files.certificate)?, key)))
}

pub(super) fn kv(client: &Client) -> KvClient {
    client.kv_client().max_decoding_message_size(LARGEST_ANSWER)
}

/// Whether every member would say the same.
fn is_final(error: &Error) -> bool {
    const FINAL: [&str; 8] = [
        "InvalidArgument",
        "NotFound",
        "PermissionDenied",
        "Unauthenticated",
        "FailedPrecondition",
        "OutOfRange",
        "Unimplemented",
        "ResourceExhausted",
    ];
    match error {
        // Named by its words: the crate shows the status, but not the type of its code.
        Error::GRpcStatus(status) => FINAL.contains(&format!("{:?}", status.code()).as_str()),
        Error::InvalidArgs(_) | Error::InvalidUri(_) | Error::LeaseKeepAliveError(_) => true,
        _ => false,
    }
}
