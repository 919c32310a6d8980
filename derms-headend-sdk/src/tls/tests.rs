use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};

use super::*;

const AGENT: &str = "7ba7b810-9dad-11d1-80b4-00c04fd430c8";
/// 2026-01-01 and on, as days.
const DAY: i64 = 86_400_000_000;

fn day(day: i64) -> Timestamp {
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    Timestamp::from_unix_micros(start.unix_micros() + day * DAY)
}

type Ca = CertifiedIssuer<'static, KeyPair>;

fn ca(name: &str) -> Ca {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Of January 2026, with these URI names.
fn issued(ca: &Ca, serial: u64, names: &[&str]) -> (Vec<u8>, KeyPair, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2026, 2, 1);
    params.serial_number = Some(SerialNumber::from(serial));
    params.use_authority_key_identifier_extension = true;
    for name in names {
        let uri = SanType::URI((*name).try_into().unwrap());
        params.subject_alt_names.push(uri);
    }
    let certificate = params.signed_by(&key, ca).unwrap();
    (certificate.der().to_vec(), key, certificate.pem())
}

fn peer(der: &[u8]) -> PeerCertificate {
    peer::read(&[CertificateDer::from(der.to_vec())]).unwrap()
}

fn crl(ca: &Ca, revoked: &[u64]) -> String {
    let params = CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2026, 1, 1),
        next_update: rcgen::date_time_ymd(2026, 1, 2),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: revoked
            .iter()
            .map(|serial| RevokedCertParams {
                serial_number: SerialNumber::from(*serial),
                revocation_time: rcgen::date_time_ymd(2026, 1, 1),
                reason_code: None,
                invalidity_date: None,
            })
            .collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(ca).unwrap().pem().unwrap()
}

/// The files of a headend, in a folder that goes with it.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(ca: &Ca) -> Self {
        let path = std::env::temp_dir().join(format!("derms-tls-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&path).unwrap();
        let this = Self(path);
        let (_, key, certificate) = issued(ca, 1, &[]);
        this.write("headend.pem", &certificate);
        this.write("headend-key.pem", &key.serialize_pem());
        this.write("ca.pem", &ca.pem());
        this.write("crl.pem", &crl(ca, &[]));
        this
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn builder(&self) -> ServerTlsBuilder {
        ServerTls::builder(self.path("headend.pem"), self.path("headend-key.pem"))
    }

    fn tls(&self) -> ServerTls {
        let builder = self.builder().client_ca(self.path("ca.pem"));
        builder.crl(self.path("crl.pem")).load().unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// TLS of a CA that nobody knows.
pub(crate) fn for_tests() -> ServerTls {
    Folder::new(&ca("ours")).builder().load().unwrap()
}

#[test]
fn a_certificate_names_one_agent_or_none() {
    let ca = ca("ours");
    let urn = format!("urn:derms:agent:{AGENT}");
    let agent = |names: &[&str]| peer(&issued(&ca, 2, names).0).agent();
    assert_eq!(agent(&[&urn]), Ok(AGENT.parse().unwrap()));
    assert_eq!(agent(&["spiffe://x", &urn]), Ok(AGENT.parse().unwrap()));
    assert!(agent(&[]).unwrap_err().contains("names no agent"));
    assert!(
        agent(&["urn:derms:site:x"])
            .unwrap_err()
            .contains("names no agent")
    );
    let two = agent(&[&urn, "urn:derms:agent:7ba7b811-9dad-11d1-80b4-00c04fd430c8"]);
    assert!(two.unwrap_err().contains("several agents"));
    let junk = peer::read(&[CertificateDer::from(b"junk".to_vec())]).unwrap();
    assert!(junk.agent().is_err());
}

#[test]
fn another_ca_an_end_a_beginning_and_a_revocation_are_refused_by_name() {
    let (ours, theirs) = (ca("ours"), ca("theirs"));
    let folder = Folder::new(&ours);
    let tls = folder.tls();
    let good = peer(&issued(&ours, 2, &[]).0);
    assert_eq!(tls.check(&good, day(10)), Ok(()));
    assert_eq!(
        tls.check(&good, day(40)),
        Err("the certificate has expired")
    );
    assert_eq!(
        tls.check(&good, day(-1)),
        Err("the certificate is not valid yet")
    );
    assert!(good.is_over(day(40)) && !good.is_over(day(10)));
    let foreign = peer(&issued(&theirs, 2, &[]).0);
    assert_eq!(
        tls.check(&foreign, day(10)),
        Err("the certificate is of another CA")
    );

    folder.write("crl.pem", &crl(&ours, &[2]));
    assert_eq!(tls.check(&good, day(10)), Ok(()), "nothing was read yet");
    assert!(tls.reload_trust().unwrap());
    assert_eq!(tls.check(&good, day(10)), Err("the certificate is revoked"));
    let other = peer(&issued(&ours, 3, &[]).0);
    assert_eq!(tls.check(&other, day(10)), Ok(()));
}

#[test]
fn a_ca_of_the_same_name_is_another_ca() {
    let (ours, theirs) = (ca("ours"), ca("ours"));
    let tls = Folder::new(&ours).tls();
    let foreign = peer(&issued(&theirs, 2, &[]).0);
    assert!(tls.check(&foreign, day(10)).is_err());
}

#[test]
fn files_that_can_not_be_used_leave_what_is_in_force() {
    let (ours, theirs) = (ca("ours"), ca("theirs"));
    let folder = Folder::new(&ours);
    let tls = folder.tls();
    let good = peer(&issued(&ours, 2, &[]).0);
    assert!(!tls.reload_trust().unwrap(), "nothing has changed");
    folder.write("ca.pem", "-----BEGIN CERT");
    assert!(tls.reload_trust().is_err());
    assert_eq!(tls.check(&good, day(10)), Ok(()));
    std::fs::remove_file(folder.path("ca.pem")).unwrap();
    assert!(tls.reload_trust().is_err());
    assert_eq!(tls.check(&good, day(10)), Ok(()));
    folder.write("ca.pem", &theirs.pem());
    folder.write("crl.pem", &crl(&theirs, &[]));
    assert!(tls.reload_trust().unwrap());
    assert!(tls.check(&good, day(10)).is_err());
}

#[test]
fn what_is_revoked_while_the_headends_own_files_can_not_be_used_is_revoked() {
    let ours = ca("ours");
    let folder = Folder::new(&ours);
    let tls = folder.tls();
    let good = peer(&issued(&ours, 2, &[]).0);
    let shown = tls.config();
    // Renewed before its key.
    let (_, key, certificate) = issued(&ours, 4, &[]);
    folder.write("headend.pem", &certificate);
    folder.write("crl.pem", &crl(&ours, &[2]));
    assert!(tls.reload_own().is_err());
    assert!(tls.reload_trust().unwrap());
    assert_eq!(tls.check(&good, day(10)), Err("the certificate is revoked"));
    assert!(
        !Arc::ptr_eq(&shown, &tls.config()),
        "a new handshake is judged by the new list"
    );
    folder.write("headend-key.pem", &key.serialize_pem());
    assert!(tls.reload_own().unwrap());
    assert_eq!(tls.check(&good, day(10)), Err("the certificate is revoked"));
}

#[test]
fn a_list_that_should_have_been_replaced_is_told_of_once() {
    let ours = ca("ours");
    let folder = Folder::new(&ours);
    let tls = folder.tls();
    assert!(!tls.has_old_list(day(0)));
    assert!(tls.has_old_list(day(2)));
    assert!(!tls.has_old_list(day(3)));
    folder.write("crl.pem", &crl(&ours, &[2]));
    assert!(tls.reload_trust().unwrap());
    assert!(tls.has_old_list(day(3)), "another one");
}

#[test]
fn the_end_of_a_chain_is_that_of_the_certificate_that_ends_first() {
    let ours = ca("ours");
    let long = CertificateDer::from(ours.der().to_vec());
    let short = CertificateDer::from(issued(&ours, 2, &[]).0);
    for chain in [[long.clone(), short.clone()], [short, long]] {
        let read = peer::read(&chain).unwrap();
        assert!(read.is_over(day(40)) && !read.is_over(day(10)));
    }
}

#[test]
fn every_wrong_file_is_named_with_what_to_change_and_shows_nothing_of_a_key() {
    let ours = ca("ours");
    let folder = Folder::new(&ours);
    let said = |builder: ServerTlsBuilder| {
        let error = builder.load().unwrap_err();
        let source = std::error::Error::source(&error);
        format!(
            "{error} {}",
            source.map(ToString::to_string).unwrap_or_default()
        )
    };
    assert!(said(folder.builder().client_ca(folder.path("none.pem"))).contains("none.pem"));
    assert!(said(folder.builder().crl(folder.path("crl.pem"))).contains("name the CA too"));
    let text = said(folder.builder().client_ca(folder.path("crl.pem")));
    assert!(text.contains("holds no certificate;"), "{text}");
    let builder = folder.builder().client_ca(folder.path("ca.pem"));
    let text = said(builder.crl(folder.path("ca.pem")));
    assert!(
        text.contains("holds no certificate revocation list"),
        "{text}"
    );
    let junk = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n";
    folder.write("junk.pem", junk);
    let builder = folder.builder().client_ca(folder.path("ca.pem"));
    let text = said(
        builder
            .crl(folder.path("crl.pem"))
            .crl(folder.path("junk.pem")),
    );
    assert!(
        text.contains("junk.pem") && text.contains("fetch it anew from its CA"),
        "{text}"
    );
    folder.write(
        "headend-key.pem",
        &KeyPair::generate().unwrap().serialize_pem(),
    );
    assert!(said(folder.builder()).contains("don't go together"));
    folder.write("headend-key.pem", "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n");
    let text = said(folder.builder());
    assert!(
        text.contains("holds no private key") && !text.contains("c2Vj"),
        "{text}"
    );
}

#[test]
fn what_is_shown_for_debugging_holds_no_key() {
    let folder = Folder::new(&ca("ours"));
    let key = std::fs::read_to_string(folder.path("headend-key.pem")).unwrap();
    let secret = key.lines().nth(1).unwrap();
    let shown = format!("{:?}", folder.tls());
    assert!(
        shown.contains("headend-key.pem") && !shown.contains(secret),
        "{shown}"
    );
}

#[test]
fn a_missing_list_of_a_ca_is_no_pardon() {
    let (ours, theirs) = (ca("ours"), ca("theirs"));
    let folder = Folder::new(&ours);
    folder.write("ca.pem", &(ours.pem() + &theirs.pem()));
    let tls = folder.tls();
    let certificate = peer(&issued(&theirs, 2, &[]).0);
    let refused = tls.check(&certificate, day(10)).unwrap_err();
    assert!(refused.contains("revocation list"), "{refused}");
}

#[tokio::test]
async fn the_metrics_tell_when_the_certificate_of_the_headend_ends() {
    let fleet = derms_proto::Fleet::from_yaml("sites: []\nassets: []\n", "assets.yaml").unwrap();
    let folder = Folder::new(&ca("ours"));
    let headend = crate::Headend::builder(fleet).tls(folder.tls());
    let said = headend.build().await.unwrap().metrics().await;
    let end = "derms_certificate_expiry_timestamp_seconds{role=\"headend\"} 1769904000";
    assert!(said.lines().any(|line| line == end), "{said}");
}
