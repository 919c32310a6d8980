//! An agent in Python, made from the .proto alone: proof that the link is a contract and not a
//! habit of one code base.

use std::path::Path;
use std::process::Command;

use crate::headend::Headend;
use crate::shell::{self, Result};
use crate::venv;
use crate::workspace::Workspace;

const REQUIREMENTS: &str = "tests/python/requirements.txt";
const AGENT: &str = "tests/python/agent.py";
const PROTO_FOLDER: &str = "derms-proto/proto";
const PROTO: &str = "derms/v1/agent_link.proto";

/// Runs the agent against a headend of its own.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let python = venv::environment(workspace, "python", REQUIREMENTS, "import grpc")?;
    let stubs = workspace.target().join("python-stubs");
    generate(&python, &stubs)?;
    let headend = Headend::start(
        &workspace.built("der_headend"),
        &workspace.target().join("python-headend.log"),
    )?;
    shell::run(
        Command::new(&python)
            .arg(AGENT)
            .args(["--http", &headend.http, "--grpc", &headend.grpc])
            .env("PYTHONPATH", &stubs)
            .env("PYTHONDONTWRITEBYTECODE", "1"),
    )
    .map_err(|error| format!("{error}; {}", headend.see_log()).into())
}

fn generate(python: &Path, stubs: &Path) -> Result<()> {
    std::fs::create_dir_all(stubs)?;
    shell::run(
        Command::new(python)
            .args(["-m", "grpc_tools.protoc", "-I", PROTO_FOLDER])
            .arg(format!("--python_out={}", stubs.display()))
            .arg(format!("--grpc_python_out={}", stubs.display()))
            .arg(PROTO),
    )
}
