//! Requests over TLS.

use std::path::Path;
use std::sync::Arc;

use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};

use crate::Error;
use crate::transport::{Transport, pooled};

/// Over TLS 1.3 or 1.2; trusts the CAs in this file, or else those that browsers trust.
pub(crate) fn transport(mut tcp: HttpConnector, ca: Option<&Path>) -> Result<Transport, Error> {
    let roots = match ca {
        None => webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect(),
        Some(path) => roots(path)?,
    };
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| Error::invalid_request(format!("TLS can't be set up: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // It would refuse every scheme but http.
    tcp.enforce_http(false);
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_only()
        .enable_http1()
        .wrap_connector(tcp);
    Ok(pooled(connector))
}

fn roots(path: &Path) -> Result<RootCertStore, Error> {
    let fault = |what: String| {
        Error::invalid_request(format!(
            "the CA in `{}` can't be used: {what}",
            path.display()
        ))
    };
    let bytes = std::fs::read(path).map_err(|error| fault(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let certificate = certificate.map_err(|error| fault(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| fault(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(fault(
            "it holds no certificate; write one as PEM".to_owned(),
        ));
    }
    Ok(roots)
}
