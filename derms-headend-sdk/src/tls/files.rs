//! From PEM files to what rustls needs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use derms_proto::Timestamp;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};

use super::TlsError;
use super::peer::next_update;
use crate::auth::sha256;

#[derive(Debug, Clone)]
pub(super) struct Files {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    pub(super) client_ca: Option<PathBuf>,
    pub(super) crls: Vec<PathBuf>,
    pub(super) tls12: bool,
}

/// What a connection is told by; never shown, for the key is among it.
#[derive(PartialEq, Eq)]
pub(super) struct OwnContents {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// What agents are judged by.
#[derive(PartialEq, Eq)]
pub(super) struct TrustContents {
    client_ca: Option<Vec<u8>>,
    crls: Vec<Vec<u8>>,
}

/// Tells contents apart without keeping them.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Fingerprint(Vec<[u8; 32]>);

impl Fingerprint {
    fn of<'a>(all: impl IntoIterator<Item = &'a Vec<u8>>) -> Self {
        let all = all.into_iter();
        Self(all.map(|bytes| sha256(bytes)).collect())
    }
}

impl OwnContents {
    pub(super) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of([&self.certificate, &self.key])
    }
}

impl TrustContents {
    pub(super) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.client_ca.iter().chain(&self.crls))
    }
}

/// Who judges the certificates of agents.
pub(super) struct Trust {
    pub(super) verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// The client CAs.
    pub(super) roots: Vec<CertificateDer<'static>>,
    /// The first `nextUpdate` of the revocation lists.
    pub(super) until: Option<Timestamp>,
}

impl Files {
    pub(super) fn read_own(&self) -> Result<OwnContents, TlsError> {
        Ok(OwnContents {
            certificate: read(&self.certificate)?,
            key: read(&self.key)?,
        })
    }

    pub(super) fn read_trust(&self) -> Result<TrustContents, TlsError> {
        let crls = self.crls.iter().map(|path| read(path));
        Ok(TrustContents {
            client_ca: self.client_ca.as_deref().map(read).transpose()?,
            crls: crls.collect::<Result<_, _>>()?,
        })
    }

    pub(super) fn own(&self, contents: &OwnContents) -> Result<Arc<CertifiedKey>, TlsError> {
        let chain = certificates(&self.certificate, &contents.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&contents.key).map_err(|_| TlsError::Content {
            path: self.key.clone(),
            problem: "holds no private key; write one as PEM (PKCS#8, SEC1 or PKCS#1)",
        })?;
        CertifiedKey::from_der(chain, key, &ring::default_provider())
            .map(Arc::new)
            .map_err(|error| {
                unusable(
                    "the certificate and the private key of the headend don't go together",
                    error,
                )
            })
    }

    pub(super) fn config(
        &self,
        own: Arc<CertifiedKey>,
        trust: &Trust,
    ) -> Result<Arc<ServerConfig>, TlsError> {
        let versions: &[_] = if self.tls12 {
            &[&TLS13, &TLS12]
        } else {
            &[&TLS13]
        };
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .map_err(|error| unusable("TLS can't be set up", error))?;
        let builder = match &trust.verifier {
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // A resumed session would not show its certificate again, revoked or not.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    pub(super) fn trust(&self, contents: &TrustContents) -> Result<Trust, TlsError> {
        let (Some(path), Some(bytes)) = (&self.client_ca, &contents.client_ca) else {
            return match self.crls.first() {
                None => Ok(Trust {
                    verifier: None,
                    roots: Vec::new(),
                    until: None,
                }),
                Some(path) => Err(TlsError::Content {
                    path: path.clone(),
                    problem: "revokes certificates of a client CA, and there is none; name the CA too",
                }),
            };
        };
        let held = certificates(path, bytes)?;
        let mut roots = RootCertStore::empty();
        for certificate in &held {
            roots
                .add(certificate.clone())
                .map_err(|_| TlsError::Content {
                    path: path.clone(),
                    problem: "holds a certificate that can't be a CA; leave it out",
                })?;
        }
        let roots = Arc::new(roots);
        let judge = || {
            let provider = Arc::new(ring::default_provider());
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider)
        };
        let mut crls = Vec::new();
        for (path, bytes) in self.crls.iter().zip(&contents.crls) {
            let list: Vec<_> = CertificateRevocationListDer::pem_slice_iter(bytes)
                .collect::<Result<_, _>>()
                .unwrap_or_default();
            if list.is_empty() {
                return Err(TlsError::Content {
                    path: path.clone(),
                    problem: "holds no certificate revocation list; write one as PEM (`X509 CRL`)",
                });
            }
            // Of all lists together it would not be told which is the broken one.
            if judge().with_crls(list.clone()).build().is_err() {
                return Err(TlsError::Content {
                    path: path.clone(),
                    problem: "holds a revocation list that can't be read; fetch it anew from its CA",
                });
            }
            crls.extend(list);
        }
        let until = crls.iter().filter_map(|crl| next_update(crl)).min();
        let verifier = judge()
            .with_crls(crls)
            // Clients of REST have none; the agent link asks for it on its own.
            .allow_unauthenticated()
            .build()
            .map_err(|error| {
                unusable(
                    "the client CA and its revocation lists can't be used",
                    error,
                )
            })?;
        Ok(Trust {
            verifier: Some(verifier),
            roots: held,
            until,
        })
    }
}

fn certificates(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let list: Vec<_> = CertificateDer::pem_slice_iter(bytes)
        .collect::<Result<_, _>>()
        .unwrap_or_default();
    if list.is_empty() {
        return Err(TlsError::Content {
            path: path.to_owned(),
            problem: "holds no certificate; write one as PEM (`CERTIFICATE`)",
        });
    }
    Ok(list)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })
}

fn unusable(
    problem: &'static str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> TlsError {
    TlsError::Unusable {
        problem,
        source: Box::new(source),
    }
}
