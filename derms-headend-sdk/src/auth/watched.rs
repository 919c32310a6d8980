//! A file that is read again when it has changed.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};

/// The file is looked at no oftener than this, and a look is waited for no longer.
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

type Parse<T> = fn(&str) -> Result<T, String>;

/// The content of a file as it was at most a second ago.
///
/// While a changed file can't be read, what was read last goes on counting and the log says so
/// each second that somebody asks: a slip of an editor must lock nobody out who may have to stop a
/// fleet. The same holds for a disk that does not answer.
pub(super) struct Watched<T>(Arc<Inner<T>>);

struct Inner<T> {
    path: PathBuf,
    parse: Parse<T>,
    current: Mutex<Current<T>>,
    /// The text that was read last. Held while the file is looked at.
    text: Arc<tokio::sync::Mutex<String>>,
}

struct Current<T> {
    content: Arc<T>,
    looked_at: Instant,
}

impl<T: Send + Sync + 'static> Watched<T> {
    pub(super) fn open(path: impl Into<PathBuf>, parse: Parse<T>) -> Result<Self, AuthFileError> {
        let path = path.into();
        let read = read(&path).and_then(|text| Ok((parse(&text)?, text)));
        let (content, text) = read.map_err(|what| AuthFileError {
            path: path.clone(),
            what,
        })?;
        Ok(Self(Arc::new(Inner {
            path,
            parse,
            current: Mutex::new(Current {
                content: Arc::new(content),
                looked_at: Instant::now(),
            }),
            text: Arc::new(tokio::sync::Mutex::new(text)),
        })))
    }

    /// What was read last.
    pub(super) fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.current.lock().content)
    }

    /// Looks at the file if that is due. All who come while it is looked at wait for that.
    pub(super) async fn look(&self) {
        if self.is_fresh() {
            return;
        }
        let look = async {
            let text = Arc::clone(&self.0.text).lock_owned().await;
            if self.is_fresh() {
                return;
            }
            let inner = Arc::clone(&self.0);
            // It keeps the lock though nobody waits any more: a disk that hangs holds one thread.
            if spawn_blocking(move || inner.read_again(text))
                .await
                .is_err()
            {
                tracing::error!("a look at a file of tokens or keys failed");
            }
            self.0.current.lock().looked_at = Instant::now();
        };
        if timeout(LOOK, look).await.is_err() && !self.is_fresh() {
            tracing::error!(
                file = %self.0.path.display(),
                "can't be read in time; what was read before goes on counting"
            );
            self.0.current.lock().looked_at = Instant::now();
        }
    }

    fn is_fresh(&self) -> bool {
        self.0.current.lock().looked_at.elapsed() < LOOK
    }
}

impl<T> Inner<T> {
    fn read_again(&self, mut text: tokio::sync::OwnedMutexGuard<String>) {
        // The whole text: time and length of a file may stay what they were.
        let parsed = match read(&self.path) {
            Ok(new) if new == *text => return,
            Ok(new) => (self.parse)(&new).map(|content| (content, new)),
            Err(what) => Err(what),
        };
        match parsed {
            Ok((content, new)) => {
                tracing::info!(file = %self.path.display(), "read again, for it has changed");
                self.current.lock().content = Arc::new(content);
                *text = new;
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

fn read(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    let read = file.take(MAX_FILE + 1).read_to_string(&mut text);
    read.map_err(|error| error.to_string())?;
    if text.len() as u64 > MAX_FILE {
        return Err(format!("is larger than {MAX_FILE} bytes"));
    }
    Ok(text)
}

impl<T> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watched").field(&self.0.path).finish()
    }
}
