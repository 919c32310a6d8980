//! The steps that are a cargo command.

use crate::postgres;
use crate::shell::{self, Result};
use crate::system;
use crate::workspace::{LIBRARIES, Workspace};

/// Formatting of every crate.
pub(crate) fn fmt() -> Result<()> {
    shell::run(shell::cargo().args(["fmt", "--all", "--check"]))
        .map_err(|error| format!("{error}; run `cargo fmt --all`").into())
}

/// Lints of every crate, target and feature.
pub(crate) fn clippy() -> Result<()> {
    shell::run(shell::cargo().args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--",
        "-Dwarnings",
    ]))
}

/// Builds everything once, with the features that the tests use: the steps that need a program
/// take it from here, and nothing is compiled a second time for another set of features.
pub(crate) fn build() -> Result<()> {
    shell::run(shell::cargo().args(["build", "--workspace", "--all-targets", "--all-features"]))
}

/// Tests of every kind, the examples in the documentation among them.
pub(crate) fn test() -> Result<()> {
    postgres::ensure()?;
    // The calls in docs/api.md and docs/commissioning.md are made as they stand there.
    if shell::probe(std::process::Command::new("curl").arg("--version")).is_none() {
        system::install(&["curl"])?;
    }
    shell::run(shell::cargo().args(["test", "--workspace", "--all-features"]))
}

/// Documentation, with a broken link as an error.
pub(crate) fn doc() -> Result<()> {
    shell::run(
        shell::cargo()
            .args(["doc", "--workspace", "--no-deps", "--all-features"])
            .env("RUSTDOCFLAGS", "-Dwarnings"),
    )
}

/// Each library without features, with each feature alone and with its default set. Clippy
/// instead of check: it turns what a missing feature leaves unused into an error without other
/// compiler flags, which would build every dependency again.
pub(crate) fn features(workspace: &Workspace) -> Result<()> {
    for library in LIBRARIES {
        for set in workspace.feature_sets(library)? {
            shell::run(
                shell::cargo()
                    .args(["clippy", "--quiet", "--package", library])
                    .args(&set)
                    .args(["--", "-Dwarnings"]),
            )?;
        }
    }
    Ok(())
}
