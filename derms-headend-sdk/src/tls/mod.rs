//! TLS on the listeners: certificates, client CA and CRLs from files that may change.

mod files;
mod handshake;
mod peer;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use derms_proto::Timestamp;
use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;

use crate::certificate::PeerCertificate;
use files::{Files, Fingerprint, Loaded};

pub(crate) use handshake::HandshakeError;
#[cfg(test)]
pub(crate) use tests::for_tests;

/// TLS for the listeners of a headend, from PEM files; cheap to clone, all clones are the same.
///
/// Given to [`HeadendBuilder::tls`](crate::HeadendBuilder::tls), [`Headend::serve`] speaks nothing
/// but TLS, and the files are read again when they change: new connections get the new
/// certificate, those that are open stay. With a client CA an agent must show a certificate of that
/// CA whose URI name is `urn:derms:agent:<its id>`; clients of REST need none. When CA or CRLs
/// change, sessions that would not be taken any more end with `Close(REVOKED)`; when a certificate
/// expires, its session ends with `Close(REBALANCE)`, and the agent comes back with its new one.
///
/// TLS 1.3 unless [1.2 is allowed too](ServerTlsBuilder::allow_tls12), with ALPN `h2` and
/// `http/1.1`. Nothing is resumed: a client proves itself with each connection.
///
/// [`Headend::serve`]: crate::Headend::serve
#[derive(Clone)]
pub struct ServerTls(Arc<Inner>);

struct Inner {
    files: Files,
    active: RwLock<Active>,
}

struct Active {
    fingerprint: Fingerprint,
    config: Arc<ServerConfig>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

/// Says where the files of a [`ServerTls`] are.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `load` is called"]
pub struct ServerTlsBuilder {
    files: Files,
}

/// Why files can't be used for TLS. No content of a file is told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file can't be read.
    #[error("can't read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("`{}` {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to change.
        problem: &'static str,
    },
    /// The files don't go together.
    #[error("{problem}")]
    Unusable {
        /// What does not go together.
        problem: &'static str,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl ServerTls {
    /// Begins with the certificate of the headend, followed by those of the CAs between it and the
    /// root, and its private key.
    pub fn builder(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> ServerTlsBuilder {
        ServerTlsBuilder {
            files: Files {
                certificate: certificate.into(),
                key: key.into(),
                client_ca: None,
                crls: Vec::new(),
                tls12: false,
            },
        }
    }

    /// Whether agents must show a certificate.
    #[must_use]
    pub fn asks_clients(&self) -> bool {
        self.0.files.client_ca.is_some()
    }

    /// Reads the files again; tells whether anything has changed. With an error all stays as it is.
    pub(crate) fn reload(&self) -> Result<bool, TlsError> {
        let contents = self.0.files.read()?;
        let fingerprint = contents.fingerprint();
        if self.0.active.read().fingerprint == fingerprint {
            return Ok(false);
        }
        let Loaded { config, verifier } = self.0.files.load(&contents)?;
        *self.0.active.write() = Active {
            fingerprint,
            config,
            verifier,
        };
        Ok(true)
    }

    /// Whether a certificate would be taken now.
    pub(crate) fn check(
        &self,
        certificate: &PeerCertificate,
        now: Timestamp,
    ) -> Result<(), &'static str> {
        let verifier = self.0.active.read().verifier.clone();
        let verifier = verifier.ok_or("no client CA is configured")?;
        let chain: Vec<CertificateDer<'_>> = certificate
            .chain
            .iter()
            .map(|der| CertificateDer::from(der.as_slice()))
            .collect();
        let (end_entity, between) = chain.split_first().ok_or("there is no certificate")?;
        let micros = u64::try_from(now.unix_micros()).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(Duration::from_micros(micros));
        verifier
            .verify_client_cert(end_entity, between, now)
            .map(drop)
            .map_err(|error| peer::explain(&error))
    }

    fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.active.read().config)
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ServerTls").field(&self.0.files).finish()
    }
}

impl ServerTlsBuilder {
    /// The CAs whose certificates agents may show. Default: none, agents need no certificate.
    pub fn client_ca(mut self, path: impl Into<PathBuf>) -> Self {
        self.files.client_ca = Some(path.into());
        self
    }

    /// Certificate revocation lists of the client CA; may be called again. Default: none. Once there
    /// is one, each CA that has signed a certificate of the chain needs its own, the root too: a
    /// certificate whose state is not known is refused. A list is used even after
    /// its `nextUpdate`.
    pub fn crl(mut self, path: impl Into<PathBuf>) -> Self {
        self.files.crls.push(path.into());
        self
    }

    /// TLS 1.2 is spoken too. Default: 1.3 alone.
    pub fn allow_tls12(mut self) -> Self {
        self.files.tls12 = true;
        self
    }

    /// Reads the files.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn load(self) -> Result<ServerTls, TlsError> {
        let contents = self.files.read()?;
        let Loaded { config, verifier } = self.files.load(&contents)?;
        Ok(ServerTls(Arc::new(Inner {
            active: RwLock::new(Active {
                fingerprint: contents.fingerprint(),
                config,
                verifier,
            }),
            files: self.files,
        })))
    }
}
