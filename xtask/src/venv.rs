//! Virtual environments of Python, one a step, made once.

use std::path::PathBuf;
use std::process::Command;

use crate::shell::{self, Result};
use crate::system;
use crate::workspace::Workspace;

/// The interpreter of the virtual environment of a step, which holds exactly what the file
/// `requirements` says; it is made when it is not there. `probe` is Python that works in it.
pub(crate) fn environment(
    workspace: &Workspace,
    step: &str,
    requirements: &str,
    probe: &str,
) -> Result<PathBuf> {
    let venv = workspace.target().join(format!("{step}-venv"));
    let python = venv.join("bin/python");
    let stamp = venv.join("requirements.stamp");
    let wanted = std::fs::read(requirements)
        .map_err(|error| format!("cannot read {requirements}: {error}"))?;
    let complete = std::fs::read(&stamp).is_ok_and(|have| have == wanted);
    // An environment dies with the interpreter it was made from.
    if complete && shell::probe(Command::new(&python).args(["-c", probe])).is_some() {
        return Ok(python);
    }
    let system = system_python()?;
    shell::run(
        Command::new(system)
            .args(["-m", "venv", "--clear"])
            .arg(&venv),
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
            .args(["--only-binary", ":all:", "--requirement", requirements]),
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
