//! `edge_agent check`: what would keep the agent from working.

use derms_agent_sdk::doctor::{CHECKS, CONFIGURATION};
use derms_agent_sdk::proto::{Check, CheckReport, CheckStatus};
use derms_program::{Failure, tell_report};

use crate::args::CheckArgs;
use crate::config::Config;
use crate::{Devices, agent};

pub(crate) async fn run(
    args: CheckArgs,
    config: Result<Box<Config>, String>,
) -> Result<(), Failure> {
    let report = match config {
        Ok(config) => {
            let doctor = agent(&config, &Devices::new(&config)).doctor();
            let doctor = if args.write_default {
                doctor.write_default()
            } else {
                doctor
            };
            doctor.run().await
        }
        Err(text) => misconfigured(text),
    };
    let failed = report.count(CheckStatus::Fail);
    tell_report(&report, failed, args.report)
}

fn misconfigured(text: String) -> CheckReport {
    // The text says what to change.
    let wrong = Check::fail(CONFIGURATION, one_line(&text), "change what it names");
    let others = CHECKS.iter().filter(|name| **name != CONFIGURATION);
    let skipped = others.map(|name| Check::skip(name, "the configuration is wrong"));
    CheckReport::new(std::iter::once(wrong).chain(skipped).collect())
}

fn one_line(text: &str) -> String {
    Failure::configuration(text).line().to_owned()
}
