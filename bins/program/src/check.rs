//! What a program found out about itself, told to people or to programs.

use std::fmt::Display;

use clap::Args;
use serde::Serialize;

use crate::{Failure, say};

/// How a report of checks is printed.
#[derive(Debug, Clone, Copy, Args)]
pub struct ReportArgs {
    /// Print one JSON object: {"checks": [{"name", "status", "text", "remedy"}], "ok"}
    #[arg(long)]
    pub json: bool,
}

/// Prints a report on stdout, as text or as JSON.
///
/// # Errors
/// Some of its checks have `failed`: the program ends with [`START_FAILED`](crate::START_FAILED).
pub fn tell_report(
    report: &(impl Display + Serialize),
    failed: usize,
    args: ReportArgs,
) -> Result<(), Failure> {
    let text = if args.json {
        let json = serde_json::to_string_pretty(report);
        let json = json.map_err(|error| Failure::start(format!("can't write JSON: {error}")))?;
        format!("{json}\n")
    } else {
        report.to_string()
    };
    say(&text);
    match failed {
        0 => Ok(()),
        1 => Err(Failure::start("1 check failed; what to do stands below it")),
        _ => Err(Failure::start(format!(
            "{failed} checks failed; what to do stands below each"
        ))),
    }
}
