//! The public API of each library as a file in git: a change of it is seen in review, held against
//! the last release, and shows no crate that users are not to depend on through us.

mod foreign;
mod listing;
mod release;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::shell::{self, Result};
use crate::workspace::{LIBRARIES, Workspace};
use foreign::Allowed;
use listing::Listing;
use release::Version;

const FOLDER: &str = "docs/api";
const RELEASED: &str = "docs/api/released";
/// Which crates may show in whose API, with the reasons.
const ALLOWED: &str = "docs/api/README.md";

/// What `public-api` reads: the JSON of rustdoc has no stable form, and each release of that crate
/// knows one. On another toolchain the API is not checked.
const FORMAT: u64 = 57;
const TOOLCHAIN: &str = "1.95";

/// Set where this program stands in for rustdoc; holds the name of the real one.
const STAND_IN: &str = "XTASK_AS_RUSTDOC";

/// rustdoc writes JSON with unstable options alone. The variable that allows them must not be seen
/// by build scripts, which probe for it: everything would be compiled anew. So cargo starts
/// this program in rustdoc's place, and this one sets it.
pub(crate) fn as_rustdoc() -> Option<ExitCode> {
    let rustdoc = std::env::var_os(STAND_IN)?;
    let status = Command::new(rustdoc)
        .args(std::env::args_os().skip(1))
        .env("RUSTC_BOOTSTRAP", "1")
        .status();
    let success = status.is_ok_and(|status| status.success());
    Some(if success {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Writes the listings.
pub(crate) fn write(workspace: &Workspace) -> Result<()> {
    for (library, listing) in listings(workspace)?.ok_or_else(other_toolchain)? {
        let path = file(Path::new(FOLDER), library);
        std::fs::write(&path, listing.text())
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(())
}

/// Keeps the listings as those of the version that stands in Cargo.toml.
pub(crate) fn release(workspace: &Workspace) -> Result<()> {
    let version = workspace.version(LIBRARIES[0])?;
    let folder = Path::new(RELEASED).join(version.to_string());
    if folder.exists() {
        return Err(format!(
            "{} exists: what was released does not change; raise the version",
            folder.display()
        )
        .into());
    }
    let listings = listings(workspace)?.ok_or_else(other_toolchain)?;
    std::fs::create_dir_all(&folder)?;
    for (library, listing) in listings {
        std::fs::write(file(&folder, library), listing.text())?;
    }
    println!("wrote {}", folder.display());
    Ok(())
}

/// Fails if an API is not what its listing says, shows a crate that it may not, or has broken
/// with the last release without saying so in the version.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let Some(listings) = listings(workspace)? else {
        println!("NOT CHECKED: {}", other_toolchain());
        return Ok(());
    };
    let allowed = Allowed::read(Path::new(ALLOWED))?;
    let released = release::newest(Path::new(RELEASED))?;
    for (library, listing) in listings {
        allowed.check(library, listing.foreign())?;
        let path = file(Path::new(FOLDER), library);
        let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
        let change = release::Change::between(&checked_in, &listing.text());
        if !change.is_nothing() {
            return Err(format!(
                "{} is not what the code gives:\n{change}run `cargo xtask api` and read the \
                 change: users see it",
                path.display()
            )
            .into());
        }
        if let Some((version, folder)) = &released {
            let old = std::fs::read_to_string(file(folder, library)).unwrap_or_default();
            let change = release::Change::between(&old, &listing.text());
            release::check(*version, workspace.version(library)?, &change)
                .map_err(|error| format!("{library}: {error}"))?;
        }
    }
    if released.is_none() {
        println!("nothing is released yet; `cargo xtask api --release` keeps the first API");
    }
    Ok(())
}

fn file(folder: &Path, library: &str) -> PathBuf {
    folder.join(format!("{library}.txt"))
}

fn other_toolchain() -> String {
    format!(
        "the API is read from rustdoc's JSON of Rust {TOOLCHAIN} (format {FORMAT}), and this \
         toolchain writes another; take `public-api` and FORMAT in xtask along with it"
    )
}

/// The API of each library as the code has it now; `None` on a toolchain that can't tell.
fn listings(workspace: &Workspace) -> Result<Option<Vec<(&'static str, Listing)>>> {
    document()?;
    let mut listings = Vec::new();
    for library in LIBRARIES {
        let name = format!("{}.json", library.replace('-', "_"));
        let json = workspace.target().join("doc").join(name);
        if !listing::can_read(&json, FORMAT)? {
            return Ok(None);
        }
        listings.push((library, Listing::read(&json)?));
    }
    Ok(Some(listings))
}

/// The whole workspace, for then dependencies are as the step before left them.
fn document() -> Result<()> {
    let rustdoc = std::env::var_os("RUSTDOC").unwrap_or_else(|| OsString::from("rustdoc"));
    shell::run(
        shell::cargo()
            .args(["doc", "--quiet", "--workspace", "--lib", "--no-deps"])
            .arg("--all-features")
            .env("RUSTDOC", own_path()?)
            .env(STAND_IN, rustdoc)
            .env(
                "RUSTDOCFLAGS",
                "-Zunstable-options --output-format=json --cap-lints=allow",
            ),
    )
}

/// Where this program lies; Linux marks a file that a build has replaced meanwhile.
fn own_path() -> Result<OsString> {
    let path = std::env::current_exe()?.into_os_string();
    let text = path.to_string_lossy();
    Ok(text
        .strip_suffix(" (deleted)")
        .map_or(path.clone(), OsString::from))
}

impl Workspace {
    fn version(&self, package: &str) -> Result<Version> {
        let text = self.package(package)?["version"]
            .as_str()
            .unwrap_or_default();
        Version::parse(text).ok_or_else(|| format!("{package} has no version, but {text:?}").into())
    }
}
