//! The API's own CA, and the certificates that it makes for the server and for nodes. Always TLS: there is no other way in.

mod peer;

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKey, PublicKeyData as _,
};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _},
    server::{VerifierBuilderError, WebPkiClientVerifier},
};
use time::{Duration, OffsetDateTime};

use crate::model::{KeyId, NodeName};

pub use self::peer::{Identifying, Peer};

/// What keeps certificates from being made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error("cannot use the server's certificate: {0}")]
    Server(#[from] rustls::Error),
    #[error("cannot read the CA's certificate: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    #[error("cannot tell nodes by the CA's certificate: {0}")]
    Verifier(#[from] VerifierBuilderError),
}

/// A CA: whoever believes `certificate` believes what `key` signs.
#[derive(Clone, PartialEq, Eq)]
pub struct Authority {
    /// PEM.
    pub certificate: String,
    /// PEM; the one secret that lets somebody pose as the API.
    pub key: String,
}

const AUTHORITY_LIFETIME: Duration = Duration::days(3650);
const SERVER_LIFETIME: Duration = Duration::days(90);
/// Clocks of nodes may be behind ours.
const CLOCK_SKEW: Duration = Duration::hours(1);

impl Authority {
    /// A new CA that may sign servers and nothing below it.
    pub fn generate(now: OffsetDateTime) -> Result<Self, TlsError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = name("netpol policy API CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = now - CLOCK_SKEW;
        params.not_after = now + AUTHORITY_LIFETIME;
        let certificate = params.self_signed(&key)?;
        Ok(Self { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// A server that proves to be one of these names and addresses, with a key that exists in memory only.
    pub fn server(&self, names: &[String], now: OffsetDateTime) -> Result<Arc<ServerConfig>, TlsError> {
        let issuer = Issuer::from_ca_cert_pem(&self.certificate, KeyPair::from_pem(&self.key)?)?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.to_vec())?;
        params.distinguished_name = name("netpol policy API");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.not_before = now - CLOCK_SKEW;
        params.not_after = now + SERVER_LIFETIME;
        let certificate = params.signed_by(&key, &issuer)?;
        self.configure(certificate.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }

    /// A certificate, PEM, that this key is the key of this node. What else the node's request asks for is not granted.
    pub fn node(
        &self,
        node: &NodeName,
        key: &ProvenKey,
        now: OffsetDateTime,
        lifetime: std::time::Duration,
    ) -> Result<String, TlsError> {
        let issuer = Issuer::from_ca_cert_pem(&self.certificate, KeyPair::from_pem(&self.key)?)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = name(&format!("{NODE}{node}"));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = now - CLOCK_SKEW;
        params.not_after = now + lifetime;
        Ok(params.signed_by(&key.0, &issuer)?.pem())
    }

    fn configure(
        &self,
        certificate: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Arc<ServerConfig>, TlsError> {
        // The provider is named, so that it does not depend on who else is in the process.
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        for ours in CertificateDer::pem_slice_iter(self.certificate.as_bytes()) {
            roots.add(ours?)?;
        }
        // Operators have tokens and no certificate.
        let nodes = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).allow_unauthenticated();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(nodes.build()?)
            .with_single_cert(vec![certificate], key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// What the name in a node's certificate begins with.
const NODE: &str = "node/";

/// A public key whose private half the asker has: it signed the request.
pub struct ProvenKey(PublicKey);

impl ProvenKey {
    /// Out of a certificate signing request (PKCS #10, PEM); nothing if it is none, or not signed by the key in it.
    pub fn of_request(pem: &str) -> Option<Self> {
        CertificateSigningRequestParams::from_pem(pem).ok().map(|request| Self(request.public_key))
    }

    pub fn id(&self) -> KeyId {
        KeyId::of(&self.0.subject_public_key_info())
    }
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_that_was_written_down_signs_again() {
        let now = OffsetDateTime::now_utc();
        let authority = Authority::generate(now).expect("CA");
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned(), "fd00::1".to_owned()];
        assert!(authority.server(&names, now).is_ok());
        let other = Authority::generate(now).expect("CA");
        assert!(authority.certificate != other.certificate && authority.key != other.key);
    }

    #[test]
    fn a_key_that_is_none_is_refused() {
        let now = OffsetDateTime::now_utc();
        let authority = Authority { key: "nonsense".to_owned(), ..Authority::generate(now).expect("CA") };
        assert!(authority.server(&["localhost".to_owned()], now).is_err());
    }
}
