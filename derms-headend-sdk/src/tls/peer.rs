//! What a client's certificate says, and a list of those that are revoked.

use derms_proto::{AgentId, Timestamp};
use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, Error};
use x509_cert::Certificate;
use x509_cert::certificate::Rfc5280;
use x509_cert::crl::CertificateList;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::time::Time;

use crate::certificate::PeerCertificate;
use crate::identity::AgentIdentity;

/// Reads a chain that the handshake has found to be good.
pub(super) fn read(chain: &[CertificateDer<'_>]) -> Option<PeerCertificate> {
    let own = Certificate::from_der(chain.first()?).ok();
    // One that can't be read has no end, so that it is looked at each time.
    let end = |der: &CertificateDer<'_>| {
        let certificate = Certificate::from_der(der).ok();
        certificate
            .as_ref()
            .map_or(Timestamp::from_unix_micros(0), not_after)
    };
    Some(PeerCertificate {
        chain: chain.iter().map(|der| der.to_vec()).collect(),
        agent: own.as_ref().map_or(Err(UNREADABLE), agent),
        not_after: chain.iter().map(end).min()?,
    })
}

const UNREADABLE: &str = "the certificate can't be read";

/// One agent, or no one: who has two names can't be told apart.
fn agent(certificate: &Certificate) -> Result<AgentId, &'static str> {
    let names = certificate
        .tbs_certificate()
        .get_extension::<SubjectAltName>()
        .map_err(|_| UNREADABLE)?;
    let mut agents = names
        .iter()
        .flat_map(|(_, names)| &names.0)
        .filter_map(|name| match name {
            GeneralName::UniformResourceIdentifier(uri) => AgentIdentity::from_urn(uri.as_str()),
            _ => None,
        });
    match (agents.next(), agents.next()) {
        (Some(identity), None) => Ok(identity.agent()),
        (None, _) => {
            Err("the certificate names no agent; its URI name must be urn:derms:agent:<uuid>")
        }
        (Some(_), Some(_)) => Err("the certificate names several agents; give each its own"),
    }
}

fn not_after(certificate: &Certificate) -> Timestamp {
    timestamp(certificate.tbs_certificate().validity().not_after)
}

/// When the first of a chain ends.
pub(super) fn expires(chain: &[CertificateDer<'_>]) -> Option<Timestamp> {
    let ends = chain.iter().filter_map(|der| {
        let certificate = Certificate::from_der(der).ok()?;
        Some(not_after(&certificate))
    });
    ends.min()
}

/// When a revocation list should have a successor, if it says so.
pub(super) fn next_update(list: &[u8]) -> Option<Timestamp> {
    let list = CertificateList::<Rfc5280>::from_der(list).ok()?;
    list.tbs_cert_list.next_update.map(timestamp)
}

fn timestamp(time: Time) -> Timestamp {
    let micros = time.to_unix_duration().as_micros();
    Timestamp::from_unix_micros(i64::try_from(micros).unwrap_or(i64::MAX))
}

/// Why a client's certificate is refused, in words.
pub(super) fn explain(error: &Error) -> &'static str {
    use CertificateError as C;
    let Error::InvalidCertificate(error) = error else {
        return "the certificate can't be checked";
    };
    match error {
        C::Expired | C::ExpiredContext { .. } => "the certificate has expired",
        C::NotValidYet | C::NotValidYetContext { .. } => "the certificate is not valid yet",
        C::Revoked => "the certificate is revoked",
        C::UnknownIssuer => "the certificate is of another CA",
        C::UnknownRevocationStatus => {
            "no revocation list of the certificate's CA is there; add one for each CA"
        }
        C::BadSignature => "the certificate is not signed by its CA",
        C::InvalidPurpose | C::InvalidPurposeContext { .. } => {
            "the certificate is not for clients (extended key usage clientAuth)"
        }
        _ => "the certificate can't be used",
    }
}
