//! Where the workspace is and what is in it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::shell::{self, Result};

/// The crates that are published: each must build with every feature alone and with none.
pub(crate) const LIBRARIES: [&str; 4] = [
    "derms-proto",
    "derms-agent-sdk",
    "derms-headend-sdk",
    "derms-client",
];

/// The workspace as cargo sees it.
#[derive(Debug)]
pub(crate) struct Workspace {
    target: PathBuf,
    metadata: Value,
}

impl Workspace {
    /// Reads the workspace and makes its root the current directory, so that every path in
    /// these tasks is relative to it wherever the task was started.
    pub(crate) fn open() -> Result<Self> {
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest
            .parent()
            .ok_or("the xtask crate has no parent folder")?;
        std::env::set_current_dir(root)
            .map_err(|error| format!("cannot enter {}: {error}", root.display()))?;
        let json =
            shell::read(shell::cargo().args(["metadata", "--format-version=1", "--no-deps"]))?;
        let metadata: Value = serde_json::from_slice(&json)?;
        let target = metadata["target_directory"]
            .as_str()
            .ok_or("cargo metadata names no target directory")?
            .into();
        Ok(Self { target, metadata })
    }

    /// Cargo's target directory, which may be outside the workspace.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// The program or example `name` as the build step leaves it.
    pub(crate) fn built(&self, name: &str) -> PathBuf {
        self.program("debug", name)
    }

    /// The program `name` as built with this profile.
    pub(crate) fn program(&self, profile: &str, name: &str) -> PathBuf {
        let name = format!("{name}{}", std::env::consts::EXE_SUFFIX);
        self.target.join(profile).join(name)
    }

    /// A folder in the target directory with nothing in it.
    pub(crate) fn empty_folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.target.join(name);
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// What cargo knows of a package of this workspace.
    pub(crate) fn package(&self, name: &str) -> Result<&Value> {
        self.packages()
            .find(|package| package["name"] == name)
            .ok_or_else(|| format!("the workspace has no package {name}").into())
    }

    /// The packages of this workspace.
    pub(crate) fn packages(&self) -> impl Iterator<Item = &Value> {
        self.metadata["packages"].as_array().into_iter().flatten()
    }

    /// What a crate can be built with: no feature, each feature alone, and the default set
    /// where it is more than nothing. Each entry is the arguments for cargo.
    pub(crate) fn feature_sets(&self, package: &str) -> Result<Vec<Vec<String>>> {
        let features = self.package(package)?["features"]
            .as_object()
            .ok_or_else(|| format!("cargo metadata names no features of {package}"))?;
        let none = || vec!["--no-default-features".to_owned()];
        let mut sets = vec![none()];
        for (name, members) in features {
            if name != "default" {
                let mut alone = none();
                alone.extend(["--features".to_owned(), name.clone()]);
                sets.push(alone);
            } else if members.as_array().is_some_and(|list| !list.is_empty()) {
                sets.push(Vec::new());
            }
        }
        Ok(sets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(features: &Value) -> Workspace {
        Workspace {
            target: "target".into(),
            metadata: serde_json::json!({"packages": [{"name": "a", "features": features}]}),
        }
    }

    #[test]
    fn every_feature_is_tried_alone_and_an_empty_default_is_not_tried_twice() {
        let sets = workspace(&serde_json::json!({"default": [], "x": ["dep:y"]}))
            .feature_sets("a")
            .unwrap();
        assert_eq!(
            sets,
            [
                vec!["--no-default-features"],
                vec!["--no-default-features", "--features", "x"]
            ]
        );
    }

    #[test]
    fn a_default_set_is_tried_as_a_user_gets_it() {
        let sets = workspace(&serde_json::json!({"default": ["x"], "x": []}))
            .feature_sets("a")
            .unwrap();
        assert_eq!(sets.len(), 3);
        assert!(sets.contains(&Vec::new()));
    }

    #[test]
    fn an_unknown_package_is_an_error() {
        let error = workspace(&serde_json::json!({}))
            .feature_sets("b")
            .unwrap_err();
        assert_eq!(error.to_string(), "the workspace has no package b");
    }
}
