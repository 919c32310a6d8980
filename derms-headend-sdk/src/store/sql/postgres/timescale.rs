//! Hypertables of TimescaleDB: chunks by day, compressed after a week.
//!
//! This part can't be run without the extension; its texts follow
//! <https://docs.timescale.com/api/latest/> (version 2.x).

use derms_proto::Timestamp;
use parking_lot::Mutex;

use super::super::super::retention::horizon;
use super::super::super::{Pruned, Retention};
use super::super::connection::{Connection as _, Database as _};
use super::super::fault::Fault;
use super::super::prune;
use super::super::statement::{Dialect, Statement};
use super::Postgres;
use super::layout::TABLES;

/// Chunks older than this are compressed.
const COMPRESSED_AFTER: &str = "interval '7 days'";

/// The tables that are hypertables, and where the functions of the extension are.
#[derive(Debug)]
pub(super) struct Hypertables {
    extension: String,
    /// The retention that the database's own jobs were told last.
    told: Mutex<Option<Retention>>,
}

/// A statement that asks where the extension is: a row if it is installed or could be.
pub(super) const ASK: &str = "select coalesce((select n.nspname::text from pg_extension e \
    join pg_namespace n on n.oid = e.extnamespace where e.extname = 'timescaledb'), '') \
    from pg_available_extensions where name = 'timescaledb'";

/// Installs it. Not in our schema: others may use it too.
pub(super) const INSTALL: &str = "create extension if not exists timescaledb schema public";

/// What is made after the tables. `extension` is the schema of its functions.
pub(super) fn setup(extension: &str) -> String {
    let mut sql = String::new();
    for (table, column) in TABLES {
        sql.push_str(&format!(
            "select \"{extension}\".create_hypertable('{table}', '{column}', \
             chunk_time_interval => interval '1 day', create_default_indexes => false);\n"
        ));
    }
    sql.push_str(
        "alter table telemetry set (timescaledb.compress, \
         timescaledb.compress_segmentby = 'asset', \
         timescaledb.compress_orderby = 'at desc, tie desc');\n\
         alter table heartbeats set (timescaledb.compress, \
         timescaledb.compress_segmentby = 'asset', \
         timescaledb.compress_orderby = 'received_at desc');\n",
    );
    for (table, _) in TABLES {
        sql.push_str(&format!(
            "select \"{extension}\".add_compression_policy('{table}', {COMPRESSED_AFTER});\n"
        ));
    }
    sql
}

/// Lets the database's own jobs forget what is old; `seconds` of each table, `None` = never.
fn policies(extension: &str, retention: &Retention) -> String {
    let kept = [retention.telemetry, retention.heartbeats];
    let mut sql = String::new();
    for ((table, _), kept) in TABLES.into_iter().zip(kept) {
        sql.push_str(&format!(
            "select \"{extension}\".remove_retention_policy('{table}', if_exists => true);\n"
        ));
        if let Some(kept) = kept {
            sql.push_str(&format!(
                "select \"{extension}\".add_retention_policy('{table}', \
                 drop_after => interval '{} seconds');\n",
                kept.as_secs()
            ));
        }
    }
    sql
}

fn drop_chunks(extension: &str, table: &str, before: Timestamp) -> String {
    format!("select \"{extension}\".drop_chunks('{table}', older_than => timestamptz '{before}')")
}

impl Hypertables {
    pub(super) fn new(extension: String) -> Self {
        Self {
            extension,
            told: Mutex::new(None),
        }
    }

    /// Drops whole chunks. How many rows they held is not known.
    pub(super) async fn drop_old(
        &self,
        database: &Postgres,
        retention: &Retention,
        now: Timestamp,
    ) -> Result<Pruned, Fault> {
        let mut connection = database.begin().await?;
        let news = self.told.lock().as_ref() != Some(retention);
        if news {
            connection
                .control(&policies(&self.extension, retention))
                .await?;
        }
        let kept = [retention.telemetry, retention.heartbeats];
        for ((table, _), kept) in TABLES.into_iter().zip(kept) {
            if let Some(before) = horizon(kept, now) {
                connection
                    .control(&drop_chunks(&self.extension, table, before))
                    .await?;
            }
        }
        connection.commit().await?;
        *self.told.lock() = Some(retention.clone());
        Ok(Pruned::default())
    }

    pub(super) async fn count_old(
        &self,
        database: &Postgres,
        retention: &Retention,
        now: Timestamp,
    ) -> Result<Pruned, Fault> {
        let mut connection = database.snapshot().await?;
        let kept = [retention.telemetry, retention.heartbeats];
        let mut counts = [0; 2];
        for (((table, column), kept), count) in TABLES.into_iter().zip(kept).zip(&mut counts) {
            let Some(before) = horizon(kept, now) else {
                continue;
            };
            let sql = format!("select count(*) from {table} where {column} < ");
            let statement = Statement::new(Dialect::Postgres, &sql).bind(before);
            *count = prune::first(&mut connection, statement).await?;
        }
        connection.commit().await?;
        Ok(Pruned {
            telemetry: counts[0],
            heartbeats: counts[1],
            ..Pruned::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hypertables_are_made_compressed_and_told_what_to_forget() {
        let setup = setup("public");
        assert!(setup.contains("\"public\".create_hypertable('telemetry', 'at'"));
        assert!(setup.contains("\"public\".create_hypertable('heartbeats', 'received_at'"));
        assert!(setup.contains("add_compression_policy('telemetry', interval '7 days')"));
        let mut retention = Retention::forever();
        retention.telemetry = Some(std::time::Duration::from_secs(86_400));
        let policies = policies("public", &retention);
        assert!(
            policies.contains(
                "add_retention_policy('telemetry', drop_after => interval '86400 seconds')"
            )
        );
        assert!(policies.contains("remove_retention_policy('heartbeats', if_exists => true)"));
        assert!(!policies.contains("add_retention_policy('heartbeats'"));
        assert_eq!(
            drop_chunks("public", "telemetry", Timestamp::UNIX_EPOCH),
            "select \"public\".drop_chunks('telemetry', older_than => \
             timestamptz '1970-01-01T00:00:00Z')"
        );
    }
}
