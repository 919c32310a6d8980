//! A file that is read again when it has changed.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::time::Instant;

/// The file is looked at no oftener than this.
const LOOK: Duration = Duration::from_secs(1);
/// The largest file, bytes.
const MAX_FILE: u64 = 4 << 20;

/// Why a file of tokens or keys can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[error("{}: {what}", path.display())]
pub struct AuthFileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it, without any of its secrets.
    pub what: String,
}

/// What tells one state of a file from another.
type Stamp = (Option<SystemTime>, u64);

/// The content of a file as it was at most a second ago.
///
/// While a changed file can't be read, what was read last goes on counting and the log says so
/// each second that somebody asks: a slip of an editor must lock nobody out who may have to stop a
/// fleet.
pub(super) struct Watched<T> {
    path: PathBuf,
    parse: fn(&str) -> Result<T, String>,
    state: Mutex<State<T>>,
}

struct State<T> {
    content: Arc<T>,
    stamp: Stamp,
    looked_at: Instant,
}

impl<T> Watched<T> {
    pub(super) fn open(
        path: impl Into<PathBuf>,
        parse: fn(&str) -> Result<T, String>,
    ) -> Result<Self, AuthFileError> {
        let path = path.into();
        let (content, stamp) = read(&path, parse).map_err(|what| AuthFileError {
            path: path.clone(),
            what,
        })?;
        let state = Mutex::new(State {
            content: Arc::new(content),
            stamp,
            looked_at: Instant::now(),
        });
        Ok(Self { path, parse, state })
    }

    pub(super) fn get(&self) -> Arc<T> {
        let mut state = self.state.lock();
        if state.looked_at.elapsed() >= LOOK {
            state.looked_at = Instant::now();
            self.look(&mut state);
        }
        Arc::clone(&state.content)
    }

    fn look(&self, state: &mut State<T>) {
        if stamp(&self.path).is_ok_and(|stamp| stamp == state.stamp) {
            return;
        }
        match read(&self.path, self.parse) {
            Ok((content, stamp)) => {
                tracing::info!(file = %self.path.display(), "read again, for it has changed");
                state.content = Arc::new(content);
                state.stamp = stamp;
            }
            Err(what) => {
                tracing::error!(
                    file = %self.path.display(), what,
                    "can't be read; what was read before goes on counting"
                );
            }
        }
    }
}

fn stamp(path: &Path) -> std::io::Result<Stamp> {
    let meta = fs::metadata(path)?;
    Ok((meta.modified().ok(), meta.len()))
}

fn read<T>(path: &Path, parse: fn(&str) -> Result<T, String>) -> Result<(T, Stamp), String> {
    // The stamp first: what changes meanwhile is seen at the next look.
    let stamp = stamp(path).map_err(|error| error.to_string())?;
    if stamp.1 > MAX_FILE {
        return Err(format!("is larger than {MAX_FILE} bytes"));
    }
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    Ok((parse(&text)?, stamp))
}

impl<T> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watched").field(&self.path).finish()
    }
}
