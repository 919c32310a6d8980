//! What `docs/deploy` has is what the programs take: units, and the image without an engine.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::shell::{self, Result};
use crate::system;
use crate::workspace::Workspace;

const FOLDER: &str = "docs/deploy";
/// Where the files have programs.
const INSTALLED: &str = "/usr/local/bin";
/// An instance of the agent's unit.
const INSTANCE: &str = "7ba7b810-9dad-11d1-80b4-00c04fd430c8";
/// Tenths of what `systemd-analyze security` may say at most; 100 is unprotected.
const MOST_EXPOSED: &str = "--threshold=20";

/// Checks units and image.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    if shell::probe(Command::new("systemd-analyze").arg("--version")).is_none() {
        system::install(&["systemd"])?;
    }
    units(workspace)?;
    image(workspace)
}

/// Units are read by systemd, with our programs where they are built.
fn units(workspace: &Workspace) -> Result<()> {
    let folder = workspace.empty_folder("deploy-units")?;
    for (unit, name, program) in [
        ("der_headend.service", "der_headend.service", "der_headend"),
        (
            "edge_agent@.service",
            &*format!("edge_agent@{INSTANCE}.service"),
            "edge_agent",
        ),
    ] {
        let text = std::fs::read_to_string(Path::new(FOLDER).join(unit))?;
        let set = text
            .lines()
            .filter_map(|line| line.strip_prefix("Environment="));
        known(unit, set, &help(&workspace.built(program))?)?;
        let built = workspace.built(program);
        let built = built.parent().ok_or("a program lies in a folder")?;
        let text = text.replace(INSTALLED, &built.to_string_lossy());
        let path = folder.join(name);
        std::fs::write(&path, text)?;
        shell::run(
            Command::new("systemd-analyze")
                .args(["verify", "--man=no"])
                .arg(&path),
        )?;
        let mut exposed = Command::new("systemd-analyze");
        exposed.args(["security", "--offline=yes", "--no-pager", MOST_EXPOSED]);
        shell::run(exposed.arg(&path))?;
    }
    Ok(())
}

/// The steps of the image that are ours: what is built, what is copied, as whom it runs. It is not
/// built a second time in release: what is copied comes from the debug build, into an empty root.
fn image(workspace: &Workspace) -> Result<()> {
    let text = std::fs::read_to_string(Path::new(FOLDER).join("Containerfile"))?;
    let steps = steps(&text);
    let of = |word: &str| -> Vec<&str> {
        steps
            .iter()
            .filter(|step| step.0 == word)
            .map(|step| step.1)
            .collect()
    };
    let runs = of("RUN");
    let build = runs.iter().find_map(|run| run.strip_prefix("cargo build "));
    let build = build.ok_or("Containerfile: no step is `cargo build`")?;
    if !["--release", "--locked"]
        .iter()
        .all(|flag| build.contains(flag))
    {
        return Err(format!("Containerfile: `cargo build {build}`: use --release --locked").into());
    }
    let packages = packages(build);
    shell::read(
        shell::cargo()
            .args(["tree", "--locked", "--depth=0"])
            .args(packages.iter().flat_map(|name| ["--package", name])),
    )?;
    let users = of("USER");
    let id = users
        .last()
        .and_then(|user| user.split(':').next()?.parse::<u32>().ok());
    if id.is_none_or(|id| id == 0) {
        return Err("Containerfile: name a user by a number that is not 0".into());
    }

    let root = workspace.empty_folder("deploy-root")?;
    for copy in of("COPY") {
        let Some(copy) = copy.strip_prefix("--from=build ") else {
            continue;
        };
        let (from, to) = copy
            .split_once(' ')
            .ok_or("Containerfile: COPY names two paths")?;
        let name = from.strip_prefix("/src/target/release/");
        let name = name.filter(|name| packages.contains(name)).ok_or_else(|| {
            format!("Containerfile: {from} is copied, and `cargo build` does not make it")
        })?;
        let to = root.join(to.trim_start_matches('/'));
        std::fs::create_dir_all(to.parent().unwrap_or(&root))?;
        std::fs::copy(workspace.built(name), &to)?;
    }
    let entry = of("ENTRYPOINT").concat();
    let entry = entry.trim_matches(['[', ']', '"', ' ']);
    let staged = root.join(entry.trim_start_matches('/'));
    known("Containerfile", of("ENV").into_iter(), &help(&staged)?)?;
    shell::run(Command::new(&staged).arg("--version").env_clear())
}

/// Instructions with their words; continued lines are one, comments are none.
fn steps(text: &str) -> Vec<(&str, &str)> {
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(' ')).collect()
}

fn packages(build: &str) -> Vec<&str> {
    let words: Vec<&str> = build.split_whitespace().collect();
    let pairs = words.windows(2).filter(|pair| pair[0] == "--package");
    pairs.map(|pair| pair[1]).collect()
}

/// Fails if a variable is none that the program reads.
fn known<'a>(file: &str, set: impl Iterator<Item = &'a str>, help: &str) -> Result<()> {
    // Of the health check of the image.
    let own = ["HEALTH_URL"];
    let set: BTreeMap<&str, &str> = set.filter_map(|line| line.split_once('=')).collect();
    for name in set.keys() {
        if !own.contains(name)
            && ![']', '=']
                .iter()
                .any(|end| help.contains(&format!("[env: {name}{end}")))
        {
            return Err(format!("{FOLDER}/{file}: no program reads {name}").into());
        }
    }
    Ok(())
}

fn help(program: &Path) -> Result<String> {
    let text = shell::read(Command::new(program).arg("--help").env_clear())?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_read_without_comments() {
        let text = "# why\nFROM a AS b\n\nRUN cargo build --package x --package y\n";
        assert_eq!(
            steps(text),
            [
                ("FROM", "a AS b"),
                ("RUN", "cargo build --package x --package y")
            ]
        );
        assert_eq!(packages("--locked --package x --package y"), ["x", "y"]);
    }

    #[test]
    fn a_variable_that_no_program_reads_is_named() {
        let help = "  [env: ASSETS_PATH=]\n";
        known("f", ["ASSETS_PATH=a"].into_iter(), help).unwrap();
        let error = known("f", ["ASSETS=a"].into_iter(), help).unwrap_err();
        assert_eq!(error.to_string(), "docs/deploy/f: no program reads ASSETS");
    }
}
