//! The fuzzer: built like the tests, so that overflows are found, and run.

use std::path::Path;
use std::process::Command;

use crate::shell::{self, Result};
use crate::workspace::Workspace;

/// How long CI feeds each decoder, seconds.
const SHORT: u64 = 6;

/// What is to be fed, and for how long.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The decoders to feed; all if none is named.
    target: Vec<String>,
    /// Print what there is, and feed nothing.
    #[arg(long)]
    list: bool,
    /// How long to feed each, after the inputs of its corpus.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    seconds: u64,
    /// Chooses the mutations. Default: another one each time.
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Feed this file alone to the one decoder that is named.
    #[arg(long, value_name = "FILE")]
    replay: Option<String>,
}

/// Builds the fuzzer and runs it.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    shell::run(shell::cargo().args(["build", "--package", "derms-fuzz"]))?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seed = args.seed.unwrap_or(now.map_or(0, |now| now.as_secs()));
    let mut fuzz = fuzzer(workspace, args.seconds, seed);
    fuzz.args(&args.target);
    if args.list {
        fuzz.arg("--list");
    }
    if let Some(file) = &args.replay {
        fuzz.arg("--replay").arg(file);
    }
    shell::run(&mut fuzz)
}

/// Every decoder for some seconds, with the same mutations each time: what fails here fails again.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    shell::run(&mut fuzzer(workspace, SHORT, 0))
}

fn fuzzer(workspace: &Workspace, seconds: u64, seed: u64) -> Command {
    let mut fuzz = Command::new(workspace.built("derms-fuzz"));
    let findings: &Path = &workspace.target().join("fuzz");
    fuzz.arg("--findings").arg(findings);
    fuzz.args(["--seconds", &seconds.to_string()]);
    fuzz.args(["--seed", &seed.to_string()]);
    fuzz
}
