//! TLS to the headend, from files that may change.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use derms_proto::{AgentId, Check, Timestamp};
use http::Uri;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use crate::async_trait;
use crate::connect::{Io, REFUSED, Secure};
use crate::doctor::tls as doctor;

/// How an agent proves the headend, and itself, over an `https` address.
///
/// The files are read anew for each attempt to connect: a certificate that was exchanged is used
/// without a restart. TLS 1.3 unless [1.2 is allowed too](Self::allow_tls12).
///
/// ```no_run
/// # use derms_agent_sdk::ClientTls;
/// let tls = ClientTls::new()
///     .ca("/etc/acme/ca.pem")
///     .certificate("/etc/acme/agent.pem", "/etc/acme/agent-key.pem");
/// ```
#[derive(Debug, Clone, Default)]
#[must_use = "it does nothing until it is given to `AgentBuilder::tls`"]
pub struct ClientTls {
    ca: Option<PathBuf>,
    own: Option<Own>,
    server_name: Option<String>,
    tls12: bool,
}

#[derive(Debug, Clone)]
struct Own {
    certificate: PathBuf,
    key: PathBuf,
}

/// Why files can't be used for TLS. No content of a file is told.
#[derive(Debug, thiserror::Error)]
enum TlsError {
    #[error("can't read `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("`{}` {problem}", path.display())]
    Content {
        path: PathBuf,
        problem: &'static str,
    },
    #[error("`{name}` is no name of a host; write it like headend.example")]
    ServerName { name: String },
    #[error("{problem}")]
    Unusable {
        problem: &'static str,
        source: rustls::Error,
    },
}

impl ClientTls {
    /// Trusts the CAs that browsers trust, and shows no certificate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts the CAs in this PEM file, and no other.
    pub fn ca(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca = Some(path.into());
        self
    }

    /// Shows this certificate: a PEM file with the agent's own first and then those of the CAs
    /// between it and the root, and one with its private key. Its URI name must be
    /// `urn:derms:agent:<the agent's id>`.
    pub fn certificate(mut self, path: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.own = Some(Own {
            certificate: path.into(),
            key: key.into(),
        });
        self
    }

    /// The name that the headend's certificate must have. Default: the host of the address.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// TLS 1.2 is spoken too. Default: 1.3 alone.
    pub fn allow_tls12(mut self) -> Self {
        self.tls12 = true;
        self
    }

    fn config(&self) -> Result<ClientConfig, TlsError> {
        let unusable = |problem| move |source| TlsError::Unusable { problem, source };
        let versions: &[_] = if self.tls12 {
            &[&TLS13, &TLS12]
        } else {
            &[&TLS13]
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .map_err(unusable("TLS can't be set up"))?
            .with_root_certificates(self.roots()?);
        let mut config = match &self.own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let chain = certificates(&own.certificate)?;
                let key = PrivateKeyDer::from_pem_slice(&read(&own.key)?);
                let key = key.map_err(|_| TlsError::Content {
                    path: own.key.clone(),
                    problem: "holds no private key; write one as PEM (PKCS#8, SEC1 or PKCS#1)",
                })?;
                builder.with_client_auth_cert(chain, key).map_err(unusable(
                    "the agent's certificate and its private key don't go together",
                ))?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(path) => {
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|_| TlsError::Content {
                        path: path.clone(),
                        problem: "holds a certificate that can't be a CA; leave it out",
                    })?;
                }
            }
        }
        Ok(roots)
    }

    fn name(&self, headend: &Uri) -> Result<ServerName<'static>, TlsError> {
        let host = headend.host().unwrap_or_default();
        let name = self
            .server_name
            .as_deref()
            .unwrap_or_else(|| host.trim_matches(['[', ']']));
        ServerName::try_from(name.to_owned()).map_err(|_| TlsError::ServerName {
            name: name.to_owned(),
        })
    }
}

#[async_trait]
impl Secure for ClientTls {
    fn check(&self, headend: &Uri) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.name(headend)?;
        self.config()?;
        Ok(())
    }

    async fn secure(&self, io: Box<dyn Io>, headend: &Uri) -> io::Result<Box<dyn Io>> {
        let name = self.name(headend).map_err(io::Error::other)?;
        let this = self.clone();
        let config = tokio::task::spawn_blocking(move || this.config())
            .await
            .map_err(io::Error::other)?
            .map_err(io::Error::other)?;
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, io)
            .await?;
        Ok(Box::new(stream))
    }

    fn own_certificate(&self, name: &'static str, agent: AgentId, now: Timestamp) -> Check {
        let chain = self.own.as_ref().map(|own| certificates(&own.certificate));
        match chain.transpose() {
            Ok(chain) => {
                let der = chain.as_ref().and_then(|chain| chain.first());
                doctor::own(name, der, agent, now)
            }
            Err(error) => Check::fail(name, error.to_string(), "put the file in place"),
        }
    }

    async fn handshake(
        &self,
        names: [&'static str; 2],
        io: Box<dyn Io>,
        headend: &Uri,
        now: Timestamp,
    ) -> (Option<Box<dyn Io>>, [Check; 2]) {
        let (this, uri) = (self.clone(), headend.clone());
        let read = tokio::task::spawn_blocking(move || {
            Ok::<_, TlsError>((this.config()?, this.roots()?, this.name(&uri)?))
        });
        let failed = match read.await {
            Ok(Ok((config, roots, name))) => {
                return doctor::handshake(names, config, roots, name, io, now).await;
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        let [tls, certificate] = names;
        let look = Check::skip(certificate, "it was not shown");
        let remedy = "put the files in place, and let the agent read them";
        (None, [Check::fail(tls, failed, remedy), look])
    }
}

/// What TLS says in words of ours, if it is the cause of an error.
pub(crate) fn explain(error: &(dyn Error + 'static)) -> Option<String> {
    const ALERT: &str = "received fatal alert: ";
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(fault) = inner.or_else(|| error.downcast_ref()) {
            return Some(words(fault));
        }
        // TLS 1.3 tells a client after the handshake that its certificate is refused, when HTTP/2 is
        // spoken already, and h2 keeps of an error its text alone.
        if error.source().is_none()
            && let Some((_, alert)) = error.to_string().split_once(ALERT)
        {
            return Some(alert_words(alert));
        }
        next = error.source();
    }
    None
}

fn words(error: &rustls::Error) -> String {
    use CertificateError as C;
    let fault = match error {
        rustls::Error::InvalidCertificate(error) => match error {
            C::Expired | C::ExpiredContext { .. } => "has expired",
            C::NotValidYet | C::NotValidYetContext { .. } => "is not valid yet",
            C::UnknownIssuer => "is of a CA that the agent does not trust",
            C::BadSignature => "is not signed by the CA of that name that the agent trusts",
            C::NotValidForName | C::NotValidForNameContext { .. } => "is for another name",
            C::Revoked => "is revoked",
            _ => "can't be used",
        },
        rustls::Error::AlertReceived(alert) => return alert_words(&format!("{alert:?}")),
        _ => return format!("TLS failed: {error}"),
    };
    format!("the headend's certificate {fault} ({error})")
}

/// What the headend says of TLS, by the name of its alert.
fn alert_words(alert: &str) -> String {
    let fault = match alert {
        "CertificateExpired" => "it has expired, or is not valid yet",
        "CertificateRevoked" => "it is revoked",
        "UnknownCA" => "it is of a CA that the headend does not trust",
        "DecryptError" => "it is not signed by the CA of that name that the headend trusts",
        "CertificateRequired" => "there is none",
        "BadCertificate" | "UnsupportedCertificate" | "CertificateUnknown" => "it can't be used",
        "ProtocolVersion" => {
            return "the headend speaks no version of TLS that the agent does (ProtocolVersion)"
                .to_owned();
        }
        _ => return format!("the headend ended TLS ({alert})"),
    };
    format!("{REFUSED}: {fault} ({alert})")
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path)?;
    let list: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tls_says_is_found_under_other_errors_and_told_in_words() {
        use rustls::AlertDescription as A;
        let words = |fault: rustls::Error| explain(&io::Error::other(fault)).unwrap();
        let text = words(rustls::Error::InvalidCertificate(CertificateError::Expired));
        assert!(
            text.starts_with("the headend's certificate has expired"),
            "{text}"
        );
        let typed = words(rustls::Error::AlertReceived(A::CertificateRevoked));
        assert!(
            typed.contains("it is revoked (CertificateRevoked)"),
            "{typed}"
        );
        let alert = rustls::Error::AlertReceived(A::CertificateRevoked).to_string();
        assert_eq!(explain(&io::Error::other(alert)).unwrap(), typed);
        assert_eq!(explain(&io::Error::other("refused")), None);
    }
}
