//! What a node proves itself by: a key that never leaves it, and a certificate that is replaced while connections go on.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::{
    SignatureScheme,
    client::ResolvesClientCert,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};

use super::ClientError;

/// A key, and the certificate that stands for it now. New connections show the newest; without one they show none.
pub struct Identity {
    key: KeyPair,
    certified: RwLock<Option<Arc<CertifiedKey>>>,
}

impl Identity {
    /// With a new key.
    pub fn generate() -> Result<Self, ClientError> {
        let key = KeyPair::generate().map_err(|error| refuse("make a key", &error))?;
        Ok(Self { key, certified: RwLock::default() })
    }

    /// With a key that was made before (PKCS #8, PEM).
    pub fn of_key(pem: &str) -> Result<Self, ClientError> {
        let key = KeyPair::from_pem(pem).map_err(|error| refuse("read the node's key", &error))?;
        Ok(Self { key, certified: RwLock::default() })
    }

    /// The key (PKCS #8, PEM): whoever has it is the node.
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// A certificate signing request (PKCS #10, PEM).
    pub fn request(&self) -> Result<String, ClientError> {
        let sign = || {
            let mut params = CertificateParams::default();
            params.distinguished_name = DistinguishedName::new();
            params.serialize_request(&self.key)?.pem()
        };
        sign().map_err(|error| refuse("sign a request for a certificate", &error))
    }

    /// Shows this certificate (PEM) from now on.
    pub fn certify(&self, certificate: &str) -> Result<(), ClientError> {
        let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| refuse("read the node's certificate", &error))?;
        let key = PrivateKeyDer::from_pem_slice(self.key.serialize_pem().as_bytes());
        let key = key.map_err(|error| refuse("read the node's key", &error))?;
        let certified = CertifiedKey::from_der(chain, key, &ring::default_provider());
        let certified = certified.map_err(|error| refuse("use the node's certificate", &error))?;
        *self.certified.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(certified));
        Ok(())
    }

    fn shown(&self) -> Option<Arc<CertifiedKey>> {
        self.certified.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn refuse(what: &str, error: &dyn fmt::Display) -> ClientError {
    ClientError::Config(format!("cannot {what}: {error}"))
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.shown()
    }

    fn has_certs(&self) -> bool {
        self.shown().is_some()
    }
}
