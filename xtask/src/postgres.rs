//! PostgreSQL, which the tests of stores start servers of their own with.

use std::path::Path;
use std::process::Command;

use crate::shell::{self, Result};
use crate::system;

/// Debian's servers, one folder a version; they are not in the path.
const SERVERS: &str = "/usr/lib/postgresql";

/// Finds it or installs it. A server that runs on this machine is not touched, nor is it used.
pub(crate) fn ensure() -> Result<()> {
    if is_there() {
        return Ok(());
    }
    system::install(&["postgresql"])?;
    if is_there() {
        return Ok(());
    }
    Err(
        format!("postgresql is installed, but there is no initdb in the path or in {SERVERS}")
            .into(),
    )
}

/// The newest version that Debian has installed here.
pub(crate) fn newest() -> Option<u32> {
    let versions = std::fs::read_dir(SERVERS).into_iter().flatten().flatten();
    versions
        .filter(|entry| entry.path().join("bin/initdb").is_file())
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .max()
}

fn is_there() -> bool {
    let in_path = shell::probe(Command::new("initdb").arg("--version")).is_some()
        && shell::probe(Command::new("psql").arg("--version")).is_some();
    let versions = std::fs::read_dir(SERVERS).into_iter().flatten().flatten();
    let has = |folder: &Path| folder.join("initdb").is_file() && folder.join("psql").is_file();
    in_path
        || versions
            .map(|entry| entry.path().join("bin"))
            .any(|bin| has(&bin))
}
