//! `login` and `whoami`: a token is proven, and kept where only its user can read it.

use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use policy_api::client::Client;
use policy_api::model::WhoAmI;
use serde::Serialize;

use super::connect;
use crate::args::{LoginArgs, Secret};
use crate::failure::{Exit, Failure, plain};
use crate::output::right::listed;
use crate::output::{Answer, Detail, phrase};
use crate::settings::Settings;
use crate::terminal::{Look, prompt};

/// Keeps a token that the API knows.
pub(crate) async fn login(args: &LoginArgs, settings: &Settings) -> Result<Exit, Failure> {
    let kept =
        settings.login.clone().ok_or_else(|| Failure::usage("login: HOME is not set; use --token-file instead"))?;
    let token = match &args.file {
        Some(path) => fs::read_to_string(path).map_err(|error| unusable("read", path, &error))?,
        None => typed()?,
    };
    let token = Secret::new(&token);
    let client = Client::new(settings.client_config_with(&token)?)?;
    let who = client.who_am_i().await?;
    keep(&kept, &token)?;
    settings.printer.answer(&Known(&who))?;
    settings.printer.say(&format!("kept in {}; --token-file and NETPOL_TOKEN_FILE go before it", kept.display()));
    Ok(Exit::Ok)
}

pub(crate) async fn who_am_i(settings: &Settings) -> Result<Exit, Failure> {
    let who = connect::client(settings)?.who_am_i().await?;
    settings.printer.answer(&Known(&who))?;
    Ok(Exit::Ok)
}

/// Reads a token from standard input; from a terminal without showing it.
fn typed() -> Result<String, Failure> {
    let input = io::stdin();
    let broken = |error: io::Error| Failure::usage(format!("cannot read the token: {}", plain(&error)));
    let mut token = String::new();
    if !input.is_terminal() {
        input.lock().take(LONGEST).read_to_string(&mut token).map_err(broken)?;
        return Ok(token);
    }
    prompt("token: ");
    let shown = tcgetattr(&input).map_err(|error| broken(error.into()))?;
    let mut hidden = shown.clone();
    hidden.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(&input, SetArg::TCSAFLUSH, &hidden).map_err(|error| broken(error.into()))?;
    let read = input.read_line(&mut token);
    tcsetattr(&input, SetArg::TCSAFLUSH, &shown).map_err(|error| broken(error.into()))?;
    prompt("\n");
    read.map_err(broken)?;
    Ok(token)
}

/// More than any token has.
const LONGEST: u64 = 64 << 10;

fn keep(path: &Path, token: &Secret) -> Result<(), Failure> {
    let failed = |error: io::Error| unusable("write", path, &error);
    if let Some(directory) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    }
    // A new file each time: one that is there may be open to others.
    let new: PathBuf = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    write_secret(&new, token.reveal())?;
    fs::rename(&new, path).map_err(failed)
}

/// Writes a secret to a file that does not exist yet, for its owner alone.
pub(crate) fn write_secret(path: &Path, secret: &str) -> Result<(), Failure> {
    let failed = |error: io::Error| unusable("write", path, &error);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    writeln!(file, "{secret}").and_then(|()| file.sync_all()).map_err(failed)
}

fn unusable(doing: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::usage(format!("cannot {doing} {}: {}", path.display(), plain(error)))
}

#[derive(Serialize)]
struct Known<'a>(&'a WhoAmI);

impl Answer for Known<'_> {
    fn text(&self, _: &Look, _: Detail) -> String {
        let WhoAmI { who, grants, expires_at } = self.0;
        let now = policy_api::model::Timestamp::now();
        let end = expires_at.map(|end| format!("  expires {}", phrase::in_time(end, now)));
        format!("{who}  {}{}", listed(grants), end.unwrap_or_default())
    }

    fn name(&self) -> String {
        self.0.who.clone()
    }
}
