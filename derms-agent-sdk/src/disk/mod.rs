//! The state directory: what an agent keeps on a disk. Everything here blocks.
//!
//! | file | what |
//! |---|---|
//! | `lock` | held while the directory is in use; never replaced, so it tells a copy |
//! | `ledger-a`, `ledger-b` | revisions, orders, reports, the names of the logs; twice the same |
//! | `telemetry/*.seg` | samples that were not acknowledged within seconds |

mod frame;
mod ledger;
mod place;
mod record;
mod segments;
#[cfg(test)]
pub(crate) mod tests;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use derms_proto::{AgentId, LogId};

use self::ledger::{Found, Known, Ledger};
use self::segments::{Bounds, Segments};
use crate::clock::MonoTime;
use crate::state::{Commit, Fetched, Kept, Recovered, Shelved};

pub(crate) use self::record::MAX_ITEMS;

/// How a state directory is used.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) agent_id: AgentId,
    /// The boot of the machine; `None` if that can't be told.
    pub(crate) boot: Option<String>,
    pub(crate) now: MonoTime,
    pub(crate) telemetry_bytes: u64,
    pub(crate) telemetry_age: Duration,
}

/// Why a state directory can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error(
        "it can't be read and written; give a directory that this agent may write, on a disk with room"
    )]
    Io(#[from] io::Error),
    #[error("another process uses it; give each agent a directory of its own")]
    InUse,
    #[error("it belongs to agent {owner}; give each agent a directory of its own")]
    Foreign { owner: AgentId },
    #[error(
        "it was written by a later version (format {version}); use that version, or another directory"
    )]
    Newer { version: u16 },
}

/// An open state directory; nobody else has it open.
#[derive(Debug)]
pub(crate) struct Dir {
    ledger: Ledger,
    segments: Segments,
    _lock: File,
}

impl Dir {
    /// Opens a directory, made if it is not there, and gives what was left in it. What is damaged
    /// is left out, and told with `tracing`.
    pub(crate) fn open(path: &Path, options: &Options) -> Result<(Self, Recovered), OpenError> {
        fs::create_dir_all(path)?;
        let lock = lock(path)?;
        let place = place::of(&lock);
        let boot = options.boot.clone().unwrap_or_default();
        let bounds = Bounds {
            bytes: options.telemetry_bytes,
            age: options.telemetry_age,
        };
        let newer = |version| OpenError::Newer { version };
        let (mut known, index, whole) = match ledger::read(path)? {
            Found::Newer(version) => return Err(newer(version)),
            Found::Nothing => (Known::default(), 0, true),
            Found::Whole(known, index) => (known, index, true),
            Found::Rest(known, index) => (known, index, false),
        };
        let owner = record::uuid(&known.identity.agent_id).map(AgentId::new);
        if let Some(owner) = owner.filter(|owner| *owner != options.agent_id) {
            return Err(OpenError::Foreign { owner });
        }
        let (mut segments, scanned) =
            Segments::open(&path.join("telemetry"), &boot, bounds, options.now)?;
        if let Some(version) = scanned.newer {
            return Err(newer(version));
        }
        let dir = path.display();
        if scanned.damaged > 0 {
            tracing::warn!(%dir, bytes = scanned.damaged, samples = scanned.samples,
                "telemetry files are damaged or were torn; what is whole is kept, the rest is declared lost");
        }
        let log = |bytes: &[u8]| record::uuid(bytes).map(LogId::new);
        let logs = (
            log(&known.identity.telemetry_log),
            log(&known.identity.report_log),
        );
        let identity = &mut known.identity;
        let copied = owner.is_some() && identity.place != place;
        let (telemetry_log, report_log) = match logs {
            (Some(telemetry), Some(report)) if whole && !copied => (telemetry, report),
            _ => {
                if copied {
                    tracing::warn!(%dir, "the state directory was copied or moved from elsewhere; \
                        the agent goes on as one without memory of its orders, under new logs");
                } else if !whole {
                    tracing::error!(%dir, "the ledger is damaged in both copies; \
                        the agent goes on as one without memory of its orders, under new logs");
                }
                identity.telemetry_base = scanned.floor() - 1;
                known.first_report = 1;
                (LogId::generate(), LogId::generate())
            }
        };
        let same_boot = !boot.is_empty() && identity.boot == boot && whole && !copied;
        identity.agent_id = options.agent_id.uuid().as_bytes().to_vec();
        identity.place = place;
        identity.telemetry_log = telemetry_log.uuid().as_bytes().to_vec();
        identity.report_log = report_log.uuid().as_bytes().to_vec();
        identity.starts += 1;
        identity.boot = boot;
        let base = identity.telemetry_base;
        segments.set_base(base);
        let telemetry = scanned.recovered(base, segments.oldest());
        let recovered = Recovered {
            same_boot,
            trusted: whole && !copied,
            last_epoch: known.last_epoch,
            records: known.assets.values().cloned().collect(),
            report_log,
            first_report: known.first_report.max(1),
            reports: known.reports.iter().cloned().collect(),
            telemetry_log,
            telemetry,
        };
        tracing::info!(%dir, starts = known.identity.starts, samples = scanned.samples,
            reports = recovered.reports.len(), "state directory open");
        let ledger = Ledger::create(path, known, index)?;
        let dir = Self {
            ledger,
            segments,
            _lock: lock,
        };
        Ok((dir, recovered))
    }

    /// Writes a step of the ledger: all or nothing.
    pub(crate) fn commit(&mut self, commit: &Commit) -> io::Result<()> {
        if let Some((_, by)) = commit.renamed.telemetry {
            self.segments.rename(by);
        }
        self.ledger.commit(commit)
    }

    /// Writes samples.
    pub(crate) fn shelve(&mut self, shelved: Shelved) -> io::Result<Kept> {
        self.segments.write(shelved)
    }

    /// Reads samples from number `from` on, up to below `to`; a bounded number of them.
    pub(crate) fn fetch(&self, from: u64, to: u64) -> io::Result<Fetched> {
        self.segments.fetch(from, to)
    }
}

/// What can be told of a state directory from outside.
#[derive(Debug)]
pub(crate) struct Use {
    /// Else it can be made.
    pub(crate) is_there: bool,
    /// An agent has it open.
    pub(crate) in_use: bool,
    /// Not all of what it remembers of orders can be read. Not looked at while it is in use.
    pub(crate) damaged: bool,
}

/// Looks whether [`Dir::open`] would succeed, and leaves nothing behind.
pub(crate) fn look(path: &Path, agent: AgentId) -> Result<Use, OpenError> {
    let (place, is_there) = existing(path);
    try_write(place)?;
    let mut found = Use {
        is_there,
        in_use: false,
        damaged: false,
    };
    // Not made here: a directory without one has never been used. It is held for the blink of an eye;
    // an agent that starts just then finds it in use.
    match OpenOptions::new().write(true).open(lock_path(path)) {
        Ok(file) => match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                found.in_use = true;
                return Ok(found);
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error.into()),
    }
    let known = match ledger::read(path)? {
        Found::Newer(version) => return Err(OpenError::Newer { version }),
        Found::Nothing => return Ok(found),
        Found::Whole(known, _) => known,
        Found::Rest(known, _) => {
            found.damaged = true;
            known
        }
    };
    let owner = record::uuid(&known.identity.agent_id).map(AgentId::new);
    match owner.filter(|owner| *owner != agent) {
        Some(owner) => Err(OpenError::Foreign { owner }),
        None => Ok(found),
    }
}

/// How many bytes may still be written there, or where it will be made.
pub(crate) fn free_space(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(existing(path).0)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// The directory, or the nearest above it that is there; and whether it is itself.
fn existing(path: &Path) -> (&Path, bool) {
    let mut ancestors = path.ancestors().filter(|dir| !dir.as_os_str().is_empty());
    match ancestors.find(|dir| dir.exists()) {
        Some(found) => (found, found == path),
        None => (Path::new("."), false),
    }
}

fn try_write(dir: &Path) -> io::Result<()> {
    let path = dir.join(format!(".derms-check-{}", LogId::generate()));
    let written = File::create_new(&path).and_then(|file| file.sync_all());
    if written.is_ok() {
        fs::remove_file(&path)?;
    }
    written
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(lock_path(dir))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

fn lock_path(dir: &Path) -> PathBuf {
    dir.join("lock")
}

/// A file that was made or replaced is there after a power loss.
fn sync_dir(dir: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(dir)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = dir;
    Ok(())
}
