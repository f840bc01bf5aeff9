//! TLS towards clients, from files; which HTTP is spoken inside is agreed on in the handshake.

use std::{fs, path::Path, sync::Arc};

use anyhow::{Context as _, Result, bail};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

/// Reads a certificate with its chain, and its key.
///
/// # Errors
///
/// A file cannot be read, or does not hold what it should, or the two do not belong together.
pub(crate) fn server_config(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>> {
    let pem = fs::read(certificate).with_context(|| format!("--tls-cert: read {}", certificate.display()))?;
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .with_context(|| format!("--tls-cert: understand {}", certificate.display()))?;
    if chain.is_empty() {
        bail!("--tls-cert: {} holds no certificate in PEM", certificate.display());
    }
    let pem = fs::read(key).with_context(|| format!("--tls-key: read {}", key.display()))?;
    let key_der = PrivateKeyDer::from_pem_slice(&pem)
        .with_context(|| format!("--tls-key: {} holds no private key in PEM", key.display()))?;
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().context("offer TLS")?.with_no_client_auth();
    let mut config =
        builder.with_single_cert(chain, key_der).context("--tls-cert and --tls-key do not belong together")?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
