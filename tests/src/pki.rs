//! A CA with the certificates that a test needs, good and bad.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};
use time::{Duration, OffsetDateTime};

use crate::folder::Folder;

/// The files of a CA, of a headend on 127.0.0.1 and of its agents, in a folder that goes with it.
pub struct Pki {
    folder: Folder,
    ca: CertifiedIssuer<'static, KeyPair>,
}

/// What a certificate says.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its serial number; agents of one CA have different ones.
    pub serial: u64,
    /// Its URI names.
    pub uris: Vec<String>,
    /// From when it is good, as time from now.
    pub from: Duration,
    /// Until when it is good, as time from now.
    pub until: Duration,
}

impl Wanted {
    /// Of this agent, good for an hour.
    #[must_use]
    pub fn agent(serial: u64, agent: &str) -> Self {
        Self {
            serial,
            uris: vec![format!("urn:derms:agent:{agent}")],
            from: Duration::hours(-1),
            until: Duration::hours(1),
        }
    }
}

impl Default for Pki {
    fn default() -> Self {
        Self::new()
    }
}

impl Pki {
    /// Makes a CA, an empty CRL, and the certificate of a headend.
    ///
    /// # Panics
    /// The files can't be written.
    #[must_use]
    pub fn new() -> Self {
        static CAS: AtomicU32 = AtomicU32::new(1);
        Self::named(&format!("test CA {}", CAS.fetch_add(1, Ordering::Relaxed)))
    }

    /// The same, of this name.
    ///
    /// # Panics
    /// The files can't be written.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let ca = CertifiedIssuer::self_signed(params, key).expect("a CA");
        let this = Self {
            folder: Folder::new(),
            ca,
        };
        this.write("ca.pem", &this.ca.pem());
        this.revoke(&[]);
        this.renew_headend(&["127.0.0.1"]);
        this
    }

    /// A file of it.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.file(name)
    }

    /// Writes `headend.pem` and `headend-key.pem` anew, for these names and addresses.
    ///
    /// # Panics
    /// The files can't be written.
    pub fn renew_headend(&self, hosts: &[&str]) {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).expect("names");
        params.use_authority_key_identifier_extension = true;
        self.sign("headend", &params);
    }

    /// Writes `<name>.pem` and `<name>-key.pem`, and gives where they are.
    ///
    /// # Panics
    /// The files can't be written.
    pub fn issue(&self, name: &str, wanted: &Wanted) -> (PathBuf, PathBuf) {
        let now = OffsetDateTime::now_utc();
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from(wanted.serial));
        params.not_before = now + wanted.from;
        params.not_after = now + wanted.until;
        params.use_authority_key_identifier_extension = true;
        for uri in &wanted.uris {
            let name = uri.as_str().try_into().expect("a URI");
            params.subject_alt_names.push(SanType::URI(name));
        }
        self.sign(name, &params)
    }

    /// Writes `crl.pem` anew: these serial numbers are revoked.
    ///
    /// # Panics
    /// The file can't be written.
    pub fn revoke(&self, serials: &[u64]) {
        self.revoke_until(serials, Duration::days(1));
    }

    /// The same, with a list that should have a successor at this time from now.
    ///
    /// # Panics
    /// The file can't be written.
    pub fn revoke_until(&self, serials: &[u64], next: Duration) {
        let now = OffsetDateTime::now_utc();
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: now + next - Duration::days(1),
            next_update: now + next,
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let crl = params.signed_by(&self.ca).expect("a CRL");
        self.write("crl.pem", &crl.pem().expect("PEM"));
    }

    fn sign(&self, name: &str, params: &CertificateParams) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.ca).expect("a certificate");
        let (file, key_file) = (format!("{name}.pem"), format!("{name}-key.pem"));
        self.write(&key_file, &key.serialize_pem());
        self.write(&file, &certificate.pem());
        (self.file(&file), self.file(&key_file))
    }

    /// In one step, as a tool that looks after certificates does.
    fn write(&self, name: &str, text: &str) {
        let fresh = self.file("fresh");
        std::fs::write(&fresh, text).expect("a file");
        std::fs::rename(fresh, self.file(name)).expect("a file");
    }
}

impl std::fmt::Debug for Pki {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Pki").field(&self.folder).finish()
    }
}
