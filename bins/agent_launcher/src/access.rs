//! A token of each role for the demo over TLS, made by `der_headend token`.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use derms_program::Failure;
use tokio::process::Command;

use crate::siblings::Siblings;

const ROLES: [&str; 3] = ["viewer", "operator", "admin"];

/// The folder of the tokens and of the file that has their hashes.
#[derive(Debug)]
pub(crate) struct Access(PathBuf);

impl Access {
    /// Makes what is not there yet, in the data folder.
    pub(crate) async fn prepare(
        siblings: &Siblings,
        data_dir: Option<&Path>,
    ) -> Result<Self, Failure> {
        let data_dir = data_dir.unwrap_or(Path::new("derms-data"));
        let this = Self(data_dir.join("access"));
        let tokens = ROLES.map(|role| this.token(role));
        if tokens
            .iter()
            .chain([&this.hashes()])
            .all(|file| file.exists())
        {
            return Ok(this);
        }
        // All anew: a hash without its token would be of no use.
        this.clear()
            .map_err(|error| cannot(&this.0, &error.to_string()))?;
        for (role, file) in ROLES.iter().zip(&tokens) {
            let token = this.make(siblings, role).await?;
            write(file, &token).map_err(|error| cannot(file, &error.to_string()))?;
        }
        Ok(this)
    }

    fn clear(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::create_dir_all(&self.0)
    }

    async fn make(&self, siblings: &Siblings, role: &str) -> Result<Vec<u8>, Failure> {
        let output = Command::new(siblings.path("der_headend"))
            .arg("--tokens")
            .arg(self.hashes())
            .args(["token", "new", "--name", &format!("demo-{role}")])
            .args(["--role", role])
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|error| Failure::start(format!("can't start der_headend: {error}")))?;
        if output.status.success() {
            Ok(output.stdout)
        } else {
            Err(Failure::start(format!(
                "der_headend token could not make a token ({}); its last line says why",
                output.status
            )))
        }
    }

    /// The file with the token of a role.
    pub(crate) fn token(&self, role: &str) -> PathBuf {
        self.0.join(format!("{role}.token"))
    }

    fn hashes(&self) -> PathBuf {
        self.0.join("tokens.yaml")
    }

    /// Flags of the headend. The API page asks for a token itself, so it need not be behind one.
    pub(crate) fn of_headend(&self) -> [OsString; 3] {
        [
            "--tokens".into(),
            self.hashes().into(),
            "--public-docs".into(),
        ]
    }
}

fn cannot(path: &Path, error: &str) -> Failure {
    Failure::start(format!("can't write {}: {error}", path.display()))
}

/// For nobody else to read.
fn write(file: &Path, token: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(file)?.write_all(token)
}
