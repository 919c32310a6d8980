//! TLS, looked at: what the agent shows, and what the headend shows whether it is trusted or not.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use derms_proto::{AgentId, CertificateFacts, Check, Timestamp};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tokio_rustls::TlsConnector;

use super::chain;
use crate::connect::Io;
use crate::tls::explain;

/// A certificate whose URI name must be the agent's.
pub(crate) fn own(
    name: &'static str,
    der: Option<&CertificateDer<'_>>,
    agent: AgentId,
    now: Timestamp,
) -> Check {
    let Some(der) = der else {
        return Check::skip(name, "the agent shows none");
    };
    let what = "the agent's certificate";
    let Some(facts) = CertificateFacts::from_der(der) else {
        return Check::fail(name, format!("{what} can't be read"), "make it anew");
    };
    let wanted = format!("urn:derms:agent:{agent}");
    if !facts
        .names
        .iter()
        .any(|name| name.eq_ignore_ascii_case(&wanted))
    {
        return Check::fail(
            name,
            format!(
                "{what} has the names {:?}, and {wanted} is not among them",
                facts.names
            ),
            "give the agent the certificate that was made for it",
        );
    }
    facts.check(name, what, now)
}

/// Shakes hands; the connection is there if it can be trusted.
pub(crate) async fn handshake(
    [tls, certificate]: [&'static str; 2],
    mut config: ClientConfig,
    roots: RootCertStore,
    name: ServerName<'static>,
    io: Box<dyn Io>,
    now: Timestamp,
) -> (Option<Box<dyn Io>>, [Check; 2]) {
    let unseen = || Check::skip(certificate, "it was not shown");
    let verifier = WebPkiServerVerifier::builder_with_provider(
        Arc::new(roots),
        Arc::clone(config.crypto_provider()),
    );
    let inner = match verifier.build() {
        Ok(inner) => inner,
        Err(error) => {
            let text = format!("no CA to trust: {}", chain(&error));
            let remedy = "name the CA of the headend's certificate";
            return (None, [Check::fail(tls, text, remedy), unseen()]);
        }
    };
    let watched = Arc::new(Watched {
        inner,
        seen: Mutex::new(None),
    });
    config
        .dangerous()
        .set_certificate_verifier(Arc::clone(&watched) as Arc<dyn ServerCertVerifier>);
    let wanted = shown(&name);
    let connected = TlsConnector::from(Arc::new(config)).connect(name, io).await;
    let seen = watched
        .seen
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    let facts = seen.as_deref().and_then(CertificateFacts::from_der);
    let look = match &facts {
        Some(facts) => facts.check(certificate, "the headend's certificate", now),
        None => unseen(),
    };
    match connected {
        Ok(stream) => {
            let session = stream.get_ref().1;
            let version = session.protocol_version();
            let version = version.map_or("TLS".to_owned(), |version| format!("{version:?}"));
            let length = session.peer_certificates().map_or(0, <[_]>::len);
            let issuer = facts.map(|facts| facts.issuer).unwrap_or_default();
            let text = format!(
                "{version}, {wanted}, trusted through {length} certificate(s), signed by `{issuer}`"
            );
            (Some(Box::new(stream)), [Check::ok(tls, text), look])
        }
        Err(error) => {
            let text = explain(&error).unwrap_or_else(|| chain(&error));
            let remedy = remedy(&error, facts.as_ref());
            (None, [Check::fail(tls, text, remedy), look])
        }
    }
}

fn shown(name: &ServerName<'_>) -> String {
    match name {
        ServerName::IpAddress(address) => std::net::IpAddr::from(*address).to_string(),
        name => name.to_str().into_owned(),
    }
}

fn remedy(error: &io::Error, facts: Option<&CertificateFacts>) -> String {
    use CertificateError as C;
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Error>());
    let names = || {
        facts
            .map(|facts| facts.names.join(", "))
            .unwrap_or_default()
    };
    match inner {
        Some(Error::InvalidCertificate(error)) => match error {
            C::Expired | C::ExpiredContext { .. } => {
                "renew the headend's certificate; if it is good, set the clock of this machine"
                    .to_owned()
            }
            C::NotValidYet | C::NotValidYetContext { .. } => {
                "set the clock of this machine, or make the headend's certificate anew".to_owned()
            }
            C::UnknownIssuer | C::BadSignature => {
                "trust the CA that has signed the headend's certificate, if it is the right headend"
                    .to_owned()
            }
            C::NotValidForName | C::NotValidForNameContext { .. } => format!(
                "dial the headend by a name of its certificate ({}), or say which of them to expect",
                names()
            ),
            _ => "make the headend's certificate anew".to_owned(),
        },
        Some(Error::AlertReceived(_)) => {
            "give the agent a certificate of the headend's client CA that is good and not revoked"
                .to_owned()
        }
        _ => "look whether the headend serves TLS on this port, and what stands between".to_owned(),
    }
}

/// Judges as ever, and keeps what was shown.
#[derive(Debug)]
struct Watched {
    inner: Arc<WebPkiServerVerifier>,
    seen: Mutex<Option<Vec<u8>>>,
}

impl ServerCertVerifier for Watched {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(end_entity.to_vec());
        self.inner
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
