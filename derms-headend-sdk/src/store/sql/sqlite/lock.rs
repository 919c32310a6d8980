//! One headend a file.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::super::StoreError;
use super::super::schema::OpenError;

/// How often a file that is in use is looked at again.
const LOOK: Duration = Duration::from_millis(100);

/// A lock that ends with its process, however that ends. The file stays: to remove it would let
/// two others in at once.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes it as soon as it is free. A headend that was killed may hold it a moment longer, until
    /// the system has closed its files.
    pub(super) async fn take(database: &Path, patience: Duration) -> Result<Self, OpenError> {
        let end = tokio::time::Instant::now() + patience;
        loop {
            match Self::try_take(database) {
                Err(OpenError::InUse { .. }) if tokio::time::Instant::now() < end => {
                    tokio::time::sleep(LOOK).await;
                }
                taken => return taken,
            }
        }
    }

    fn try_take(database: &Path) -> Result<Self, OpenError> {
        let path = beside(database);
        let failed = |error| StoreError::Unavailable {
            context: format!("to lock {}", path.display()),
            source: Some(Box::new(error)),
        };
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse {
                location: database.display().to_string(),
            }),
            Err(TryLockError::Error(error)) => Err(failed(error).into()),
        }
    }
}

/// Whether a headend has it. It is held for the blink of an eye if nobody does; a headend that starts
/// just then waits for longer than that.
pub(super) fn is_held(database: &Path) -> std::io::Result<bool> {
    // Not made here: a database without one has never been opened.
    let file = match OpenOptions::new().write(true).open(beside(database)) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match file.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn beside(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(3);

    /// A file that nobody else uses, in a folder that is gone with it.
    struct Place(PathBuf);

    impl Place {
        fn new() -> Self {
            let folder = std::env::temp_dir().join(format!("derms-lock-{}", uuid::Uuid::new_v4()));
            std::fs::create_dir(&folder).unwrap();
            Self(folder)
        }

        async fn take(&self) -> Result<Lock, OpenError> {
            Lock::take(&self.0.join("a.sqlite"), PATIENCE).await
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_becomes_free_soon_is_taken() {
        let place = Place::new();
        let first = place.take().await.unwrap();
        let start = tokio::time::Instant::now();
        let gone = async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            drop(first);
        };
        let (second, ()) = tokio::join!(place.take(), gone);
        second.unwrap();
        assert!(start.elapsed() < Duration::from_millis(2_200));
    }

    #[tokio::test(start_paused = true)]
    async fn whether_a_file_is_held_is_told_and_leaves_nothing_behind() {
        let place = Place::new();
        let file = place.0.join("a.sqlite");
        assert!(!is_held(&file).unwrap());
        assert!(!beside(&file).exists());
        let first = place.take().await.unwrap();
        assert!(is_held(&file).unwrap());
        drop(first);
        assert!(!is_held(&file).unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_stays_in_use_is_told_after_a_while() {
        let place = Place::new();
        let _first = place.take().await.unwrap();
        let start = tokio::time::Instant::now();
        let error = place.take().await.unwrap_err();
        assert!(matches!(error, OpenError::InUse { .. }), "{error:?}");
        assert!((PATIENCE..2 * PATIENCE).contains(&start.elapsed()));
    }
}
