//! Whom the client believes: the API's own CA, and nobody else; and what it shows of itself.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};

use super::{ClientError, Identity};

/// TLS as the policy API speaks it. The provider is named, so that it does not depend on who else is in the process.
pub(super) fn config(ca_pem: &[u8], identity: Option<Arc<Identity>>) -> Result<ClientConfig, ClientError> {
    let refuse = |why: String| ClientError::Config(format!("the CA certificate cannot be used: {why}"));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem) {
        let certificate = certificate.map_err(|error| refuse(error.to_string()))?;
        roots.add(certificate).map_err(|error| refuse(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(refuse("there is no certificate in it".to_owned()));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| refuse(error.to_string()))?
        .with_root_certificates(roots);
    Ok(match identity {
        Some(identity) => config.with_client_cert_resolver(identity),
        None => config.with_no_client_auth(),
    })
}
