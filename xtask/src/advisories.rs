//! Known vulnerabilities, from the RustSec database or from a snapshot of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shell::{self, Result};
use crate::workspace::Workspace;
use crate::{deny, system};

/// Names a tar.gz of the database for machines that can't fetch it.
const SNAPSHOT: &str = "DERMS_ADVISORY_DB";
/// `db-path` of deny.toml.
const DATABASES: &str = "target/advisory-db";
/// What cargo-deny calls the checkout: it derives the name from the URL of the database.
const CHECKOUT: &str = "advisory-db-3157b0e258782691";
/// Present where the database came from a snapshot, from which no fetch can go on.
const MARK: &str = "target/advisory-db/from-snapshot";

/// Fails on an advisory, and fails if there is no database to look in.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let program = deny::find_or_install(workspace)?;
    // Both ways to the database go through git.
    if shell::probe(Command::new("git").arg("--version")).is_none() {
        system::install(&["git"])?;
    }
    match std::env::var_os(SNAPSHOT).filter(|path| !path.is_empty()) {
        Some(path) => unpack(&PathBuf::from(path))?,
        None => fetch(&program)?,
    }
    // Offline from here on: the verdict depends on the database and on nothing else.
    shell::run(shell::cargo().args(["fetch", "--quiet"]))?;
    shell::run(Command::new(program).args([
        "--log-level",
        "error",
        "--offline",
        "check",
        "advisories",
    ]))
    .map_err(|error| {
        format!(
            "{error}; update the crate (`cargo update -p NAME`), or list the advisory in deny.toml \
             with the reason why it does not apply"
        )
        .into()
    })
}

fn fetch(program: &Path) -> Result<()> {
    if Path::new(MARK).exists() {
        std::fs::remove_dir_all(DATABASES)?;
    }
    shell::run(Command::new(program).args(["fetch", "db"])).map_err(|error| {
        format!(
            "cannot fetch the advisory database: {error}; on a machine without access to it set \
             {SNAPSHOT} to a tar.gz of https://github.com/rustsec/advisory-db"
        )
        .into()
    })
}

/// Makes of a snapshot the git repository that cargo-deny looks for.
fn unpack(snapshot: &Path) -> Result<()> {
    if !snapshot.is_file() {
        return Err(format!("{SNAPSHOT} names {}, which is no file", snapshot.display()).into());
    }
    println!("the advisory database is the snapshot that {SNAPSHOT} names");
    let checkout = Path::new(DATABASES).join(CHECKOUT);
    if Path::new(DATABASES).exists() {
        std::fs::remove_dir_all(DATABASES)?;
    }
    std::fs::create_dir_all(&checkout)?;
    std::fs::write(MARK, "")?;
    shell::run(
        Command::new("tar")
            .arg("-xzf")
            .arg(snapshot)
            .arg("-C")
            .arg(&checkout)
            .arg("--strip-components=1"),
    )?;
    if !checkout.join("crates").is_dir() {
        return Err(format!(
            "{} holds no advisory database: it has no folder crates/",
            snapshot.display()
        )
        .into());
    }
    for args in [
        &["init", "--quiet"][..],
        &["add", "--all"],
        &["commit", "--quiet", "--message=snapshot"],
    ] {
        shell::run(git(&checkout).args(args))?;
    }
    // cargo-deny reads the age of the database off this file.
    std::fs::write(checkout.join(".git/FETCH_HEAD"), "")?;
    Ok(())
}

/// Git in `folder` and nowhere else: neither a repository that a hook has put into the
/// environment nor anybody's settings (signing, hooks, ignored files) may have a say.
fn git(folder: &Path) -> Command {
    let mut git = Command::new("git");
    git.arg("-C").arg(folder);
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        git.env_remove(name);
    }
    git.env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .envs(["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"].map(|name| (name, "snapshot")))
        .envs(["GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"].map(|name| (name, "snapshot@localhost")));
    git
}
