//! The oldest Rust that a library may be built with, as far as it can be told without one.

use serde_json::Value;

use crate::shell::{self, Result};
use crate::workspace::{LIBRARIES, Workspace};

/// Fails if a dependency asks for a later Rust than the libraries promise to do with. What the
/// standard library has only had since is clippy's `incompatible_msrv`.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let promised = workspace.package(LIBRARIES[0])?["rust_version"].clone();
    let promised = promised
        .as_str()
        .ok_or("the libraries have no `rust-version`")?;
    let json = shell::read(shell::cargo().args([
        "metadata",
        "--format-version=1",
        "--locked",
        "--all-features",
    ]))?;
    let metadata: Value = serde_json::from_slice(&json)?;
    let (later, silent) = later(&metadata["packages"], number(promised));
    if !later.is_empty() {
        return Err(format!(
            "`rust-version` is {promised}, and these ask for more: {}; raise it, or take an older \
             release of them",
            later.join(", ")
        )
        .into());
    }
    println!(
        "no dependency asks for more than Rust {promised}; {silent} do not say what they ask for, \
         and nothing was compiled with it"
    );
    Ok(())
}

/// The packages that ask for a later Rust, and how many ask for none.
fn later(packages: &Value, promised: (u64, u64)) -> (Vec<String>, usize) {
    let (mut later, mut silent) = (Vec::new(), 0);
    for package in packages.as_array().into_iter().flatten() {
        match package["rust_version"].as_str() {
            None => silent += 1,
            Some(wanted) if number(wanted) > promised => {
                let text = |key: &str| package[key].as_str().unwrap_or_default();
                later.push(format!("{} {} ({wanted})", text("name"), text("version")));
            }
            Some(_) => {}
        }
    }
    (later, silent)
}

/// Major and minor, such as of `1.94` or `1.94.0`.
fn number(version: &str) -> (u64, u64) {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_that_asks_for_more_is_named_with_what_it_asks_for() {
        let packages = serde_json::json!([
            {"name": "old", "version": "1.0.0", "rust_version": "1.9.2"},
            {"name": "same", "version": "1.0.0", "rust_version": "1.94.0"},
            {"name": "silent", "version": "1.0.0", "rust_version": null},
            {"name": "new", "version": "2.0.0", "rust_version": "1.95"},
        ]);
        assert_eq!(
            later(&packages, (1, 94)),
            (vec!["new 2.0.0 (1.95)".to_owned()], 1)
        );
    }
}
