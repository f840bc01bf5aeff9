//! The gatekeeper with one worker, through its library: judged as in life, with all verdicts remembered; and with a judge who
//! lets everybody in without a look, which is what the same proxy costs without one.

use std::{
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use gate::{
    authority::{Answer, Answering, Authority, Permit, Question, Stack},
    gatekeeper::{
        Authorities, Gatekeeper, Judge, Limits, ListenAddress, ListeningSocket, LogTarget, LongestBody, Metrics,
        Patience, PrivilegeTable, Settings, UpstreamAddress, UpstreamSettings,
    },
    verdict_cache::{Verdict, VerdictCache},
};

/// A gatekeeper that runs until it is dropped.
pub(super) struct Ours {
    gatekeeper: Option<Gatekeeper>,
    _control: tokio::runtime::Runtime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Judged,
    Plain,
}

/// Knows everybody.
struct Everybody(Arc<Permit>);

impl Authority for Everybody {
    fn check<'a>(&'a self, _question: Question<'a>) -> Answering<'a> {
        Box::pin(async { Answer::Allow(self.0.clone()) })
    }
}

impl Judge for Everybody {
    fn known(&self, _question: Question<'_>) -> Option<Verdict> {
        Some(Verdict::Allow(self.0.clone()))
    }

    fn ask<'a>(&'a self, _question: Question<'a>) -> Pin<Box<dyn Future<Output = Verdict> + Send + 'a>> {
        Box::pin(async { Verdict::Allow(self.0.clone()) })
    }
}

/// How long nginx keeps a connection to an app that is idle.
const NGINX_IDLE: Duration = Duration::from_secs(60);

const AN_HOUR: Duration = Duration::from_secs(3_600);

impl Ours {
    pub(super) fn start(way: Way, address: SocketAddr, app: SocketAddr, directory: &Path) -> Result<Self> {
        let control = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let subject = "host:ci-1".parse().context("a subject")?;
        let everybody = Everybody(Arc::new(Permit::new(subject, None, Instant::now() + AN_HOUR)));
        let judge: Arc<dyn Judge> = match way {
            Way::Plain => Arc::new(everybody),
            Way::Judged => {
                let cache = VerdictCache::new(Arc::new(Stack::new(vec![Arc::new(everybody)])));
                Arc::new(Authorities::new(Arc::new(cache), control.handle().clone()))
            }
        };
        let settings = Settings {
            resource: "production/release-bot".parse().context("a resource")?,
            privileges: PrivilegeTable::new(Vec::new()),
            upstream: UpstreamSettings {
                idle: NGINX_IDLE,
                ..UpstreamSettings::of(UpstreamAddress::Tcp(app.to_string()))
            },
            limits: Limits::default(),
            longest_body: LongestBody(1 << 20),
            patience: Patience::default(),
            pass_authorization: false,
            access_log: LogTarget::File(directory.join(format!("{way:?}-access.log"))),
            tls: None,
            threads: 1,
            ready: true,
        };
        let socket = ListeningSocket::bind(&ListenAddress::Tcp(address)).context("listen")?;
        let gatekeeper = Gatekeeper::start(Arc::new(settings), &socket, judge, &Metrics::new())?;
        Ok(Self { gatekeeper: Some(gatekeeper), _control: control })
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        if let Some(gatekeeper) = self.gatekeeper.take() {
            gatekeeper.end();
            gatekeeper.join();
        }
    }
}
