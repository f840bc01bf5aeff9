//! The API's own CA, and the certificates it makes for the server. Always TLS: there is no other way in.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use time::{Duration, OffsetDateTime};

/// What keeps certificates from being made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error("cannot use the server's certificate: {0}")]
    Server(#[from] rustls::Error),
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
        configure(certificate.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }
}

fn configure(certificate: CertificateDer<'static>, key: PrivateKeyDer<'static>) -> Result<Arc<ServerConfig>, TlsError> {
    // The provider is named, so that it does not depend on who else is in the process.
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
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
