//! Where history and orders are kept: folder, database, schema, lock.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use derms_headend_sdk::proto::{Check, InstanceId, Timestamp};
use derms_headend_sdk::store::{Retention, SchemaStatus, SqliteOptions};

use super::{DATA_FOLDER, DISK_SPACE, RETENTION, SCHEMA, STORE, STORE_LOCK};
use crate::database::{Database, looked_at};
use crate::db;

/// With less than this a busy headend stops within hours.
const LITTLE: u64 = 1 << 30;
/// With less than this the database may refuse what it is given at once.
const LEAST: u64 = 64 << 20;
const MB: f64 = 1e6;
const DAY: u64 = 24 * 3_600;

/// What was found out on the way.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// A headend has the database open.
    pub(super) in_use: bool,
    /// When the schema was last changed.
    pub(super) newest: Option<Timestamp>,
}

pub(super) async fn look(database: Result<Database, String>, checks: &mut Vec<Check>) -> Found {
    let all = [DATA_FOLDER, DISK_SPACE, STORE, SCHEMA, STORE_LOCK];
    let database = match database {
        Ok(Database::Memory) => {
            let why = "history and orders are kept in memory";
            checks.extend([DATA_FOLDER, DISK_SPACE].map(|name| Check::skip(name, why)));
            checks.push(Check::warn(
                STORE,
                "memory: history and orders are forgotten when the headend stops",
                "leave out --database-url, or name a database",
            ));
            checks.extend([SCHEMA, STORE_LOCK].map(|name| Check::skip(name, why)));
            return Found::default();
        }
        Ok(database) => database,
        Err(text) => {
            checks.extend(all.map(|name| {
                if name == STORE {
                    Check::fail(STORE, text.clone(), "correct the setting")
                } else {
                    Check::skip(name, "the database is not known")
                }
            }));
            return Found::default();
        }
    };
    let file = match &database {
        Database::Embedded { folder } => Some((folder.clone(), true, looked_at(folder))),
        Database::Sqlite(path) => {
            let folder = path.parent().unwrap_or(Path::new("")).to_owned();
            Some((folder, false, SqliteOptions::new(path)))
        }
        _ => None,
    };
    let mut found = Found::default();
    let mut lock = Check::skip(STORE_LOCK, "the database is no file");
    match file {
        Some((dir, may_be_made, options)) => {
            checks.push(folder(&dir, may_be_made));
            checks.push(space(&dir));
            (lock, found.in_use) = held(&options);
        }
        None => {
            let why = "the database is a server";
            checks.extend([DATA_FOLDER, DISK_SPACE].map(|name| Check::skip(name, why)));
        }
    }
    match db::status(database).await {
        Ok(status) => {
            found.newest = status.applied.iter().map(|(_, _, at)| *at).max();
            checks.push(Check::ok(STORE, reached(&status)));
            checks.push(schema(status.found, status.known));
        }
        Err(error) => {
            let remedy = "start the database, or correct --database-url; look at its log";
            checks.push(Check::fail(STORE, error.line(), remedy));
            checks.push(Check::skip(SCHEMA, "the database can't be used"));
        }
    }
    checks.push(lock);
    found
}

fn reached(status: &SchemaStatus) -> String {
    match status.bytes {
        Some(bytes) => format!("{}, {:.1} MB", status.location, bytes as f64 / MB),
        None => status.location.clone(),
    }
}

fn schema(found: Option<u32>, known: u32) -> Check {
    match found {
        None => Check::ok(
            SCHEMA,
            format!("none yet: the first start makes version {known}"),
        ),
        Some(found) if found > known => Check::fail(
            SCHEMA,
            format!("version {found}, newer than this program, which knows {known}"),
            "use the newer program, or a database of its own",
        ),
        Some(found) if found < known => Check::warn(
            SCHEMA,
            format!("version {found}; the start brings {known}, and there is no way back"),
            "keep a copy of the database before the start",
        ),
        Some(found) => Check::ok(SCHEMA, format!("version {found}, up to date")),
    }
}

fn held(options: &SqliteOptions) -> (Check, bool) {
    match options.is_in_use() {
        Ok(true) => {
            let text = "held: a headend runs with this database";
            let remedy = "stop it before another is started with this database";
            (Check::warn(STORE_LOCK, text, remedy), true)
        }
        Ok(false) => (Check::ok(STORE_LOCK, "free"), false),
        Err(error) => {
            let text = format!("can't be looked at: {error}");
            let remedy = "let this user read and write the folder of the database";
            (Check::fail(STORE_LOCK, text, remedy), false)
        }
    }
}

/// The folder, or the nearest above it that is there.
fn existing(folder: &Path) -> PathBuf {
    let mut above = folder.ancestors().filter(|dir| !dir.as_os_str().is_empty());
    let found = above.find(|dir| dir.exists());
    found.unwrap_or(Path::new(".")).to_owned()
}

fn folder(folder: &Path, may_be_made: bool) -> Check {
    let place = existing(folder);
    let is_there = place == folder || folder.as_os_str().is_empty();
    // A file without a folder before it is in this one.
    let shown = if folder.as_os_str().is_empty() {
        Path::new(".").display()
    } else {
        folder.display()
    };
    if !is_there && !may_be_made {
        let text = format!("{shown} is not there");
        return Check::fail(DATA_FOLDER, text, "make the folder of the database");
    }
    match try_write(&place) {
        Err(error) => Check::fail(
            DATA_FOLDER,
            format!("{} can't be written: {error}", place.display()),
            "let this user write it, or choose another with --data-dir",
        ),
        Ok(()) if is_there => Check::ok(DATA_FOLDER, format!("{shown} can be written")),
        Ok(()) => Check::ok(
            DATA_FOLDER,
            format!("{shown} is not there yet and can be made"),
        ),
    }
}

fn try_write(folder: &Path) -> io::Result<()> {
    let path = folder.join(format!(".derms-check-{}", InstanceId::generate()));
    let written = File::create_new(&path).and_then(|file| file.sync_all());
    if written.is_ok() {
        fs::remove_file(&path)?;
    }
    written
}

fn space(folder: &Path) -> Check {
    match rustix::fs::statvfs(existing(folder)) {
        Ok(stat) => room(stat.f_bavail.saturating_mul(stat.f_frsize)),
        Err(error) => {
            let text = format!("can't be told: {}", io::Error::from(error));
            Check::warn(DISK_SPACE, text, "look at the disk of the data folder")
        }
    }
}

/// `free` in bytes.
fn room(free: u64) -> Check {
    let text = format!("{:.0} MB free", free as f64 / MB);
    let remedy = "make room, or keep history for a shorter time (--telemetry-days)";
    if free < LEAST {
        Check::fail(DISK_SPACE, text, remedy)
    } else if free < LITTLE {
        Check::warn(DISK_SPACE, text, remedy)
    } else {
        Check::ok(DISK_SPACE, text)
    }
}

pub(super) fn retention(retention: &Retention) -> Check {
    let days = |kept: Option<Duration>| match kept {
        Some(kept) => format!("{} days", kept.as_secs() / DAY),
        None => "for ever".to_owned(),
    };
    let text = format!(
        "telemetry {}, sessions {}, orders {}, audit trail {}",
        days(retention.telemetry),
        days(retention.sessions),
        days(retention.dispatches),
        days(retention.audit)
    );
    match retention.telemetry {
        None => Check::warn(
            RETENTION,
            format!("{text}: the disk fills"),
            "set --telemetry-days, or watch the disk",
        ),
        Some(_) => Check::ok(RETENTION, text),
    }
}

#[cfg(test)]
mod tests {
    use derms_headend_sdk::proto::CheckStatus;

    use super::*;

    #[test]
    fn a_disk_with_little_room_is_warned_of_and_one_with_next_to_none_fails() {
        for (free, status) in [
            (0, CheckStatus::Fail),
            (LEAST - 1, CheckStatus::Fail),
            (LEAST, CheckStatus::Warn),
            (LITTLE - 1, CheckStatus::Warn),
            (LITTLE, CheckStatus::Ok),
        ] {
            let check = room(free);
            assert_eq!(check.status, status, "{free}: {}", check.text);
            let told = check.remedy.is_some_and(|it| it.contains("make room"));
            assert_eq!(told, status != CheckStatus::Ok, "{free}");
        }
        assert!(room(5_000_000).text.starts_with("5 MB free"));
    }

    #[test]
    fn an_older_schema_is_warned_of_and_a_newer_one_fails() {
        let seen = |found| {
            let check = schema(found, 7);
            (check.status, check.remedy.unwrap_or_default())
        };
        assert_eq!(seen(None), (CheckStatus::Ok, String::new()));
        assert_eq!(seen(Some(7)), (CheckStatus::Ok, String::new()));
        let (status, remedy) = seen(Some(6));
        assert_eq!(status, CheckStatus::Warn);
        assert!(remedy.contains("keep a copy"), "{remedy}");
        let (status, remedy) = seen(Some(8));
        assert_eq!(status, CheckStatus::Fail);
        assert!(remedy.contains("use the newer program"), "{remedy}");
    }
}
