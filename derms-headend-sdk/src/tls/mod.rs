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

use derms_proto::{CertificateFacts, Timestamp};
use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::sign::CertifiedKey;

use crate::certificate::PeerCertificate;
use crate::link_auth::settled;
use files::{Files, Fingerprint, OwnContents, Trust, TrustContents};

pub(crate) use handshake::HandshakeError;
#[cfg(test)]
pub(crate) use tests::for_tests;

/// TLS for the listeners of a headend, from PEM files; cheap to clone, all clones are the same.
///
/// Given to [`HeadendBuilder::tls`](crate::HeadendBuilder::tls), [`Headend::serve`] speaks nothing
/// but TLS, and the files are read again when they change (the headend's own two, and those that
/// agents are judged by, each by themselves): new connections get the new certificate, those that are
/// open stay. With a client CA an agent must show a certificate of that
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

/// The two parts of it are read and exchanged each by itself.
struct Active {
    own: Part<CertifiedKey>,
    trust: Part<Trust>,
    /// Of both.
    config: Arc<ServerConfig>,
    /// It was told that a list of `trust` is old.
    old_list_told: bool,
}

struct Part<T> {
    fingerprint: Fingerprint,
    held: Arc<T>,
}

impl<T> Clone for Part<T> {
    fn clone(&self) -> Self {
        Self {
            fingerprint: self.fingerprint.clone(),
            held: Arc::clone(&self.held),
        }
    }
}

impl Part<CertifiedKey> {
    fn of(files: &Files, contents: &OwnContents) -> Result<Self, TlsError> {
        Ok(Self {
            fingerprint: contents.fingerprint(),
            held: files.own(contents)?,
        })
    }
}

impl Part<Trust> {
    fn of(files: &Files, contents: &TrustContents) -> Result<Self, TlsError> {
        Ok(Self {
            fingerprint: contents.fingerprint(),
            held: Arc::new(files.trust(contents)?),
        })
    }
}

impl Active {
    fn of(files: &Files, own: Part<CertifiedKey>, trust: Part<Trust>) -> Result<Self, TlsError> {
        Ok(Self {
            config: files.config(Arc::clone(&own.held), &trust.held)?,
            own,
            trust,
            old_list_told: false,
        })
    }
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

    /// Reads client CA and revocation lists again; tells whether anything has changed. With an error
    /// all stays as it is.
    pub(crate) fn reload_trust(&self) -> Result<bool, TlsError> {
        let Inner { files, active } = &*self.0;
        let is_held = |read: &TrustContents| active.read().trust.fingerprint == read.fingerprint();
        let Some(contents) = settled(is_held, || files.read_trust())? else {
            return Ok(false);
        };
        let trust = Part::<Trust>::of(files, &contents)?;
        let own = active.read().own.clone();
        *active.write() = Active::of(files, own, trust)?;
        Ok(true)
    }

    /// The same for certificate and key of the headend.
    pub(crate) fn reload_own(&self) -> Result<bool, TlsError> {
        let Inner { files, active } = &*self.0;
        let is_held = |read: &OwnContents| active.read().own.fingerprint == read.fingerprint();
        let Some(contents) = settled(is_held, || files.read_own())? else {
            return Ok(false);
        };
        let own = Part::<CertifiedKey>::of(files, &contents)?;
        let (trust, told) = {
            let active = active.read();
            (active.trust.clone(), active.old_list_told)
        };
        let mut new = Active::of(files, own, trust)?;
        new.old_list_told = told;
        *active.write() = new;
        Ok(true)
    }

    /// When the first certificate of the headend's chain ends; `None` if that can't be read.
    pub(crate) fn expires(&self) -> Option<Timestamp> {
        let own = Arc::clone(&self.0.active.read().own.held);
        peer::expires(&own.cert)
    }

    /// Whether a revocation list should have been replaced by now; of the same lists it says so
    /// once.
    pub(crate) fn has_old_list(&self, now: Timestamp) -> bool {
        let mut active = self.0.active.write();
        let is_old = active.trust.held.until.is_some_and(|until| now > until);
        is_old && !std::mem::replace(&mut active.old_list_told, true)
    }

    /// Whether a certificate would be taken now.
    pub(crate) fn check(
        &self,
        certificate: &PeerCertificate,
        now: Timestamp,
    ) -> Result<(), &'static str> {
        let verifier = self.0.active.read().trust.held.verifier.clone();
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

    /// What the certificate of the headend says of itself, as it is held now; `None` if it can't be
    /// read.
    #[must_use]
    pub fn certificate(&self) -> Option<CertificateFacts> {
        let held = Arc::clone(&self.0.active.read().own.held);
        CertificateFacts::from_der(held.cert.first()?)
    }

    /// What the certificates of the client CA say of themselves, as they are held now; those that
    /// can't be read are left out.
    #[must_use]
    pub fn client_ca(&self) -> Vec<CertificateFacts> {
        let held = Arc::clone(&self.0.active.read().trust.held);
        let roots = held.roots.iter();
        roots
            .filter_map(|der| CertificateFacts::from_der(der))
            .collect()
    }

    /// When the first of the revocation lists should have a successor, if any says so. It is used
    /// after that, too.
    #[must_use]
    pub fn crl_until(&self) -> Option<Timestamp> {
        self.0.active.read().trust.held.until
    }

    /// Whether there are revocation lists.
    #[must_use]
    pub fn has_crl(&self) -> bool {
        !self.0.files.crls.is_empty()
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
    /// its `nextUpdate`, which the log then warns of.
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
        let own = Part::<CertifiedKey>::of(&self.files, &self.files.read_own()?)?;
        let trust = Part::<Trust>::of(&self.files, &self.files.read_trust()?)?;
        Ok(ServerTls(Arc::new(Inner {
            active: RwLock::new(Active::of(&self.files, own, trust)?),
            files: self.files,
        })))
    }
}
