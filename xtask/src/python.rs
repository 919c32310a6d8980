//! An agent in Python, made from the .proto alone: proof that the link is a contract and not a
//! habit of one code base.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::headend::Headend;
use crate::shell::{self, Result};
use crate::system;
use crate::workspace::Workspace;

const REQUIREMENTS: &str = "tests/python/requirements.txt";
const AGENT: &str = "tests/python/agent.py";
const PROTO_FOLDER: &str = "derms-proto/proto";
const PROTO: &str = "derms/v1/agent_link.proto";

/// Runs the agent against a headend of its own.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let python = environment(&workspace.target().join("python-venv"))?;
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

/// The interpreter of a virtual environment that holds exactly what the requirements say.
fn environment(venv: &Path) -> Result<PathBuf> {
    let python = venv.join("bin/python");
    let stamp = venv.join("requirements.stamp");
    let wanted = std::fs::read(REQUIREMENTS)
        .map_err(|error| format!("cannot read {REQUIREMENTS}: {error}"))?;
    let complete = std::fs::read(&stamp).is_ok_and(|have| have == wanted);
    // An environment dies with the interpreter it was made from.
    if complete && shell::probe(Command::new(&python).args(["-c", "import grpc"])).is_some() {
        return Ok(python);
    }
    let system = system_python()?;
    shell::run(
        Command::new(system)
            .args(["-m", "venv", "--clear"])
            .arg(venv),
    )?;
    shell::run(
        Command::new(&python)
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
            ])
            .args(["--only-binary", ":all:", "--requirement", REQUIREMENTS]),
    )?;
    std::fs::write(stamp, wanted)?;
    Ok(python)
}

/// A Python that can make virtual environments, which Debian packs apart.
fn system_python() -> Result<&'static str> {
    const CANDIDATES: [&str; 2] = ["python3", "/usr/bin/python3"];
    let find = || {
        CANDIDATES.into_iter().find(|python| {
            shell::probe(Command::new(python).args(["-c", "import venv, ensurepip"])).is_some()
        })
    };
    if let Some(python) = find() {
        return Ok(python);
    }
    system::install(&["python3", "python3-venv"])?;
    find().ok_or_else(|| "python3 is installed but can't make virtual environments".into())
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
