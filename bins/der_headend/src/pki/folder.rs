//! The files of a CA for development.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use derms_headend_sdk::proto::{AgentId, InstanceId};
use derms_program::Failure;
use rcgen::KeyPair;

/// What was issued, a line for each: serial number, agent, and `revoked`.
const INDEX: &str = "issued";

/// A certificate that was issued to an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// A UUID of version 7: mostly random.
    pub(super) serial: InstanceId,
    pub(super) agent: AgentId,
    pub(super) revoked: bool,
}

#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Makes the folder; it must not hold a CA yet.
    pub(super) fn make(&self) -> Result<(), Failure> {
        if self.path("ca.pem").exists() {
            return Err(Failure::configuration(format!(
                "{} holds a CA already; choose another folder with --dir (DERMS_PKI_DIR), or use \
                 `pki issue`",
                self.0.display()
            )));
        }
        let mut make = DirBuilder::new();
        make.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut make, 0o700);
        let agents = self.path("agents");
        make.create(&agents)
            .map_err(|error| self.failed("make", &agents, &error))
    }

    /// The key that signs.
    pub(super) fn ca_key(&self) -> Result<KeyPair, Failure> {
        let path = self.path("ca-key.pem");
        let text = fs::read_to_string(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Failure::configuration(format!(
                "{} holds no CA; make one with `der_headend pki init`, or name another folder with \
                 --dir (DERMS_PKI_DIR)",
                self.0.display()
            )),
            _ => self.failed("read", &path, &error),
        })?;
        KeyPair::from_pem(&text)
            .map_err(|_| Failure::configuration(format!("{} is no private key", path.display())))
    }

    /// Writes a file that all may read.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<(), Failure> {
        self.put(name, text, 0o644)
    }

    /// Writes a file that its owner alone may read.
    pub(super) fn write_secret(&self, name: &str, text: &str) -> Result<(), Failure> {
        self.put(name, text, 0o600)
    }

    /// In one step: a headend that reads the file meanwhile gets the old one or the new one.
    fn put(&self, name: &str, text: &str, mode: u32) -> Result<(), Failure> {
        let path = self.path(name);
        let fresh = self.path(&format!("{name}.{}", std::process::id()));
        let write = || {
            let mut options = OpenOptions::new();
            options.write(true).create_new(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
            let mut file = options.open(&fresh)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&fresh, &path)
        };
        write().map_err(|error| {
            let _ = fs::remove_file(&fresh);
            self.failed("write", &path, &error)
        })
    }

    /// Adds a line to the index.
    pub(super) fn remember(&self, entry: &Entry) -> Result<(), Failure> {
        let mut entries = self.entries()?;
        entries.push(entry.clone());
        self.replace(&entries)
    }

    pub(super) fn replace(&self, entries: &[Entry]) -> Result<(), Failure> {
        self.write(INDEX, &text(entries))
    }

    pub(super) fn entries(&self) -> Result<Vec<Entry>, Failure> {
        let path = self.path(INDEX);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(self.failed("read", &path, &error)),
        };
        parse(&text).ok_or_else(|| {
            Failure::configuration(format!("{} is no list of certificates", path.display()))
        })
    }

    fn failed(&self, what: &str, path: &Path, error: &io::Error) -> Failure {
        Failure::start(format!(
            "can't {what} {}: {error}; choose another folder with --dir (DERMS_PKI_DIR)",
            path.display()
        ))
    }
}

fn text(entries: &[Entry]) -> String {
    let mut text = String::new();
    for entry in entries {
        let revoked = if entry.revoked { " revoked" } else { "" };
        // Writing to a String does not fail.
        let _ = writeln!(text, "{} {}{revoked}", entry.serial, entry.agent);
    }
    text
}

fn parse(text: &str) -> Option<Vec<Entry>> {
    let entry = |line: &str| {
        let mut words = line.split_whitespace();
        let serial: InstanceId = words.next()?.parse().ok()?;
        let agent = words.next()?.parse().ok()?;
        let revoked = match words.next() {
            None => false,
            Some("revoked") => true,
            Some(_) => return None,
        };
        Some(Entry {
            serial,
            agent,
            revoked,
        })
    };
    text.lines().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_certificates_reads_as_it_was_written() {
        let serial = InstanceId::generate();
        let agent = "7ba7b810-9dad-11d1-80b4-00c04fd430c8".parse().unwrap();
        let entries = [false, true].map(|revoked| Entry {
            serial,
            agent,
            revoked,
        });
        assert_eq!(parse(&text(&entries)).as_deref(), Some(&entries[..]));
        assert_eq!(parse("x y"), None);
        assert_eq!(parse(&format!("{serial} {agent} pardoned")), None);
    }
}
