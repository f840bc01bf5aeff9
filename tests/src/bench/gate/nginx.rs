//! nginx as those use it who have no gatekeeper: `auth_request` asks, `proxy_cache` remembers the verdict. And as the app
//! behind, at its barest.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// An nginx that runs until it is dropped.
pub(super) struct Nginx(Child);

/// What a line of our own log tells, as far as nginx knows it.
const LOG: &str = r#"log_format json escape=json '{"at":"$time_iso8601","client":"$remote_addr","protocol":"$server_protocol","method":"$request_method","path":"$uri","subject":"$subject","privilege":"read","reason":"allowed","request_id":"$request_id","status":$status,"bytes":$body_bytes_sent,"seconds":$request_time}';"#;

impl Nginx {
    /// The app: says hello to everybody, and knows everybody.
    pub(super) fn app(address: SocketAddr, directory: &Path) -> Result<Self> {
        let http = format!(
            "access_log off;
             server {{
                 listen {address};
                 location = /check {{ add_header X-Subject host:ci-1; add_header Content-Type text/plain; return 200 ''; }}
                 location / {{ default_type text/plain; return 200 'hello, world\\n'; }}
             }}"
        );
        Self::start("app", address, &http, directory)
    }

    /// The gate before it.
    pub(super) fn gate(address: SocketAddr, app: SocketAddr, directory: &Path) -> Result<Self> {
        let path = directory.display();
        let http = format!(
            "{LOG}
             access_log {path}/nginx-access.log json buffer=32k flush=1s;
             proxy_cache_path {path}/cache keys_zone=verdicts:8m use_temp_path=off;
             proxy_http_version 1.1;
             upstream app {{ server {app}; keepalive 512; keepalive_requests 1000000000; }}
             server {{
                 listen {address};
                 location / {{
                     auth_request /check;
                     auth_request_set $subject $upstream_http_x_subject;
                     proxy_pass http://app;
                     proxy_set_header Connection '';
                     proxy_set_header Host $host;
                     proxy_set_header Authorization '';
                     proxy_set_header X-Netpol-Subject $subject;
                     proxy_set_header X-Request-Id $request_id;
                     proxy_set_header X-Forwarded-For $remote_addr;
                     proxy_set_header X-Forwarded-Proto $scheme;
                     proxy_set_header X-Forwarded-Host $host;
                 }}
                 location = /check {{
                     internal;
                     proxy_pass http://app/check;
                     proxy_set_header Connection '';
                     proxy_pass_request_body off;
                     proxy_set_header Content-Length '';
                     proxy_cache verdicts;
                     proxy_cache_key $http_authorization$request_method;
                     proxy_cache_valid 200 10m;
                     proxy_cache_lock on;
                 }}
             }}"
        );
        Self::start("gate", address, &http, directory)
    }

    fn start(name: &str, address: SocketAddr, http: &str, directory: &Path) -> Result<Self> {
        let path = directory.display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {path}/{name}-{kind};\n"))
            .concat();
        let text = format!(
            "user root; worker_processes 1; daemon off; pid {path}/{name}.pid; error_log {path}/{name}.error error;
             events {{ worker_connections 8192; }}
             http {{ keepalive_requests 1000000000; keepalive_timeout 300s; {temporary} {http} }}"
        );
        let file = directory.join(format!("{name}.conf"));
        fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/bin/nginx");
        let mut command = Command::new(program);
        command.arg("-p").arg(directory).arg("-c").arg(&file).stdout(Stdio::null()).stderr(Stdio::inherit());
        let mut nginx = Self(command.spawn().context("start nginx, which `cargo xtask setup` installs")?);
        nginx.await_listening(address)?;
        Ok(nginx)
    }

    fn await_listening(&mut self, address: SocketAddr) -> Result<()> {
        const LONGEST: Duration = Duration::from_secs(10);
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = self.0.try_wait()? {
                bail!("nginx ended before it listened at {address}: {status}");
            }
            if began.elapsed() > LONGEST {
                bail!("nginx does not listen at {address}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The worker ends with its master when that is told, not killed.
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.0.id()).unwrap_or(i32::MAX));
        let _told = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ended = self.0.wait();
    }
}
