//! The benchmark: built as it would be shipped, and run.

use std::process::Command;

use crate::shell::{self, Result};
use crate::workspace::Workspace;

/// Builds the servers, the load and the agent whose memory is measured, and runs them; `args` go
/// to the benchmark.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<()> {
    let packages = ["--package", "derms-bench", "--package", "edge_agent"];
    shell::run(shell::cargo().args(["build", "--release"]).args(packages))?;
    measure(workspace, "release", args)
}

/// A few agents for some seconds, with the programs as the build step leaves them: that it works,
/// not how fast.
pub(crate) fn smoke(workspace: &Workspace) -> Result<()> {
    let quick = "--quick".to_owned();
    measure(workspace, "debug", std::slice::from_ref(&quick))?;
    let folder = workspace.target().join("bench");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)?;
    let store = format!("sqlite:{}", folder.join("store.sqlite").display());
    measure(workspace, "debug", &[quick, "--store".to_owned(), store])
}

fn measure(workspace: &Workspace, profile: &str, args: &[String]) -> Result<()> {
    let agent = workspace.program(profile, "edge_agent");
    let mut bench = Command::new(workspace.program(profile, "derms-bench"));
    shell::run(bench.arg("--edge-agent").arg(agent).args(args))
}
