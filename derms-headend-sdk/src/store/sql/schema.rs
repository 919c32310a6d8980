//! The schema of a database: which version it has, and the way to the one that this program knows.

use std::path::PathBuf;

use derms_proto::Timestamp;

use super::super::StoreError;
use super::connection::{Connection, Row};
use super::fault::Fault;
use super::statement::Statement;

/// A step forward. There is no way back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Migration {
    pub(super) version: u32,
    pub(super) name: &'static str,
    pub(super) sql: &'static str,
}

/// Why a database can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Something about how to reach it is wrong. What is wrong never shows a password.
    #[error("{setting}: {problem}")]
    Setting {
        /// What to change.
        setting: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Another headend has it.
    #[error(
        "{location} is in use by another headend; stop that one (in this process: let go of its handles, services and \
         store), or give this one a database of its own"
    )]
    InUse {
        /// The file; or host, port, database and schema, and where the other one connects from.
        location: String,
    },
    /// It belongs to another program.
    #[error("{} is a database of another program; choose another file", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A newer program has been here.
    #[error(
        "the database has schema {found}, and this program knows no newer one than {known}: \
         use the newer program, or a database of its own"
    )]
    NewerSchema {
        /// What it has.
        found: u32,
        /// What this program knows.
        known: u32,
    },
    /// It has to be brought up to date first.
    #[error("the database has no schema {known} yet; bring it up to date first")]
    OldSchema {
        /// What it has; `None`: nothing.
        found: Option<u32>,
        /// What this program needs.
        known: u32,
    },
    /// It can't be reached, or is not what it should be.
    #[error("can't use the database")]
    Store(#[from] StoreError),
}

impl OpenError {
    pub(super) fn told(what: &str) -> impl Fn(Fault) -> Self + '_ {
        move |fault| Self::Store(fault.told(what))
    }
}

/// The schema of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SchemaStatus {
    /// The database, without a password.
    pub location: String,
    /// The version it has; `None`: nothing is there yet.
    pub found: Option<u32>,
    /// The version this program brings.
    pub known: u32,
    /// What was done, oldest first: version, name, time.
    pub applied: Vec<(u32, String, Timestamp)>,
    /// How measurements are laid down: `table`, `partitions` or `timescaledb`.
    pub telemetry: String,
    /// The size of everything in it, bytes, if there is something.
    pub bytes: Option<u64>,
}

impl SchemaStatus {
    /// Whether a migration is due.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.found.is_none_or(|found| found < self.known)
    }

    pub(super) fn must_be_up_to_date(&self) -> Result<(), OpenError> {
        let known = self.known;
        match self.found {
            Some(found) if found == known => Ok(()),
            Some(found) if found > known => Err(OpenError::NewerSchema { found, known }),
            found => Err(OpenError::OldSchema { found, known }),
        }
    }
}

/// The newest version that is known.
pub(super) fn newest(migrations: &[Migration]) -> u32 {
    migrations.last().map_or(0, |migration| migration.version)
}

/// What was done to a database; empty if nothing was.
pub(super) async fn applied<C: Connection>(
    connection: &mut C,
) -> Result<Vec<(u32, String, Timestamp)>, Fault> {
    let exists = connection
        .rows(Statement::new(C::DIALECT, C::HAS_VERSIONS))
        .await?;
    if exists.is_empty() {
        return Ok(Vec::new());
    }
    let all = "select version, name, applied_at from schema_versions order by version";
    let rows = connection.rows(Statement::new(C::DIALECT, all)).await?;
    let read = rows.iter().map(|row| {
        let version = u32::try_from(row.int(0)?)
            .map_err(|_| Fault::unreadable("the schema has no version"))?;
        Ok((version, row.text(1)?, row.time(2)?))
    });
    read.collect()
}

/// Brings a database to the newest version that is known, inside the transaction of `connection`,
/// which nobody shares with it. `text` is what runs for a migration.
pub(super) async fn migrate<C: Connection>(
    connection: &mut C,
    migrations: &[Migration],
    text: impl Fn(&Migration) -> String,
) -> Result<Vec<u32>, OpenError> {
    let failed = OpenError::told("to bring the schema up to date");
    let applied = applied(connection).await.map_err(&failed)?;
    let found = applied.last().map(|(version, ..)| *version);
    let known = newest(migrations);
    if let Some(found) = found.filter(|found| *found > known) {
        return Err(OpenError::NewerSchema { found, known });
    }
    if applied.is_empty() {
        connection.script(C::VERSIONS).await.map_err(&failed)?;
    }
    let mut done = Vec::new();
    for migration in migrations {
        if found.is_some_and(|found| migration.version <= found) {
            continue;
        }
        connection.script(&text(migration)).await.map_err(&failed)?;
        let statement = Statement::new(
            C::DIALECT,
            "insert into schema_versions (version, name, applied_at) values ",
        )
        .row([
            i64::from(migration.version).into(),
            migration.name.into(),
            Timestamp::now().into(),
        ]);
        connection.run(statement).await.map_err(&failed)?;
        done.push(migration.version);
    }
    Ok(done)
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
