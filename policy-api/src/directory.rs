//! The directory that `netpol-api init` writes: the CA, the seal key, the tokens. For its owner's eyes only.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use crate::{
    broker::SealKey,
    model::{NodeName, SignerKeyId, TokenName},
    private,
    store::{DatabaseError, Refusal, Token},
    tls::{Authority, TlsError},
};

/// What keeps the directory from being read or written.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("{present} is there but {absent} is not: put it back, or remove both to start with a new CA")]
    HalfAuthority { present: PathBuf, absent: PathBuf },
    #[error("{path} holds no token")]
    Token { path: PathBuf },
    #[error("{path} holds no seal key, which is 64 hexadecimal digits; put back what was there. {REMEDY}")]
    Seal { path: PathBuf },
    #[error("{path} is not there, and the store holds keys of the signer that were sealed with it. {REMEDY}")]
    NoSeal { path: PathBuf },
    #[error(
        "{path} does not open key {key} of the signer, which the store holds: it was sealed with another one. {REMEDY}"
    )]
    WrongSeal { path: PathBuf, key: SignerKeyId },
    #[error("no random numbers for {path}")]
    Random { path: PathBuf },
    #[error("{path} holds no CA; run `netpol-api init` first")]
    NoAuthority { path: PathBuf },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("{path} is being served: make teams and tokens there, by `netpol team set` and `netpol token create`")]
    Served { path: PathBuf },
    #[error(transparent)]
    Store(#[from] DatabaseError),
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// What to do about a seal key that does not fit.
const REMEDY: &str = "Copy it from the directory of another API on this store, or from a copy of this directory; if it is lost, \
                      `netpol-api reseal` makes a new one, and identity tokens that are out are void";

/// The directory.
#[derive(Clone, Debug)]
pub struct Directory(PathBuf);

/// Whether something was there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Kept,
    Written,
}

const PRIVATE: u32 = 0o700;

impl Directory {
    /// The directory, made if it is not there, closed to others if it was open to them.
    pub fn create(path: &Path) -> Result<Self, DirectoryError> {
        for path in [path.to_owned(), path.join("join"), path.join("tokens")] {
            let at = |source| DirectoryError::File { path: path.clone(), source };
            DirBuilder::new().recursive(true).mode(PRIVATE).create(&path).map_err(at)?;
            fs::set_permissions(&path, Permissions::from_mode(PRIVATE)).map_err(at)?;
        }
        Ok(Self(path.to_owned()))
    }

    /// A directory that `init` wrote.
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub fn certificate_path(&self) -> PathBuf {
        self.0.join("ca.pem")
    }

    fn key_path(&self) -> PathBuf {
        self.0.join("ca.key")
    }

    pub fn seal_key_path(&self) -> PathBuf {
        self.0.join("seal.key")
    }

    pub fn operator_token_path(&self) -> PathBuf {
        self.0.join("operator.token")
    }

    pub fn join_token_path(&self, node: &NodeName) -> PathBuf {
        self.0.join("join").join(format!("{node}.token"))
    }

    pub fn token_path(&self, name: &TokenName) -> PathBuf {
        self.0.join("tokens").join(format!("{name}.token"))
    }

    /// The CA, which must be there.
    pub fn authority(&self) -> Result<Authority, DirectoryError> {
        let there = |text: Option<String>| text.ok_or(DirectoryError::NoAuthority { path: self.0.clone() });
        let certificate = there(read(&self.certificate_path())?)?;
        Ok(Authority { certificate, key: there(read_secret(&self.key_path())?)? })
    }

    /// The CA, made if there is none.
    pub fn authority_or_new(&self) -> Result<(Authority, Found), DirectoryError> {
        let (certificate, key) = (self.certificate_path(), self.key_path());
        match (read(&certificate)?, read_secret(&key)?) {
            (Some(certificate), Some(key)) => Ok((Authority { certificate, key }, Found::Kept)),
            (None, None) => {
                let authority = Authority::generate(time::OffsetDateTime::now_utc())?;
                write(&key, &authority.key)?;
                write(&certificate, &authority.certificate)?;
                Ok((authority, Found::Written))
            }
            (Some(_), None) => Err(DirectoryError::HalfAuthority { present: certificate, absent: key }),
            (None, Some(_)) => Err(DirectoryError::HalfAuthority { present: key, absent: certificate }),
        }
    }

    /// The seal key, made if there is none: right for a store that holds nothing that was sealed.
    pub fn seal_key_or_new(&self) -> Result<(SealKey, Found), DirectoryError> {
        let path = self.seal_key_path();
        match read_secret(&path)? {
            Some(text) => {
                let key = SealKey::from_text(&text).ok_or(DirectoryError::Seal { path })?;
                Ok((key, Found::Kept))
            }
            None => Ok((self.new_seal_key()?, Found::Written)),
        }
    }

    /// The seal key of a store that holds, or does not hold, what was sealed. What an earlier version made has none of either.
    pub fn seal_key(&self, is_needed: bool) -> Result<SealKey, DirectoryError> {
        let path = self.seal_key_path();
        if is_needed && read_secret(&path)?.is_none() {
            return Err(DirectoryError::NoSeal { path });
        }
        Ok(self.seal_key_or_new()?.0)
    }

    /// A new seal key in the place of what is there.
    pub fn new_seal_key(&self) -> Result<SealKey, DirectoryError> {
        let path = self.seal_key_path();
        let key = SealKey::random().ok_or_else(|| DirectoryError::Random { path: path.clone() })?;
        write(&path, &format!("{}\n", key.to_text()))?;
        Ok(key)
    }

    /// The token in a file, made if there is none.
    pub fn token_or_new(path: &Path) -> Result<(Token, Found), DirectoryError> {
        match read_secret(path)? {
            Some(text) => {
                let token = Token::from_text(&text).ok_or(DirectoryError::Token { path: path.to_owned() })?;
                Ok((token, Found::Kept))
            }
            None => {
                let token = Token::random()?;
                write(path, &format!("{}\n", token.as_str()))?;
                Ok((token, Found::Written))
            }
        }
    }
}

fn read(path: &Path) -> Result<Option<String>, DirectoryError> {
    private::read(path).map_err(at(path))
}

fn read_secret(path: &Path) -> Result<Option<String>, DirectoryError> {
    private::read_secret(path).map_err(at(path))
}

fn write(path: &Path, text: &str) -> Result<(), DirectoryError> {
    private::keep(path, text.as_bytes()).map_err(at(path))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> DirectoryError {
    |source| DirectoryError::File { path: path.to_owned(), source }
}
