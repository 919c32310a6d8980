//! What a library must not bring to its users, directly or by way of others. deny.toml sees the
//! whole workspace with every feature at once, and so can't tell this.

use crate::shell::{self, Result};

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

fn first_forbidden<'a>(tree: &str, without: &[&'a str]) -> Option<&'a str> {
    let mut names = tree.lines().filter_map(|line| line.split(' ').next());
    names.find_map(|name| without.iter().copied().find(|forbidden| *forbidden == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forbidden_crate_is_found_by_its_whole_name() {
        let tree = "derms-proto v0.1.0 (/somewhere)\ntokio-util v0.7.18\nuuid v1.29.0\n";
        assert_eq!(first_forbidden(tree, &["tokio", "axum"]), None);
        assert_eq!(first_forbidden(tree, &["axum", "uuid"]), Some("uuid"));
    }
}
