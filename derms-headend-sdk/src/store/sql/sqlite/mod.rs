//! SQLite: a file beside the headend, and no other program to run.

mod connection;
mod lock;
mod options;
mod recent;
mod rows;

use std::sync::Arc;

use derms_proto::Timestamp;
use sqlx::SqlitePool;

use super::super::retention::horizon;
use super::super::{Pruned, Retention};
use super::connection::{Connection as _, Database};
use super::fault::Fault;
use super::prune::{self, PORTION};
use super::schema::Migration;
use super::statement::{Dialect, Statement};
use super::store::SqlStore;
use connection::{Begin, SqliteConnection};
use recent::Recent;

pub use options::SqliteOptions;

/// A store in a file, through SQLite, which is compiled in.
///
/// What it acknowledged is on the disk: write-ahead log, `synchronous = FULL`. One headend has the
/// file at a time; a second one is refused with [`OpenError::InUse`](super::OpenError::InUse).
/// Other programs may read it meanwhile, and `<path>-wal` and `<path>-shm` belong to it. It must
/// lie on a local disk.
///
/// ```no_run
/// use derms_headend_sdk::store::SqliteStore;
///
/// # async fn f() -> Result<(), derms_headend_sdk::store::OpenError> {
/// let store = SqliteStore::open("derms.sqlite").await?;
/// # Ok(())
/// # }
/// ```
pub type SqliteStore = SqlStore<Sqlite>;

const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "first",
        sql: include_str!("../../../../migrations/sqlite/0001_first.sql"),
    },
    Migration {
        version: 2,
        name: "cancel",
        sql: include_str!("../../../../migrations/sqlite/0002_cancel.sql"),
    },
    Migration {
        version: 3,
        name: "limits",
        sql: include_str!("../../../../migrations/sqlite/0003_limits.sql"),
    },
    Migration {
        version: 4,
        name: "recent",
        sql: include_str!("../../../../migrations/sqlite/0004_recent.sql"),
    },
    Migration {
        version: 5,
        name: "audit",
        sql: include_str!("../../../../migrations/sqlite/0005_audit.sql"),
    },
    Migration {
        version: 6,
        name: "control",
        sql: include_str!("../../../../migrations/sqlite/0006_control.sql"),
    },
    Migration {
        version: 7,
        name: "events",
        sql: include_str!("../../../../migrations/sqlite/0007_events.sql"),
    },
];

/// A file, open.
#[derive(Debug)]
pub struct Sqlite {
    /// One connection: SQLite has one writer at a time, and waiting here is fair.
    writer: SqlitePool,
    readers: SqlitePool,
    recent: Arc<Recent>,
    /// Held for as long as the file is used; not by who only does maintenance beside a headend.
    _lock: Option<lock::Lock>,
}

impl Database for Sqlite {
    type Connection = SqliteConnection;

    async fn begin(&self) -> Result<SqliteConnection, Fault> {
        let connection = SqliteConnection::begin(&self.writer, Begin::Write).await?;
        Ok(connection.adding_to(&self.recent))
    }

    async fn snapshot(&self) -> Result<SqliteConnection, Fault> {
        SqliteConnection::begin(&self.readers, Begin::Read).await
    }

    async fn make_room(
        &self,
        _: &'static str,
        _: impl Iterator<Item = Timestamp> + Send,
    ) -> Result<(), Fault> {
        Ok(())
    }

    async fn drop_old(&self, retention: &Retention, now: Timestamp) -> Result<Pruned, Fault> {
        let mut connection = self.begin().await?;
        let mut pruned = Pruned::default();
        if let Some(before) = horizon(retention.telemetry, now) {
            pruned.telemetry = connection
                .run(delete("telemetry", "at, tie", before))
                .await?;
            pruned.telemetry += connection.run(delete_recent(before)).await?;
        }
        if let Some(before) = horizon(retention.heartbeats, now) {
            let key = "received_at, agent_id, epoch";
            pruned.heartbeats = connection.run(delete("heartbeats", key, before)).await?;
        }
        connection.commit().await?;
        pruned.more = pruned.telemetry.max(pruned.heartbeats) >= PORTION.unsigned_abs();
        Ok(pruned)
    }

    async fn count_old(&self, retention: &Retention, now: Timestamp) -> Result<Pruned, Fault> {
        let mut connection = self.snapshot().await?;
        let mut pruned = Pruned::default();
        if let Some(before) = horizon(retention.telemetry, now) {
            pruned.telemetry =
                prune::first(&mut connection, old("count(*)", "telemetry", "at", before)).await?;
            let recent = "select count(*) from telemetry_recent where at < ";
            let recent = Statement::new(Dialect::Sqlite, recent).bind(before);
            pruned.telemetry += prune::first(&mut connection, recent).await?;
        }
        if let Some(before) = horizon(retention.heartbeats, now) {
            let old = old("count(*)", "heartbeats", "received_at", before);
            pruned.heartbeats = prune::first(&mut connection, old).await?;
        }
        connection.commit().await?;
        Ok(pruned)
    }
}

/// Rows lie by asset and then by time: each asset is looked at by itself, and no more.
fn old(what: &str, table: &str, time: &str, before: Timestamp) -> Statement {
    first_old("", what, table, time, before)
}

fn first_old(first: &str, what: &str, table: &str, time: &str, before: Timestamp) -> Statement {
    let sql = format!(
        "{first}select {what} from (select key from assets) a cross join {table} t \
         on t.asset = a.key and t.{time} < "
    );
    Statement::new(Dialect::Sqlite, &sql).bind(before)
}

/// `key` begins with the time.
fn delete(table: &str, key: &str, before: Timestamp) -> Statement {
    let time = key.split(',').next().unwrap_or(key);
    let delete = format!("delete from {table} where (asset, {key}) in (");
    first_old(&delete, &format!("asset, {key}"), table, time, before)
        .push(" limit ")
        .bind(PORTION)
        .push(")")
}

/// Those that wait lie by arrival, and there are not many: all are looked at.
fn delete_recent(before: Timestamp) -> Statement {
    let key = "segment, asset, at, tie";
    let sql = format!(
        "delete from telemetry_recent where ({key}) in (select {key} from telemetry_recent \
         where at < "
    );
    Statement::new(Dialect::Sqlite, &sql)
        .bind(before)
        .push(" limit ")
        .bind(PORTION)
        .push(")")
}
