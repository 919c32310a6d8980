//! What a certificate says of itself, for whoever has to renew it.

use std::net::IpAddr;
use std::time::Duration;

use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::time::Time;

use crate::{Check, Timestamp};

/// Who has to renew a certificate wants to know this long before.
const RENEW: Duration = Duration::from_secs(30 * 24 * 3_600);
const DAY: u64 = 24 * 3_600;

/// What a certificate says of itself. Nothing of it is proved by reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificateFacts {
    /// Whose it is, as a distinguished name; may be empty.
    pub subject: String,
    /// Who has signed it, as a distinguished name.
    pub issuer: String,
    /// Its names (SAN): of hosts, addresses and URIs, as text.
    pub names: Vec<String>,
    /// From when it is good.
    pub not_before: Timestamp,
    /// Until when it is good.
    pub not_after: Timestamp,
}

impl CertificateFacts {
    /// Reads it; `None` if it is no certificate.
    #[must_use]
    pub fn from_der(der: &[u8]) -> Option<Self> {
        let certificate = Certificate::from_der(der).ok()?;
        let body = certificate.tbs_certificate();
        let names = body.get_extension::<SubjectAltName>().ok()?;
        Some(Self {
            subject: body.subject().to_string(),
            issuer: body.issuer().to_string(),
            names: names
                .iter()
                .flat_map(|(_, names)| &names.0)
                .filter_map(name)
                .collect(),
            not_before: timestamp(body.validity().not_before),
            not_after: timestamp(body.validity().not_after),
        })
    }

    /// Whether it is good now and for 30 days more; `what` says which it is, as in `the agent's
    /// certificate`.
    #[must_use]
    pub fn check(&self, name: &'static str, what: &str, now: Timestamp) -> Check {
        let names = match self.names.as_slice() {
            [] => format!("`{}`", self.subject),
            names => names.join(", "),
        };
        let (from, until) = (self.not_before, self.not_after);
        if now < from {
            return Check::fail(
                name,
                format!("{what} ({names}) is good from {from} only; now it is {now}"),
                "set the clock of this machine, or make the certificate anew",
            );
        }
        if now > until {
            return Check::fail(
                name,
                format!("{what} ({names}) has expired at {until}"),
                "renew it; if it is good, set the clock of this machine",
            );
        }
        let left = until.saturating_since(now);
        let days = left.as_secs() / DAY;
        let text = format!("{what} ({names}) is good until {until}, {days} days");
        if left < RENEW {
            return Check::warn(
                name,
                text,
                "renew it before then; it is taken without a restart",
            );
        }
        Check::ok(name, text)
    }
}

fn name(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(name.to_string()),
        GeneralName::UniformResourceIdentifier(uri) => Some(uri.to_string()),
        GeneralName::IpAddress(bytes) => {
            let bytes = bytes.as_bytes();
            let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
            let address = v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from));
            address.ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

fn timestamp(time: Time) -> Timestamp {
    let micros = time.to_unix_duration().as_micros();
    Timestamp::from_unix_micros(i64::try_from(micros).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CheckStatus;

    fn facts(days: u64) -> CertificateFacts {
        let start = Timestamp::UNIX_EPOCH;
        CertificateFacts {
            subject: String::new(),
            issuer: "CN=a".to_owned(),
            names: vec!["headend.example".to_owned()],
            not_before: start,
            not_after: start.saturating_add(Duration::from_secs(days * DAY)),
        }
    }

    #[test]
    fn a_certificate_is_good_between_its_dates_and_warned_of_for_its_last_thirty_days() {
        let at = |day: u64| Timestamp::UNIX_EPOCH.saturating_add(Duration::from_secs(day * DAY));
        let status = |now| facts(100).check("own_certificate", "it", now).status;
        assert_eq!(status(at(0)), CheckStatus::Ok);
        assert_eq!(status(at(70)), CheckStatus::Ok);
        assert_eq!(status(at(71)), CheckStatus::Warn);
        assert_eq!(status(at(100)), CheckStatus::Warn);
        assert_eq!(status(at(101)), CheckStatus::Fail);
        let before = Timestamp::UNIX_EPOCH.saturating_sub(Duration::from_secs(1));
        let check = facts(100).check("own_certificate", "it", before);
        assert_eq!(check.status, CheckStatus::Fail);
        assert!(check.text.contains("is good from"), "{}", check.text);
    }

    #[test]
    fn what_is_no_certificate_has_no_facts() {
        assert_eq!(CertificateFacts::from_der(b"certificate"), None);
    }
}
