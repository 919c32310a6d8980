//! The memory of the agent's own process.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::process::Process;
use crate::fleet;
use crate::words::{Listening, Result};

/// Several rounds of telemetry at the default interval.
const SERVE: Duration = Duration::from_secs(20);

/// One asset, and a gateway of 256; KiB.
pub(super) fn memory(agent: &Path, quick: bool) -> Result<(f64, f64)> {
    let mut headend = Process::part(None, false, &["headend", "0"])?;
    let listening: Listening = headend.hear()?;
    let (text, site, asset) = fleet::gateway_file();
    let file = std::env::temp_dir().join(format!("derms-bench-{}.yaml", std::process::id()));
    fs::write(&file, text)?;
    let serve = || -> Result<(f64, f64)> {
        let single = serve(
            agent,
            &file,
            &listening,
            &["--asset-id", &asset.to_string()],
            quick,
        )?;
        let gateway = serve(
            agent,
            &file,
            &listening,
            &["--site-id", &site.to_string()],
            quick,
        )?;
        Ok((single, gateway))
    };
    let memory = serve();
    fs::remove_file(&file)?;
    memory
}

fn serve(agent: &Path, file: &Path, to: &Listening, who: &[&str], quick: bool) -> Result<f64> {
    let mut command = Command::new(agent);
    command
        .args([
            "--headend",
            &to.agents.to_string(),
            "--exit-with-parent",
            "--assets",
        ])
        .arg(file)
        .args(who)
        .stderr(Stdio::null());
    let process = Process::start(command)?;
    std::thread::sleep(if quick { SERVE / 10 } else { SERVE });
    process.rss_kib()
}
