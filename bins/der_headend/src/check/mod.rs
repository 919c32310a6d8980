//! `der_headend check`: what would keep a headend from starting, found without starting it.

mod access;
mod addresses;
mod fleet;
mod memory;

use std::net::SocketAddr;
use std::path::PathBuf;

use derms_headend_sdk::proto::{Check, CheckReport, CheckStatus, Timestamp};
use derms_headend_sdk::store::Retention;
use derms_program::{Failure, ReportArgs, tell_report};

use crate::access::AccessArgs;
use crate::database::Database;
use crate::link::LinkArgs;

pub(crate) const FLEET: &str = "fleet";
pub(crate) const FLEET_CONTENT: &str = "fleet_content";
pub(crate) const TLS_FILES: &str = "tls_files";
pub(crate) const TLS_CERTIFICATE: &str = "tls_certificate";
pub(crate) const CLIENT_CA: &str = "client_ca";
pub(crate) const REVOCATION_LIST: &str = "revocation_list";
pub(crate) const AGENT_PROOF: &str = "agent_proof";
pub(crate) const REST_PROOF: &str = "rest_proof";
pub(crate) const SAFE_START: &str = "safe_start";
pub(crate) const DATA_FOLDER: &str = "data_folder";
pub(crate) const DISK_SPACE: &str = "disk_space";
pub(crate) const STORE: &str = "store";
pub(crate) const SCHEMA: &str = "schema";
pub(crate) const STORE_LOCK: &str = "store_lock";
pub(crate) const RETENTION: &str = "retention";
pub(crate) const REST_ADDRESS: &str = "rest_address";
pub(crate) const LINK_ADDRESS: &str = "link_address";
pub(crate) const CLOCK: &str = "clock";

/// 2026-01-01: this program is younger.
const BORN: Timestamp = Timestamp::from_unix_micros(1_767_225_600_000_000);

/// What the flags say; the files they name are not looked at yet.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) database: Result<Database, String>,
    pub(crate) retention: Retention,
    pub(crate) assets: PathBuf,
    pub(crate) http_addr: SocketAddr,
    pub(crate) grpc_addr: SocketAddr,
    pub(crate) link: LinkArgs,
    pub(crate) access: AccessArgs,
}

/// Makes all checks, in the order of their names above, and prints them.
pub(crate) async fn run(given: Given, args: ReportArgs) -> Result<(), Failure> {
    let now = Timestamp::now();
    let mut checks = Vec::new();
    fleet::look(&given.assets, &mut checks);
    access::look(
        &given.link,
        given.access,
        (given.http_addr, given.grpc_addr),
        now,
        &mut checks,
    );
    let found = memory::look(given.database, &mut checks).await;
    checks.push(memory::retention(&given.retention));
    let addresses = (given.http_addr, given.grpc_addr);
    addresses::look(addresses, found.in_use, &mut checks).await;
    checks.push(clock(now, found.newest));
    let report = CheckReport::new(checks);
    let failed = report.count(CheckStatus::Fail);
    tell_report(&report, failed, args)
}

/// `written` is when something was done in the database.
fn clock(now: Timestamp, written: Option<Timestamp>) -> Check {
    let remedy = "set the clock of this machine by NTP before the headend is started";
    if now < BORN {
        let text = format!("this machine's clock shows {now}: it is not set");
        return Check::fail(CLOCK, text, remedy);
    }
    match written.filter(|written| *written > now) {
        Some(written) => Check::fail(
            CLOCK,
            format!("this machine's clock shows {now}, and the database was changed at {written}"),
            remedy,
        ),
        None => Check::ok(CLOCK, format!("this machine's clock shows {now}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_never_set_or_has_gone_back_is_told() {
        let later = BORN.saturating_add(std::time::Duration::from_secs(1));
        assert_eq!(clock(Timestamp::UNIX_EPOCH, None).status, CheckStatus::Fail);
        assert_eq!(clock(BORN, Some(later)).status, CheckStatus::Fail);
        assert_eq!(clock(later, Some(BORN)).status, CheckStatus::Ok);
        assert_eq!(clock(BORN, None).status, CheckStatus::Ok);
    }
}
