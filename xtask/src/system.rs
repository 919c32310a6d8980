//! Programs of the operating system that a step needs.

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

fn is_root() -> bool {
    shell::probe(Command::new("id").arg("-u")).is_some_and(|output| output.stdout == b"0\n")
}
