//! Hypertables of TimescaleDB: chunks by day, that it makes by itself.
//!
//! In each edition what is old is forgotten by dropping chunks; what only the Community edition can do
//! besides is in [`community`].

mod community;
mod find;

use derms_proto::Timestamp;
use parking_lot::Mutex;

use super::super::super::retention::horizon;
use super::super::super::{Pruned, Retention};
use super::super::connection::{Connection as _, Database as _, Row as _};
use super::super::fault::Fault;
use super::super::prune;
use super::super::statement::{Dialect, Statement};
use super::layout::{LOCK, TABLES, add, kept};
use super::{Postgres, PostgresConnection};

pub(super) use find::{Edition, Extension, laid_down, obtain};

/// The tables that are hypertables.
#[derive(Debug)]
pub(super) struct Hypertables {
    extension: Extension,
    /// The retention that the database's own jobs were told last.
    told: Mutex<Option<Retention>>,
}

/// What is made after the tables.
pub(super) fn setup(extension: &Extension) -> String {
    let schema = &extension.schema;
    let mut sql = String::new();
    for (table, column) in TABLES {
        sql.push_str(&format!(
            "select \"{schema}\".create_hypertable('{table}', '{column}', \
             chunk_time_interval => interval '1 day', create_default_indexes => false);\n"
        ));
    }
    if extension.edition == Edition::Community {
        sql.push_str(&community::compression(schema));
    }
    sql
}

impl Hypertables {
    pub(super) fn new(extension: Extension) -> Self {
        Self {
            extension,
            told: Mutex::new(None),
        }
    }

    /// Drops the oldest chunk that is over.
    pub(super) async fn drop_old(
        &self,
        database: &Postgres,
        retention: &Retention,
        now: Timestamp,
    ) -> Result<Pruned, Fault> {
        self.tell(database, retention).await?;
        let mut pruned = Pruned::default();
        for (table, column) in TABLES {
            let Some(before) = horizon(kept(table, retention), now) else {
                continue;
            };
            let mut connection = database.begin().await?;
            connection.control(LOCK).await?;
            let old = over(&mut connection, table, before).await?;
            if let Some(oldest) = old.first() {
                let rows = oldest.rows(&mut connection, table, column).await?;
                // It locks the chunk alone, and whoever is about to open that would fail. Who waits
                // for this waits for all that read, and makes others wait: not for long.
                connection
                    .control(&format!(
                        "set local lock_timeout = '2s'; \
                         lock table only {table} in access exclusive mode"
                    ))
                    .await?;
                let sql = format!(
                    "select \"{}\".drop_chunks('{table}', older_than => ",
                    self.extension.schema
                );
                let drop = Statement::new(Dialect::Postgres, &sql);
                connection.rows(drop.bind(oldest.end).push(")")).await?;
                add(&mut pruned, table, rows);
            }
            connection.commit().await?;
            pruned.more |= old.len() > 1;
        }
        Ok(pruned)
    }

    pub(super) async fn count_old(
        &self,
        database: &Postgres,
        retention: &Retention,
        now: Timestamp,
    ) -> Result<Pruned, Fault> {
        let mut pruned = Pruned::default();
        let mut connection = database.snapshot().await?;
        for (table, column) in TABLES {
            let Some(before) = horizon(kept(table, retention), now) else {
                continue;
            };
            for chunk in over(&mut connection, table, before).await? {
                let rows = chunk.rows(&mut connection, table, column).await?;
                add(&mut pruned, table, rows);
            }
        }
        connection.commit().await?;
        Ok(pruned)
    }

    /// The bytes of all chunks, those that are compressed too.
    pub(super) async fn bytes(&self, connection: &mut PostgresConnection) -> Result<u64, Fault> {
        // The table itself lies beside the others, and is counted with them.
        let sizes = TABLES.map(|(table, _)| {
            format!(
                "\"{}\".hypertable_size('{table}') - pg_total_relation_size('{table}')",
                self.extension.schema
            )
        });
        let sql = format!("select ({})::int8", sizes.join(" + "));
        prune::first(connection, Statement::new(Dialect::Postgres, &sql)).await
    }

    /// Tells the database's own jobs what is kept, once, where there are such jobs.
    async fn tell(&self, database: &Postgres, retention: &Retention) -> Result<(), Fault> {
        let news = self.told.lock().as_ref() != Some(retention);
        if self.extension.edition == Edition::Community && news {
            let mut connection = database.begin().await?;
            let sql = community::policies(&self.extension.schema, retention);
            connection.control(&sql).await?;
            connection.commit().await?;
            *self.told.lock() = Some(retention.clone());
        }
        Ok(())
    }
}

/// A chunk.
struct Chunk {
    start: Timestamp,
    end: Timestamp,
    /// What the database believes; negative: it has never looked.
    estimate: i64,
}

impl Chunk {
    /// How many rows it has, about; one that the database has never looked at has few, and they are
    /// counted.
    async fn rows(
        &self,
        connection: &mut PostgresConnection,
        table: &str,
        column: &str,
    ) -> Result<u64, Fault> {
        if let Ok(estimate) = u64::try_from(self.estimate) {
            return Ok(estimate);
        }
        let sql = format!("select count(*) from {table} where {column} >= ");
        let statement = Statement::new(Dialect::Postgres, &sql)
            .bind(self.start)
            .push(&format!(" and {column} < "))
            .bind(self.end);
        prune::first(connection, statement).await
    }
}

/// The chunks that end before this, oldest first.
async fn over(
    connection: &mut PostgresConnection,
    table: &str,
    before: Timestamp,
) -> Result<Vec<Chunk>, Fault> {
    let sql = "select range_start, range_end, reltuples::int8 from timescaledb_information.chunks \
               join pg_namespace n on n.nspname = chunk_schema \
               join pg_class c on c.relnamespace = n.oid and c.relname = chunk_name \
               where hypertable_schema = current_schema() and hypertable_name = ";
    let statement = Statement::new(Dialect::Postgres, sql)
        .bind(table)
        .push(" and range_end <= ")
        .bind(before)
        .push(" order by range_end");
    let rows = connection.rows(statement).await?;
    let chunks = rows.iter().map(|row| {
        Ok(Chunk {
            start: row.time(0)?,
            end: row.time(1)?,
            estimate: row.int(2)?,
        })
    });
    chunks.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_apache_edition_is_asked_for_nothing_that_it_can_not_do() {
        let of = |edition| {
            setup(&Extension {
                schema: "ts".to_owned(),
                edition,
            })
        };
        let (apache, community) = (of(Edition::Apache), of(Edition::Community));
        for setup in [&apache, &community] {
            assert!(setup.contains("\"ts\".create_hypertable('telemetry', 'at'"));
            assert!(setup.contains("\"ts\".create_hypertable('heartbeats', 'received_at'"));
        }
        assert!(!apache.contains("compress"), "{apache}");
        assert!(community.contains("compress"), "{community}");
    }
}
