//! cargo-deny: found or installed, and the checks that need no database.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shell::{self, Result};
use crate::workspace::Workspace;

/// The version that is installed where there is none.
const INSTALLED: &str = "0.20.2";
/// The oldest version that reads our deny.toml.
const OLDEST: (u64, u64) = (0, 20);

/// Layering, banned crates, licences and sources.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let program = find_or_install(workspace)?;
    // Errors only: the many crates with two versions are for who asks (`cargo deny check bans`).
    // The licences that we allow are those that we need.
    shell::run(
        Command::new(program)
            .args([
                "--log-level",
                "error",
                "check",
                "--deny",
                "license-not-encountered",
            ])
            .args(["bans", "licenses", "sources"]),
    )
}

/// A cargo-deny that is new enough: the one on the path, or our own below the target folder.
pub(crate) fn find_or_install(workspace: &Workspace) -> Result<PathBuf> {
    let root = workspace.target().join("tools");
    let own = root
        .join("bin")
        .join(format!("cargo-deny{}", std::env::consts::EXE_SUFFIX));
    for candidate in [Path::new("cargo-deny"), &own] {
        if is_new_enough(candidate) {
            return Ok(candidate.to_owned());
        }
    }
    println!(
        "cargo-deny is missing or older than {}.{}: installing it, which takes minutes",
        OLDEST.0, OLDEST.1
    );
    shell::run(
        shell::cargo()
            .args([
                "install",
                "--locked",
                "--quiet",
                "cargo-deny",
                "--version",
                INSTALLED,
            ])
            .arg("--root")
            .arg(&root),
    )
    .map_err(|error| {
        format!(
            "{error}; install it by hand: `cargo install --locked cargo-deny --version {INSTALLED}`"
        )
    })?;
    Ok(own)
}

fn is_new_enough(program: &Path) -> bool {
    shell::probe(Command::new(program).arg("--version"))
        .and_then(|output| version(&String::from_utf8_lossy(&output.stdout)))
        .is_some_and(|found| found >= OLDEST)
}

/// Major and minor of a line such as `cargo-deny 0.20.2`.
fn version(line: &str) -> Option<(u64, u64)> {
    let mut parts = line.split_whitespace().nth(1)?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(version("cargo-deny 0.20.2\n"), Some((0, 20)));
        assert!(version("cargo-deny 0.9.0") < Some(OLDEST));
        assert!(version("cargo-deny 1.0.0") > Some(OLDEST));
        assert_eq!(version("bash: cargo-deny: not found"), None);
    }
}
