//! What a library must not bring to its users, directly or by way of others. deny.toml sees the
//! whole workspace with every feature at once, and so can't tell this.

use crate::shell::{self, Result};
use crate::workspace::Workspace;

struct Rule {
    library: &'static str,
    features: &'static str,
    without: &'static [&'static str],
    because: &'static str,
}

const RULES: [Rule; 3] = [
    Rule {
        library: "derms-proto",
        features: "--no-default-features",
        without: &["axum", "hyper", "prost", "sqlx", "tokio", "tonic", "utoipa"],
        because: "the shared words know no runtime, no server and no database",
    },
    Rule {
        library: "derms-client",
        features: "--all-features",
        without: &["axum", "prost", "sqlx", "tonic", "utoipa"],
        because: "a client of REST needs no gRPC and nothing of the server",
    },
    Rule {
        library: "derms-agent-sdk",
        features: "--no-default-features",
        without: &["axum", "sqlx", "tower-http", "utoipa"],
        because: "an agent on a small gateway carries no server",
    },
];

/// Fails if a library brings a crate that it must not.
pub(crate) fn check() -> Result<()> {
    for rule in &RULES {
        let tree = shell::read(
            shell::cargo()
                .args(["tree", "--edges=normal", "--prefix=none", "--format={p}"])
                .args(["--package", rule.library, rule.features]),
        )?;
        if let Some(name) = first_forbidden(&String::from_utf8_lossy(&tree), rule.without) {
            return Err(format!(
                "{} brings {name}: {}; see `cargo tree -p {} {} -e normal -i {name}`",
                rule.library, rule.because, rule.library, rule.features
            )
            .into());
        }
    }
    Ok(())
}

/// Fails if a package of the workspace does not take the workspace's lints, `unsafe_code = "forbid"`
/// among them: cargo says nothing about one that forgets to.
pub(crate) fn lints(workspace: &Workspace) -> Result<()> {
    let root = std::fs::read_to_string("Cargo.toml")?;
    if !section(&root, "[workspace.lints.rust]").any(|line| line == "unsafe_code = \"forbid\"") {
        return Err("Cargo.toml: the workspace does not forbid unsafe code".into());
    }
    for package in workspace.packages() {
        let manifest = package["manifest_path"].as_str().unwrap_or_default();
        let text = std::fs::read_to_string(manifest)?;
        if !section(&text, "[lints]").any(|line| line == "workspace = true") {
            return Err(format!("{manifest}: add `[lints]` with `workspace = true`").into());
        }
    }
    Ok(())
}

/// The lines below a heading of a manifest, up to the next.
fn section<'a>(manifest: &'a str, heading: &str) -> impl Iterator<Item = &'a str> {
    let mut lines = manifest.lines();
    lines.find(|line| *line == heading);
    lines.take_while(|line| !line.starts_with('['))
}

fn first_forbidden<'a>(tree: &str, without: &[&'a str]) -> Option<&'a str> {
    let mut names = tree.lines().filter_map(|line| line.split(' ').next());
    names.find_map(|name| without.iter().copied().find(|forbidden| *forbidden == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_takes_the_lints_and_one_that_does_not_would_be_seen() {
        lints(&Workspace::open().unwrap()).unwrap();
        let with = "[lints]\nworkspace = true\n[package]\n";
        let without = "[lints]\n[package]\nworkspace = true\n";
        let takes = |manifest| section(manifest, "[lints]").any(|line| line == "workspace = true");
        assert!(takes(with) && !takes(without) && !takes(""));
    }

    #[test]
    fn a_forbidden_crate_is_found_by_its_whole_name() {
        let tree = "derms-proto v0.1.0 (/somewhere)\ntokio-util v0.7.18\nuuid v1.29.0\n";
        assert_eq!(first_forbidden(tree, &["tokio", "axum"]), None);
        assert_eq!(first_forbidden(tree, &["axum", "uuid"]), Some("uuid"));
    }
}
