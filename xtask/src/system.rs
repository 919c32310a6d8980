//! Programs of the operating system that a step needs.

use std::path::Path;
use std::process::Command;

use crate::shell::{self, Result};

/// Installs Debian packages where that can be done without asking anybody, and says what to
/// install everywhere else.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let names = packages.join(" ");
    let can_install = is_root() && shell::probe(Command::new("apt-get").arg("--version")).is_some();
    if !can_install {
        return Err(format!(
            "missing on this machine: {names}; install it with the system's package manager \
             (Debian: `apt-get install -y {names}` as root)"
        )
        .into());
    }
    let apt = || {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        apt
    };
    shell::run(apt().args(["update", "-qq"]))?;
    shell::run(
        apt()
            .args(["install", "-y", "-qq", "--no-install-recommends"])
            .args(packages),
    )
}

/// Unpacks a Debian package into a folder, and installs nothing: no service is started.
pub(crate) fn unpack(package: &str, folder: &Path) -> Result<()> {
    let has = |program: &str| shell::probe(Command::new(program).arg("--version")).is_some();
    if !has("apt-get") || !has("dpkg-deb") {
        return Err(format!(
            "missing on this machine: {package}; install it with the system's package manager"
        )
        .into());
    }
    std::fs::create_dir_all(folder)?;
    let download = || {
        shell::run(
            Command::new("apt-get")
                .args(["download", "-qq", package])
                .current_dir(folder),
        )
    };
    if download().is_err() {
        // Its version may have gone from the mirror since the last look.
        shell::run(Command::new("apt-get").args(["update", "-qq"]))?;
        download()?;
    }
    for entry in std::fs::read_dir(folder)? {
        let file = entry?.path();
        if file.extension().is_some_and(|ending| ending == "deb") {
            shell::run(Command::new("dpkg-deb").arg("-x").arg(&file).arg(folder))?;
            std::fs::remove_file(file)?;
        }
    }
    Ok(())
}

pub(crate) fn is_root() -> bool {
    shell::probe(Command::new("id").arg("-u")).is_some_and(|output| output.stdout == b"0\n")
}
