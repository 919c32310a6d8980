//! `der_headend pki`: a CA for development, and certificates of it.
//!
//! The folder has `ca.pem`, `ca-key.pem`, `crl.pem`, `headend.pem`, `headend-key.pem`, and for each
//! agent `agents/<id>.pem` and `agents/<id>-key.pem`. Keys are for their owner alone.

mod folder;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use derms_headend_sdk::AgentIdentity;
use derms_headend_sdk::proto::{AgentId, InstanceId};
use derms_program::{Failure, say};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SanType, SerialNumber,
};
use time::{Duration, OffsetDateTime};

use folder::{Entry, Folder};

/// The clocks of agents may be late by this.
const EARLY: Duration = Duration::hours(1);
/// A CA for development outlives what it is used for.
const CA_DAYS: i64 = 3_650;

#[derive(Debug, Clone, Args)]
pub(crate) struct PkiArgs {
    /// The folder of the CA and its certificates
    #[arg(
        long,
        env = "DERMS_PKI_DIR",
        value_name = "FOLDER",
        default_value = "derms-pki",
        global = true
    )]
    dir: PathBuf,

    #[command(subcommand)]
    task: Task,
}

/// What is done with the CA.
#[derive(Debug, Clone, Subcommand)]
enum Task {
    /// Make a CA, an empty revocation list and a certificate of the headend
    Init(InitArgs),
    /// Make certificates of agents; again for the same agent: a new one, the old goes on being good
    Issue(IssueArgs),
    /// Revoke every certificate of these agents
    Revoke(AgentArgs),
}

#[derive(Debug, Clone, Args)]
struct InitArgs {
    /// Names and addresses under which agents and operators reach the headend; commas between them
    #[arg(
        long,
        value_name = "HOST",
        value_delimiter = ',',
        default_value = "localhost,127.0.0.1,::1"
    )]
    host: Vec<String>,

    #[command(flatten)]
    days: DaysArgs,
}

#[derive(Debug, Clone, Args)]
struct IssueArgs {
    #[command(flatten)]
    agents: AgentArgs,

    #[command(flatten)]
    days: DaysArgs,
}

#[derive(Debug, Clone, Args)]
struct AgentArgs {
    /// Ids of agents; commas between them. An agent's id is that of its asset, of its site as a
    /// gateway, or the agent_id of the fleet file
    #[arg(
        long = "agent",
        value_name = "UUID",
        value_delimiter = ',',
        required = true
    )]
    agents: Vec<AgentId>,
}

#[derive(Debug, Clone, Args)]
struct DaysArgs {
    /// Days that the certificate is good
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u16).range(1..=3_650))]
    days: u16,
}

/// Does it, and says what came out.
pub(crate) fn run(args: &PkiArgs) -> Result<(), Failure> {
    let folder = Folder::new(&args.dir);
    match &args.task {
        Task::Init(args) => init(&folder, args),
        Task::Issue(args) => issue(&folder, &args.agents.agents, args.days.days),
        Task::Revoke(args) => revoke(&folder, &args.agents),
    }
}

fn init(folder: &Folder, args: &InitArgs) -> Result<(), Failure> {
    folder.make()?;
    let key = KeyPair::generate().map_err(failed)?;
    let ca = ca_params();
    let certificate = ca.self_signed(&key).map_err(failed)?;
    let ca = Issuer::from_params(&ca, &key);
    let (server, server_key) = server(&args.host, args.days.days, &ca)?;
    let crl = crl(&[], &ca)?;
    folder.write_secret("headend-key.pem", &server_key)?;
    folder.write("headend.pem", &server)?;
    folder.write("crl.pem", &crl)?;
    folder.write_secret("ca-key.pem", &key.serialize_pem())?;
    // Last: a folder with it is whole.
    folder.write("ca.pem", &certificate.pem())?;
    let path = folder.path("").display().to_string();
    let path = path.trim_end_matches('/');
    say(&format!(
        "made a CA for development in {path}; start the headend with\n  \
         --tls-cert {path}/headend.pem --tls-key {path}/headend-key.pem \
         --client-ca {path}/ca.pem --crl {path}/crl.pem\n"
    ));
    Ok(())
}

fn issue(folder: &Folder, agents: &[AgentId], days: u16) -> Result<(), Failure> {
    let (ca, key) = (ca_params(), folder.ca_key()?);
    let ca = Issuer::from_params(&ca, &key);
    for agent in agents {
        let serial = InstanceId::generate();
        let uri = AgentIdentity::new(*agent).urn();
        let mut params = leaf(
            &agent.to_string(),
            days,
            ExtendedKeyUsagePurpose::ClientAuth,
        );
        params.serial_number = Some(serial_number(serial));
        params.subject_alt_names = vec![SanType::URI(uri.try_into().map_err(failed)?)];
        let own = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&own, &ca).map_err(failed)?;
        // First: a certificate that nobody remembers could not be revoked.
        folder.remember(&Entry {
            serial,
            agent: *agent,
            revoked: false,
        })?;
        folder.write_secret(&format!("agents/{agent}-key.pem"), &own.serialize_pem())?;
        folder.write(&format!("agents/{agent}.pem"), &certificate.pem())?;
        let path = folder.path(&format!("agents/{agent}"));
        let (path, ca) = (path.display(), folder.path("ca.pem"));
        say(&format!(
            "agent {agent}: --ca {} --cert {path}.pem --key {path}-key.pem\n",
            ca.display()
        ));
    }
    Ok(())
}

fn revoke(folder: &Folder, agents: &[AgentId]) -> Result<(), Failure> {
    let (ca, key) = (ca_params(), folder.ca_key()?);
    let ca = Issuer::from_params(&ca, &key);
    let mut entries = folder.entries()?;
    for agent in agents {
        let mut of_agent = entries
            .iter_mut()
            .filter(|entry| entry.agent == *agent)
            .peekable();
        if of_agent.peek().is_none() {
            return Err(Failure::configuration(format!(
                "--agent {agent}: no certificate was issued to it here"
            )));
        }
        of_agent.for_each(|entry| entry.revoked = true);
    }
    folder.replace(&entries)?;
    folder.write("crl.pem", &crl(&entries, &ca)?)?;
    say(
        "revoked; a headend with this folder's crl.pem ends their sessions when it reads it again\n",
    );
    Ok(())
}

/// The same each time, so that the key is all that a CA needs to issue.
fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "DERMS development CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = validity(CA_DAYS);
    params
}

fn server(
    hosts: &[String],
    days: u16,
    ca: &Issuer<'_, &KeyPair>,
) -> Result<(String, String), Failure> {
    let mut params = leaf("DERMS headend", days, ExtendedKeyUsagePurpose::ServerAuth);
    params.subject_alt_names = CertificateParams::new(hosts.to_vec())
        .map_err(|error| {
            Failure::configuration(format!("--host: {error}; write names and IP addresses"))
        })?
        .subject_alt_names;
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.signed_by(&key, ca).map_err(failed)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn leaf(name: &str, days: u16, usage: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = validity(days.into());
    params
}

fn serial_number(serial: InstanceId) -> SerialNumber {
    SerialNumber::from_slice(serial.uuid().as_bytes())
}

fn validity(days: i64) -> (OffsetDateTime, OffsetDateTime) {
    let now = OffsetDateTime::now_utc();
    (now - EARLY, now + Duration::days(days))
}

fn crl(entries: &[Entry], ca: &Issuer<'_, &KeyPair>) -> Result<String, Failure> {
    let now = OffsetDateTime::now_utc();
    let revoked = entries.iter().filter(|entry| entry.revoked);
    let params = CertificateRevocationListParams {
        this_update: now - EARLY,
        next_update: now + Duration::days(CA_DAYS),
        crl_number: SerialNumber::from(u64::try_from(now.unix_timestamp()).unwrap_or_default()),
        issuing_distribution_point: None,
        revoked_certs: revoked
            .map(|entry| RevokedCertParams {
                serial_number: serial_number(entry.serial),
                revocation_time: now,
                reason_code: None,
                invalidity_date: None,
            })
            .collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let crl = params.signed_by(ca).map_err(failed)?;
    crl.pem().map_err(failed)
}

#[allow(
    clippy::needless_pass_by_value,
    reason = "it is given to map_err as it is"
)]
fn failed(error: rcgen::Error) -> Failure {
    Failure::start(format!("can't make a certificate: {error}"))
}
