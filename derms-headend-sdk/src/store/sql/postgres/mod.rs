//! PostgreSQL, and TimescaleDB where it is there.

mod connection;
mod holder;
mod layout;
mod migrate;
mod options;
mod partitions;
mod rollup;
mod rows;
mod time;
mod timescale;

use derms_proto::Timestamp;
use sqlx::PgPool;

use super::super::{Pruned, Retention};
use super::connection::Database;
use super::fault::Fault;
use super::store::SqlStore;
use connection::{Begin, PostgresConnection};
use holder::Held;
use layout::Layout;
use rollup::Rollup;

pub use options::PostgresOptions;

/// A store in a PostgreSQL database, version 14 or newer, in a schema of its own.
///
/// With the `timescaledb` extension measurements and heartbeats are hypertables with a chunk a day;
/// without it they are partitioned by day. Which of the two is decided when the schema is made, and
/// stays. Where the extension is under the Timescale licence, chunks are compressed after a week;
/// under the Apache licence there is no compression.
///
/// What it acknowledged is on the disk of the server: `synchronous_commit = off` of server, database or
/// role does not count. Not so with `fsync = off`, of which the start warns.
///
/// Several headends may use one database, each with a schema of its own. One headend has a schema at
/// a time: a second one waits until the first is gone, and is refused with
/// [`OpenError::InUse`](super::OpenError::InUse). A headend that the server has lost, and whose schema another one has
/// taken since, is told so by [`StoreError::TakenOver`](super::super::StoreError::TakenOver) and reads and writes nothing
/// any more. Connect to the server itself: a pooler between that gives one connection to several clients breaks the lock.
///
/// ```no_run
/// use derms_headend_sdk::store::PostgresStore;
///
/// # async fn f() -> Result<(), derms_headend_sdk::store::OpenError> {
/// let store = PostgresStore::connect("postgres://derms@db.example/derms").await?;
/// # Ok(())
/// # }
/// ```
pub type PostgresStore = SqlStore<Postgres>;

/// A database, connected.
#[derive(Debug)]
pub struct Postgres {
    pool: PgPool,
    /// Of a headend; not of who only does maintenance beside one.
    holder: Option<Held>,
    layout: Layout,
    rollup: Rollup,
}

impl Postgres {
    async fn transaction(&self, begin: Begin) -> Result<PostgresConnection, Fault> {
        if let Some(holder) = &self.holder {
            holder.still()?;
        }
        let connection = PostgresConnection::begin(&self.pool, begin).await?;
        if let Some(holder) = &self.holder {
            // This connection may be the one that found out.
            holder.still()?;
        }
        Ok(connection)
    }
}

impl Database for Postgres {
    type Connection = PostgresConnection;

    async fn begin(&self) -> Result<PostgresConnection, Fault> {
        self.transaction(Begin::Write).await
    }

    async fn snapshot(&self) -> Result<PostgresConnection, Fault> {
        self.transaction(Begin::Read).await
    }

    async fn make_room(
        &self,
        table: &'static str,
        times: impl Iterator<Item = Timestamp> + Send,
    ) -> Result<(), Fault> {
        match &self.layout {
            Layout::Partitions(days) => days.make_room(self, table, times).await,
            // It makes its chunks by itself.
            Layout::Timescale(_) => Ok(()),
        }
    }

    async fn drop_old(&self, retention: &Retention, now: Timestamp) -> Result<Pruned, Fault> {
        let mut pruned = match &self.layout {
            Layout::Partitions(days) => {
                days.make_ahead(self, now).await?;
                days.drop_old(self, retention, now).await?
            }
            Layout::Timescale(hypertables) => hypertables.drop_old(self, retention, now).await?,
        };
        if !pruned.more {
            pruned.more = self.rollup.keep(self, retention, now).await;
        }
        Ok(pruned)
    }

    async fn count_old(&self, retention: &Retention, now: Timestamp) -> Result<Pruned, Fault> {
        match &self.layout {
            Layout::Partitions(days) => days.count_old(self, retention, now).await,
            Layout::Timescale(hypertables) => hypertables.count_old(self, retention, now).await,
        }
    }
}
