//! Secrets that arrive at run time: from the environment, a file, or a command that prints one (`PROVIDER ID`, as Summon's
//! providers do). Never logged, and in no error.

use std::{fmt, path::PathBuf, process::Stdio, time::Duration};

use tokio::{io::AsyncReadExt as _, process::Command};

/// A secret, which shows itself only where it is asked to.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(String);

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SecretSource {
    Given(Secret),
    File(PathBuf),
    Provider(Provider),
}

/// A command that prints a secret when it is called with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Provider {
    pub(super) program: PathBuf,
    pub(super) id: String,
    /// A provider that takes longer is ended.
    pub(super) timeout: Duration,
}

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecretError {
    #[error("cannot read {path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("the provider {program} cannot be started: {source}")]
    NotStarted { program: PathBuf, source: std::io::Error },
    #[error("the provider {program} did not print `{id}` within {seconds} s")]
    TooSlow { program: PathBuf, id: String, seconds: u64 },
    #[error(
        "the provider {program} does not know `{id}`: it ended with {status}; what it says is seen by calling it by hand"
    )]
    Failed { program: PathBuf, id: String, status: String },
    #[error("{from} holds no token: 1 to {LONGEST} visible letters are one")]
    NoToken { from: String },
}

/// Longer than any token is.
const LONGEST: usize = 64 << 10;

impl Secret {
    /// A token as it stands in a file or a variable, with white space around it; nothing if it cannot be one.
    pub(super) fn new(text: &str) -> Option<Self> {
        let token = text.trim();
        let fits = (1..=LONGEST).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self(token.to_owned()))
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl SecretSource {
    /// The secret, as it is now.
    pub(super) async fn read(&self) -> Result<Secret, SecretError> {
        match self {
            Self::Given(secret) => Ok(secret.clone()),
            Self::File(path) => {
                let text = tokio::fs::read_to_string(path).await;
                let text = text.map_err(|source| SecretError::File { path: path.clone(), source })?;
                Secret::new(&text).ok_or_else(|| SecretError::NoToken { from: path.display().to_string() })
            }
            Self::Provider(provider) => provider.ask().await,
        }
    }
}

impl Provider {
    async fn ask(&self) -> Result<Secret, SecretError> {
        let Self { program, id, timeout } = self;
        let mut command = Command::new(program);
        // What it says to its user may hold the secret, too.
        command.arg(id).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let not_started = |source| SecretError::NotStarted { program: program.clone(), source };
        let mut child = command.spawn().map_err(not_started)?;
        let stdout = child.stdout.take();
        let printed = async {
            let mut text = String::new();
            if let Some(stdout) = stdout {
                stdout.take(LONGEST as u64 + 1).read_to_string(&mut text).await?;
            }
            Ok::<_, std::io::Error>((text, child.wait().await?))
        };
        let too_slow = || SecretError::TooSlow { program: program.clone(), id: id.clone(), seconds: timeout.as_secs() };
        let (text, status) =
            tokio::time::timeout(*timeout, printed).await.map_err(|_| too_slow())?.map_err(not_started)?;
        if !status.success() {
            return Err(SecretError::Failed { program: program.clone(), id: id.clone(), status: status.to_string() });
        }
        Secret::new(&text).ok_or_else(|| SecretError::NoToken { from: format!("`{id}` of {}", program.display()) })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn provider(script: &str) -> (tempfile::TempDir, Provider) {
        let directory = tempfile::tempdir().expect("a directory");
        let program = directory.path().join("provider");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).expect("executable");
        (directory, Provider { program, id: "ci/netpol".to_owned(), timeout: Duration::from_secs(5) })
    }

    async fn asked(script: &str, timeout: Duration) -> Result<String, String> {
        let (_directory, provider) = provider(script);
        let source = SecretSource::Provider(Provider { timeout, ..provider });
        source.read().await.map(|secret| secret.reveal().to_owned()).map_err(|error| error.to_string())
    }

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_provider_prints_the_secret_that_it_is_asked_for() {
        assert_eq!(
            asked("printf 's3cret of %s' \"$1\" | tr ' /' '__'; echo", LONG).await,
            Ok("s3cret_of_ci_netpol".to_owned())
        );
    }

    #[tokio::test]
    async fn a_provider_that_fails_is_named_and_what_it_printed_is_not() {
        for script in [
            "echo s3cret; echo s3cret >&2; exit 3",
            "echo 's3cret with blanks'",
            "head -c 100000 /dev/zero | tr '\\0' s",
            ":",
        ] {
            let error = asked(script, LONG).await.expect_err(script);
            assert!(error.contains("provider") && !error.contains("s3cret") && !error.contains("sss"), "{error}");
        }
        let error = asked("exit 3", LONG).await.expect_err("no secret");
        assert!(error.contains("exit status: 3") && error.contains("ci/netpol"), "{error}");
    }

    #[tokio::test]
    async fn a_provider_that_hangs_is_ended() {
        let error = asked("echo half; exec sleep 600", Duration::from_secs(1)).await.expect_err("too slow");
        assert!(error.contains("within 1 s"), "{error}");
    }

    #[tokio::test]
    async fn a_secret_of_a_file_has_no_line_end_and_shows_itself_to_nobody() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("token");
        fs::write(&path, "s3cret\n").expect("written");
        let secret = SecretSource::File(path.clone()).read().await.expect("a secret");
        assert_eq!((secret.reveal(), format!("{secret:?}").as_str()), ("s3cret", "Secret"));
        fs::write(&path, "s3cret\r\nX-Netpol-Subject: user:root").expect("written");
        let error = SecretSource::File(path).read().await.expect_err("no token").to_string();
        assert!(!error.contains("s3cret"), "{error}");
    }
}
