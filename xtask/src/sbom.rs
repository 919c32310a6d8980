//! What is in each program and library: a CycloneDX 1.5 document, the same for the same sources.
//!
//! Written here and not by cargo-cyclonedx: that is one more tool to build in CI, and it takes
//! checksums and exact features of a program from neither Cargo.lock nor `cargo tree`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::shell::{self, Result};
use crate::workspace::{LIBRARIES, Workspace};

const PROGRAMS: [&str; 4] = ["agent_launcher", "der_headend", "derms", "edge_agent"];

/// Name and version, of which there is one source each in this workspace (deny.toml).
type Id = (String, String);

/// Every package of the workspace with all that it may be built with.
#[derive(Debug, Default)]
struct Packages {
    /// As `cargo metadata` tells them.
    all: BTreeMap<Id, Value>,
    /// What each needs, to be built or to run; tests apart.
    needs: BTreeMap<Id, BTreeSet<Id>>,
    /// SHA-256 of what the registry serves.
    checksums: BTreeMap<Id, String>,
}

/// Writes a document for each program and library, and one of the whole workspace, its tests and
/// tools among it.
pub(crate) fn write(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let packages = Packages::read()?;
    let folder = workspace.target().join("sbom");
    std::fs::create_dir_all(&folder)?;
    let time = time()?;
    let mut written = Vec::new();
    for (names, kind, features) in [
        (&PROGRAMS[..], "application", None),
        (&LIBRARIES[..], "library", Some("--all-features")),
    ] {
        for name in names {
            let root = packages.of_workspace(name)?;
            let parts = tree(name, features)?;
            let document = packages.document(&root, kind, &parts, time.as_deref())?;
            written.push(store(&folder, name, &document)?);
        }
    }
    let root = packages.of_workspace("xtask")?;
    let everything = packages.all.keys().cloned().collect();
    let document = packages.document(&root, "application", &everything, time.as_deref())?;
    written.push(store(&folder, "workspace", &document)?);
    Ok(written)
}

/// The documents can be made, and come out the same each time.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let read = || -> Result<Vec<(PathBuf, Vec<u8>)>> {
        let files = write(workspace)?.into_iter();
        files
            .map(|file| Ok((file.clone(), std::fs::read(file)?)))
            .collect()
    };
    let (first, second) = (read()?, read()?);
    if first != second {
        return Err("two runs gave different documents".into());
    }
    for (path, _) in first {
        println!("{}", path.display());
    }
    Ok(())
}

fn store(folder: &Path, name: &str, document: &Value) -> Result<PathBuf> {
    let path = folder.join(format!("{name}.cdx.json"));
    let text = serde_json::to_string_pretty(document)? + "\n";
    std::fs::write(&path, text)?;
    Ok(path)
}

/// The time that a reproducible build is told to show; none otherwise.
fn time() -> Result<Option<String>> {
    let Ok(seconds) = std::env::var("SOURCE_DATE_EPOCH") else {
        return Ok(None);
    };
    let at = OffsetDateTime::from_unix_timestamp(seconds.parse()?)?;
    Ok(Some(at.format(&Rfc3339)?))
}

/// What is compiled into a package on any target.
fn tree(name: &str, features: Option<&str>) -> Result<BTreeSet<Id>> {
    let tree = shell::read(
        shell::cargo()
            .args(["tree", "--edges=normal,build", "--target=all"])
            .args(["--prefix=none", "--format={p}", "--package", name])
            .args(features),
    )?;
    let tree = String::from_utf8(tree)?;
    Ok(tree.lines().filter_map(listed).collect())
}

/// From a line such as `time v0.3.47 (proc-macro)`.
fn listed(line: &str) -> Option<Id> {
    let mut words = line.split(' ');
    let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
    Some((name.to_owned(), version.to_owned()))
}

impl Packages {
    fn read() -> Result<Self> {
        let metadata = [
            "metadata",
            "--format-version=1",
            "--all-features",
            "--locked",
        ];
        let metadata = shell::read(shell::cargo().args(metadata))?;
        let lock = std::fs::read_to_string("Cargo.lock")?;
        Self::of(&serde_json::from_slice(&metadata)?, &lock)
    }

    fn of(metadata: &Value, lock: &str) -> Result<Self> {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let mut packages = Self {
            checksums: checksums(lock),
            ..Self::default()
        };
        let mut names = BTreeMap::new();
        for package in list(&metadata["packages"]) {
            let id = (text(&package["name"])?, text(&package["version"])?);
            names.insert(text(&package["id"])?, id.clone());
            packages.all.insert(id, package);
        }
        let name = |id: &Value| -> Result<Id> {
            let name = names.get(&text(id)?);
            Ok(name.ok_or("an id without a package")?.clone())
        };
        for node in list(&metadata["resolve"]["nodes"]) {
            let mut needs = BTreeSet::new();
            for dependency in list(&node["deps"]) {
                let kinds = list(&dependency["dep_kinds"]);
                if kinds.iter().any(|kind| kind["kind"] != "dev") {
                    needs.insert(name(&dependency["pkg"])?);
                }
            }
            packages.needs.insert(name(&node["id"])?, needs);
        }
        Ok(packages)
    }

    fn of_workspace(&self, name: &str) -> Result<Id> {
        let mut ids = self.all.iter();
        ids.find(|((found, _), package)| found == name && package["source"].is_null())
            .map(|(id, _)| id.clone())
            .ok_or_else(|| format!("the workspace has no package {name}").into())
    }

    fn document(
        &self,
        root: &Id,
        kind: &str,
        parts: &BTreeSet<Id>,
        time: Option<&str>,
    ) -> Result<Value> {
        let mut components = Vec::new();
        let mut dependencies = Vec::new();
        for id in parts {
            if id != root {
                components.push(self.component(id, "library")?);
            }
            let needs = self.needs.get(id).into_iter().flatten();
            let needs = needs.filter(|need| parts.contains(need)).map(reference);
            dependencies
                .push(json!({"ref": reference(id), "dependsOn": needs.collect::<Vec<_>>()}));
        }
        let mut document = json!({
            "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "version": 1,
            "metadata": {"component": self.component(root, kind)?},
            "components": components,
            "dependencies": dependencies,
        });
        if let Some(time) = time {
            document["metadata"]["timestamp"] = time.into();
        }
        Ok(document)
    }

    fn component(&self, id: &Id, kind: &str) -> Result<Value> {
        let package = self.all.get(id).ok_or_else(|| {
            format!(
                "{} {} is built and cargo metadata does not know it",
                id.0, id.1
            )
        })?;
        let mut component = json!({
            "type": kind,
            "bom-ref": reference(id),
            "name": id.0,
            "version": id.1,
            "purl": reference(id),
        });
        if let Some(license) = package["license"].as_str() {
            // The form of old crates.
            let license = license.replace('/', " OR ");
            component["licenses"] = json!([{"expression": license}]);
        }
        if let Some(description) = package["description"].as_str() {
            component["description"] = description.trim().into();
        }
        if let Some(repository) = package["repository"].as_str() {
            component["externalReferences"] = json!([{"type": "vcs", "url": repository}]);
        }
        if let Some(checksum) = self.checksums.get(id) {
            component["hashes"] = json!([{"alg": "SHA-256", "content": checksum}]);
        } else if !package["source"].is_null() {
            return Err(format!("Cargo.lock has no checksum of {} {}", id.0, id.1).into());
        }
        Ok(component)
    }
}

fn reference((name, version): &Id) -> String {
    // `+` has a meaning in a URL.
    format!("pkg:cargo/{name}@{}", version.replace('+', "%2B"))
}

fn text(value: &Value) -> Result<String> {
    Ok(value
        .as_str()
        .ok_or("cargo metadata lacks a text")?
        .to_owned())
}

/// Of each package of a registry. Cargo writes one key a line, name and version first.
fn checksums(lock: &str) -> BTreeMap<Id, String> {
    let mut checksums = BTreeMap::new();
    for package in lock.split("[[package]]").skip(1) {
        let value = |key: &str| {
            package.lines().find_map(|line| {
                let value = line.strip_prefix(key)?.strip_prefix(" = \"")?;
                Some(value.strip_suffix('"')?.to_owned())
            })
        };
        if let (Some(name), Some(version), Some(sum)) =
            (value("name"), value("version"), value("checksum"))
        {
            checksums.insert((name, version), sum);
        }
    }
    checksums
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packages() -> Packages {
        Workspace::open().unwrap();
        Packages::read().unwrap()
    }

    fn references(list: &Value) -> BTreeSet<String> {
        let list = list.as_array().unwrap().iter();
        list.map(|item| item["bom-ref"].as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn every_package_of_the_workspace_is_in_its_document_and_every_edge_has_both_ends() {
        let packages = packages();
        let root = packages.of_workspace("xtask").unwrap();
        let all: BTreeSet<Id> = packages.all.keys().cloned().collect();
        let document = packages.document(&root, "application", &all, None).unwrap();
        let mut found = references(&document["components"]);
        found.insert(reference(&root));
        let metadata =
            shell::read(shell::cargo().args(["metadata", "--format-version=1", "--all-features"]));
        let metadata: Value = serde_json::from_slice(&metadata.unwrap()).unwrap();
        for package in metadata["packages"].as_array().unwrap() {
            let id = (
                text(&package["name"]).unwrap(),
                text(&package["version"]).unwrap(),
            );
            assert!(found.contains(&reference(&id)), "{id:?} is missing");
        }
        for edge in document["dependencies"].as_array().unwrap() {
            for end in edge["dependsOn"].as_array().unwrap() {
                assert!(found.contains(end.as_str().unwrap()), "{end} leads nowhere");
            }
        }
    }

    #[test]
    fn a_component_of_a_registry_has_its_licence_and_the_checksum_of_the_lock_file() {
        let packages = packages();
        for (id, package) in &packages.all {
            let component = packages.component(id, "library").unwrap();
            assert!(component["licenses"][0]["expression"].is_string(), "{id:?}");
            let has_hash = component["hashes"][0]["content"].is_string();
            assert_eq!(has_hash, !package["source"].is_null(), "{id:?}");
        }
    }

    #[test]
    fn a_program_has_no_part_that_only_its_tests_need() {
        Workspace::open().unwrap();
        let parts = tree("edge_agent", None).unwrap();
        let has = |name: &str| parts.iter().any(|(found, _)| found == name);
        assert!(has("tonic") && has("derms-agent-sdk"));
        assert!(!has("proptest") && !has("axum") && !has("sqlx"));
    }

    #[test]
    fn checksums_are_those_of_their_package() {
        let lock = "[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = \"s\"\nchecksum = \"aa\"\n\n\
            [[package]]\nname = \"b\"\nversion = \"2.0.0\"\n";
        let sums = checksums(lock);
        let a = ("a".to_owned(), "1.0.0".to_owned());
        assert_eq!(sums, BTreeMap::from([(a, "aa".to_owned())]));
    }
}
