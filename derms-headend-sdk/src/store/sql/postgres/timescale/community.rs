//! What only the Community edition, under the Timescale licence, can do: chunks are compressed after
//! a week, and the database's own jobs forget what is old, too.
//!
//! Distributions do not carry that edition: these statements were never run, and are tested as texts
//! alone. They follow <https://docs.timescale.com/api/latest/> (version 2.x).

use super::super::super::super::Retention;
use super::super::layout::{TABLES, kept};

/// Chunks older than this are compressed.
const COMPRESSED_AFTER: &str = "interval '7 days'";

/// Has chunks compressed when they are old enough. `schema` is that of the functions.
pub(super) fn compression(schema: &str) -> String {
    // All columns of a unique key are in one of both lists: releases refuse it otherwise, or look
    // through whole chunks for each row that comes late.
    let mut sql = String::from(
        "alter table telemetry set (timescaledb.compress, \
         timescaledb.compress_segmentby = 'asset', \
         timescaledb.compress_orderby = 'at desc, tie desc');\n\
         alter table heartbeats set (timescaledb.compress, \
         timescaledb.compress_segmentby = 'asset', \
         timescaledb.compress_orderby = 'received_at desc, agent_id, epoch');\n",
    );
    for (table, _) in TABLES {
        sql.push_str(&format!(
            "select \"{schema}\".add_compression_policy('{table}', {COMPRESSED_AFTER});\n"
        ));
    }
    sql
}

/// Lets the database's own jobs forget what is old, or nothing of what is kept for ever.
pub(super) fn policies(schema: &str, retention: &Retention) -> String {
    let mut sql = String::new();
    for (table, _) in TABLES {
        sql.push_str(&format!(
            "select \"{schema}\".remove_retention_policy('{table}', if_exists => true);\n"
        ));
        if let Some(kept) = kept(table, retention) {
            sql.push_str(&format!(
                "select \"{schema}\".add_retention_policy('{table}', \
                 drop_after => interval '{} seconds');\n",
                kept.as_secs()
            ));
        }
    }
    sql
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn both_tables_are_compressed_after_a_week_by_asset_and_all_of_their_keys() {
        let sql = compression("public");
        assert!(sql.contains("compress_orderby = 'at desc, tie desc'"));
        assert!(sql.contains("compress_orderby = 'received_at desc, agent_id, epoch'"));
        for table in ["telemetry", "heartbeats"] {
            assert!(sql.contains(&format!(
                "alter table {table} set (timescaledb.compress, \
                 timescaledb.compress_segmentby = 'asset'"
            )));
            assert!(sql.contains(&format!(
                "\"public\".add_compression_policy('{table}', interval '7 days')"
            )));
        }
    }

    #[test]
    fn jobs_are_told_what_is_old_and_are_stopped_where_all_is_kept() {
        let mut retention = Retention::forever();
        retention.telemetry = Some(Duration::from_secs(86_400));
        let sql = policies("public", &retention);
        assert!(sql.contains(
            "\"public\".add_retention_policy('telemetry', drop_after => interval '86400 seconds')"
        ));
        assert!(sql.contains("remove_retention_policy('heartbeats', if_exists => true)"));
        assert!(!sql.contains("add_retention_policy('heartbeats'"));
    }
}
