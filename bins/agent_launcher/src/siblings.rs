//! The programs that are started: they lie beside this one, and cargo can make them.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use derms_program::Failure;
use tokio::process::Command;

/// Where the programs are.
#[derive(Debug)]
pub(crate) struct Siblings {
    folder: PathBuf,
}

impl Siblings {
    /// Finds `names` beside this program; started by `cargo run`, it has cargo build them first.
    pub(crate) async fn prepare(names: &[&str]) -> Result<Self, Failure> {
        let exe = std::env::current_exe().map_err(|error| {
            Failure::start(format!("can't find out where this program is: {error}"))
        })?;
        if let Some(build) = Build::from_environment(|name| std::env::var_os(name), &exe, names) {
            build.run().await?;
        }
        let folder = exe.parent().unwrap_or(Path::new(".")).to_owned();
        let siblings = Self { folder };
        match names.iter().find(|name| !siblings.path(name).is_file()) {
            None => Ok(siblings),
            Some(missing) => Err(Failure::start(format!(
                "{missing} is not in {}; build it with `cargo build -p {missing}`, \
                 or start this program with `cargo run -p agent_launcher`",
                siblings.folder.display()
            ))),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder
            .join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
    }
}

/// A run of cargo that makes the siblings.
#[derive(Debug, PartialEq)]
struct Build {
    cargo: OsString,
    args: Vec<OsString>,
}

impl Build {
    /// `None` unless `cargo run` has started this program: its tests inherit cargo's variables
    /// too, but those of another package.
    fn from_environment(
        variable: impl Fn(&str) -> Option<OsString>,
        exe: &Path,
        names: &[&str],
    ) -> Option<Self> {
        let cargo = variable("CARGO")?;
        let manifest = Path::new(&variable("CARGO_MANIFEST_DIR")?).join("Cargo.toml");
        if variable("CARGO_PKG_NAME")? != env!("CARGO_PKG_NAME") {
            return None;
        }
        // <target>/<profile>/agent_launcher
        let folder = exe.parent()?;
        let mut args: Vec<OsString> =
            vec!["build".into(), "--manifest-path".into(), manifest.into()];
        args.extend(["--target-dir".into(), folder.parent()?.into()]);
        match folder.file_name().and_then(OsStr::to_str)? {
            "debug" => {}
            profile => args.extend(["--profile".into(), profile.into()]),
        }
        for name in names {
            args.extend(["--package".into(), name.into()]);
        }
        Some(Self { cargo, args })
    }

    async fn run(self) -> Result<(), Failure> {
        let status = Command::new(&self.cargo)
            .args(&self.args)
            .kill_on_drop(true)
            .status()
            .await
            .map_err(|error| {
                Failure::start(format!("can't run {}: {error}", self.cargo.display()))
            })?;
        if status.success() {
            Ok(())
        } else {
            Err(Failure::start(format!(
                "cargo could not build what is to be started ({status})"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(package: &'static str) -> impl Fn(&str) -> Option<OsString> {
        move |name| match name {
            "CARGO" => Some("/bin/cargo".into()),
            "CARGO_MANIFEST_DIR" => Some("/w/bins/agent_launcher".into()),
            "CARGO_PKG_NAME" => Some(package.into()),
            _ => None,
        }
    }

    fn args(exe: &str) -> Vec<OsString> {
        let names = ["der_headend", "edge_agent"];
        Build::from_environment(variable("agent_launcher"), Path::new(exe), &names)
            .unwrap()
            .args
    }

    #[test]
    fn cargo_builds_into_the_folder_of_this_program_with_its_profile() {
        let debug = args("/w/target/debug/agent_launcher");
        assert_eq!(
            debug,
            [
                "build",
                "--manifest-path",
                "/w/bins/agent_launcher/Cargo.toml",
                "--target-dir",
                "/w/target",
                "--package",
                "der_headend",
                "--package",
                "edge_agent",
            ]
        );
        let release = args("/w/target/release/agent_launcher");
        assert!(
            release
                .windows(2)
                .any(|pair| pair == ["--profile", "release"]),
            "{release:?}"
        );
    }

    #[test]
    fn nothing_is_built_when_this_program_was_not_started_by_cargo_run() {
        let exe = Path::new("/w/target/debug/agent_launcher");
        assert_eq!(Build::from_environment(|_| None, exe, &[]), None);
        assert_eq!(
            Build::from_environment(variable("derms-tests"), exe, &[]),
            None
        );
    }
}
