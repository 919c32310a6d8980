//! What is published: which crates, what they say of themselves, what is in their packages, and
//! that this builds where nothing else of the workspace is.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::shell::{self, Result};
use crate::workspace::{LIBRARIES, Workspace};

/// In the package of every library.
const ALWAYS: [&str; 5] = [
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "src/lib.rs",
];

/// What one library has besides: what its build, its tests or its readers need.
const BESIDES: [(&str, &str); 6] = [
    ("derms-proto", "proto/derms/v1/agent_link.proto"),
    ("derms-proto", "proto/released/v1.0.binpb"),
    ("derms-proto", "src/generated/derms.v1.binpb"),
    ("derms-proto", "src/generated/derms.v1.rs"),
    ("derms-proto", "tests/golden/v1.0/agent_register.bin"),
    ("derms-headend-sdk", "openapi.json"),
];

/// Files at the root of a package that cargo or we put there.
const AT_ROOT: [&str; 10] = [
    ".cargo_vcs_info.json",
    "Cargo.lock",
    "Cargo.toml",
    "Cargo.toml.orig",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "build.rs",
    "clippy.toml",
    "openapi.json",
];

const FOLDERS: [&str; 7] = [
    "benches",
    "docs",
    "examples",
    "migrations",
    "proto",
    "src",
    "tests",
];

/// What a folder may hold; anything else has got there by mistake.
const KINDS: [&str; 8] = [
    ".bin",
    ".binpb",
    ".gitattributes",
    ".json",
    ".md",
    ".proto",
    ".rs",
    ".sql",
];

/// Packed. A tenth of what crates.io takes.
const MOST_BYTES: u64 = 1 << 20;

/// Checks every library as it would be published, and that nothing else would be.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    for package in workspace.packages() {
        let name = package["name"].as_str().unwrap_or_default();
        let publishable = package["publish"]
            .as_array()
            .is_none_or(|to| !to.is_empty());
        if publishable != LIBRARIES.contains(&name) {
            return Err(format!(
                "{name}: the libraries are published and nothing else is; set `publish = false` or \
                 name it in xtask/src/workspace.rs"
            )
            .into());
        }
    }
    for library in LIBRARIES {
        let told = missing(workspace.package(library)?);
        if !told.is_empty() {
            return Err(format!("{library}/Cargo.toml: {}", told.join("; ")).into());
        }
        let list = shell::read(
            shell::cargo()
                .args(["package", "--quiet", "--list", "--allow-dirty"])
                .args(["--package", library]),
        )?;
        let files = String::from_utf8_lossy(&list);
        let files: BTreeSet<&str> = files.lines().collect();
        check_files(library, &files)?;
        check_includes(Path::new(library), &files)?;
    }
    let packages = pack(workspace)?;
    shell::run(
        shell::cargo()
            .args(["check", "--quiet", "--offline", "--workspace"])
            .args(["--all-targets", "--all-features", "--manifest-path"])
            .arg(unpack(workspace, &packages)?)
            .arg("--target-dir")
            .arg(workspace.target()),
    )
}

/// Makes the packages; answers where each is.
fn pack(workspace: &Workspace) -> Result<Vec<(&'static str, PathBuf)>> {
    let make = |how: &[&str]| {
        let mut cargo = shell::cargo();
        cargo
            .args(["package", "--quiet", "--allow-dirty", "--no-verify"])
            .args(how);
        for library in LIBRARIES {
            cargo.args(["--package", library]);
        }
        shell::run(&mut cargo)
    };
    // What the workspace was built with is known here; only a new cargo home has to ask.
    make(&["--offline"]).or_else(|_| make(&[]))?;
    let mut packages = Vec::new();
    for library in LIBRARIES {
        let version = workspace.package(library)?["version"].as_str();
        let name = format!("{library}-{}", version.unwrap_or_default());
        let path = workspace.target().join("package").join(&name);
        let path = path.with_file_name(format!("{name}.crate"));
        let packed = std::fs::metadata(&path)?.len();
        if packed > MOST_BYTES {
            return Err(
                format!("the package of {library} has {packed} bytes: what is in it?").into(),
            );
        }
        packages.push((library, path));
    }
    Ok(packages)
}

/// Unpacks them into a workspace of their own; answers its manifest. Cargo's own verification
/// takes the packages of this workspace from a registry, whose crates it holds to be unchangeable: the
/// second time it would build what the first time was in them.
fn unpack(workspace: &Workspace, packages: &[(&str, PathBuf)]) -> Result<PathBuf> {
    let folder = workspace.target().join("xtask/packages");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    let (mut members, mut patches) = (String::new(), String::new());
    for (library, package) in packages {
        // With the time of now: that in the package is always the same, and cargo goes by it.
        shell::run(
            Command::new("tar")
                .arg("-xzmf")
                .arg(package)
                .arg("-C")
                .arg(&folder),
        )?;
        let name = package.file_stem().unwrap_or_default().to_string_lossy();
        members.push_str(&format!("    \"{name}\",\n"));
        patches.push_str(&format!("{library} = {{ path = \"{name}\" }}\n"));
    }
    let root = std::fs::read_to_string("Cargo.toml")?;
    // The same profiles, so that dependencies are not compiled again.
    let profiles = root.find("[profile").map_or("", |at| &root[at..]);
    let manifest = folder.join("Cargo.toml");
    let text = format!(
        "[workspace]\nresolver = \"3\"\nmembers = [\n{members}]\n\n[patch.crates-io]\n{patches}\n{profiles}"
    );
    std::fs::write(&manifest, text)?;
    std::fs::copy("Cargo.lock", folder.join("Cargo.lock"))?;
    Ok(manifest)
}

/// What a library should say of itself and does not. No repository or homepage is asked for:
/// there is no address yet that would be true.
fn missing(package: &Value) -> Vec<&'static str> {
    let text = |key: &str| package[key].as_str().unwrap_or_default();
    let count = |key: &str| package[key].as_array().map_or(0, Vec::len);
    let all_features = &package["metadata"]["docs"]["rs"]["all-features"];
    let rules = [
        (
            text("description").len() >= 30,
            "say in `description` what it is for",
        ),
        (
            text("license") == "MIT OR Apache-2.0",
            "take `license` from the workspace",
        ),
        (text("readme") == "README.md", "it has no `readme`"),
        (
            !text("rust_version").is_empty(),
            "take `rust-version` from the workspace",
        ),
        (
            (1..=5).contains(&count("keywords")),
            "give 1 to 5 `keywords`",
        ),
        (
            (1..=5).contains(&count("categories")),
            "give 1 to 5 `categories`",
        ),
        (
            *all_features == Value::Bool(true),
            "let docs.rs show all features",
        ),
    ];
    let broken = rules.into_iter().filter(|(holds, _)| !holds);
    broken.map(|(_, remedy)| remedy).collect()
}

fn check_files(library: &str, files: &BTreeSet<&str>) -> Result<()> {
    let besides = BESIDES.iter().filter(|(of, _)| *of == library);
    let needed = ALWAYS.into_iter().chain(besides.map(|(_, file)| *file));
    for file in needed {
        if !files.contains(file) {
            return Err(format!("the package of {library} has no {file}").into());
        }
    }
    match files.iter().find(|file| !is_known(file)) {
        None => Ok(()),
        Some(file) => Err(format!(
            "the package of {library} has {file}; exclude it, or allow it in xtask/src/package.rs"
        )
        .into()),
    }
}

fn is_known(file: &str) -> bool {
    match file.split_once('/') {
        None => AT_ROOT.contains(&file),
        Some((folder, _)) => {
            FOLDERS.contains(&folder) && KINDS.iter().any(|kind| file.ends_with(kind))
        }
    }
}

/// The build of a package sees what its default features include; this sees all of it, the guides
/// among the documentation tests too.
fn check_includes(folder: &Path, files: &BTreeSet<&str>) -> Result<()> {
    for file in files.iter().filter(|file| file.ends_with(".rs")) {
        let source = std::fs::read_to_string(folder.join(file))?;
        for included in included(&source) {
            let path = Path::new(file).with_file_name(included);
            let inside = normal(&path).is_some_and(|path| {
                files.contains(path.to_string_lossy().replace('\\', "/").as_str())
            });
            if !inside {
                return Err(format!(
                    "{}/{file} includes {included}, which is not in its package",
                    folder.display()
                )
                .into());
            }
        }
    }
    Ok(())
}

/// The files that a source names, as it names them.
fn included(source: &str) -> impl Iterator<Item = &str> {
    [
        "include_str!(\"",
        "include_bytes!(\"",
        "include!(\"",
        "#[path = \"",
    ]
    .into_iter()
    .flat_map(|start| source.split(start).skip(1))
    .filter_map(|rest| rest.split('"').next())
}

/// Without `..`; `None` for what leads out.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                if !normal.pop() {
                    return None;
                }
            }
            Component::CurDir => {}
            part => normal.push(part),
        }
    }
    Some(normal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_library_does_not_say_is_told_with_what_to_do() {
        let mut package = serde_json::json!({
            "description": "Something that is useful for somebody",
            "license": "MIT OR Apache-2.0",
            "readme": "README.md",
            "rust_version": "1.94",
            "keywords": ["der"],
            "categories": ["asynchronous"],
            "metadata": {"docs": {"rs": {"all-features": true}}},
        });
        assert!(missing(&package).is_empty());
        package["keywords"] = serde_json::json!([]);
        package["metadata"] = Value::Null;
        assert_eq!(
            missing(&package),
            ["give 1 to 5 `keywords`", "let docs.rs show all features"]
        );
        assert_eq!(missing(&Value::Null).len(), 7);
    }

    #[test]
    fn a_file_that_lacks_and_a_file_that_is_strange_are_named() {
        let mut files = BTreeSet::from(ALWAYS);
        check_files("derms-client", &files).unwrap();
        for strange in [".env", "src/lib.rs.orig", "data/x.json", "tests/key.pem"] {
            files.insert(strange);
            let error = check_files("derms-client", &files).unwrap_err();
            assert!(error.to_string().contains(strange), "{error}");
            files.remove(strange);
        }
        files.remove("LICENSE-MIT");
        let error = check_files("derms-client", &files).unwrap_err();
        assert!(error.to_string().ends_with("has no LICENSE-MIT"), "{error}");
    }

    #[test]
    fn files_that_a_source_names_are_found_in_every_form() {
        let source = concat!(
            "#[doc = include_",
            "str!(\"../docs/a.md\")] #[path",
            " = \"b.rs\"] mod b; include",
            "!(\"c.rs\"); include_",
            "bytes!(\"d.bin\")"
        );
        let mut found: Vec<&str> = included(source).collect();
        found.sort_unstable();
        assert_eq!(found, ["../docs/a.md", "b.rs", "c.rs", "d.bin"]);
    }

    #[test]
    fn a_path_that_leads_out_of_the_package_is_no_path_in_it() {
        let normal = |path| normal(Path::new(path));
        assert_eq!(normal("src/../docs/a.md"), Some("docs/a.md".into()));
        assert_eq!(normal("src/../../docs/a.md"), None);
    }
}
