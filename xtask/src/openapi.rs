//! The OpenAPI document: made by the headend SDK, checked in, compared.

use std::process::Command;

use crate::shell::{self, Result};
use crate::workspace::Workspace;

const DOCUMENT: &str = "derms-headend-sdk/openapi.json";

/// The document from the code as it is now. The SDK's own example prints it, so that these tasks
/// need not be built with the SDK.
pub(crate) fn generate() -> Result<Vec<u8>> {
    shell::read(shell::cargo().args([
        "run",
        "--quiet",
        "--package",
        "derms-headend-sdk",
        "--all-features",
        "--example",
        "openapi",
    ]))
}

/// The document from the example as the build step left it.
pub(crate) fn from_build(workspace: &Workspace) -> Result<Vec<u8>> {
    shell::read(&mut Command::new(workspace.built("examples/openapi")))
}

/// Writes the document.
pub(crate) fn write(document: &[u8]) -> Result<()> {
    std::fs::write(DOCUMENT, document)
        .map_err(|error| format!("cannot write {DOCUMENT}: {error}").into())
}

/// Fails if the checked-in document is another one.
pub(crate) fn check(document: &[u8]) -> Result<()> {
    let checked_in = std::fs::read(DOCUMENT)
        .map_err(|error| format!("cannot read {DOCUMENT}: {error}; run `cargo xtask openapi`"))?;
    match first_difference(&checked_in, document) {
        None => Ok(()),
        Some(line) => Err(format!(
            "{DOCUMENT} is not what the code gives, from line {line} on; run `cargo xtask openapi` \
             and read the change: clients see it"
        )
        .into()),
    }
}

fn first_difference(old: &[u8], new: &[u8]) -> Option<usize> {
    if old == new {
        return None;
    }
    let same = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    Some(1 + old[..same].iter().filter(|byte| **byte == b'\n').count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_told_by_its_line() {
        assert_eq!(first_difference(b"a\nb\n", b"a\nb\n"), None);
        assert_eq!(first_difference(b"a\nb\n", b"a\nc\n"), Some(2));
        assert_eq!(first_difference(b"a\n", b"a\nb\n"), Some(2));
        assert_eq!(first_difference(b"", b"a"), Some(1));
    }
}
