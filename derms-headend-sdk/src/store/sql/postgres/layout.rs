//! How measurements and heartbeats lie in the database.

use std::time::Duration;

use super::super::super::{Pruned, Retention};
use super::partitions::Days;
use super::timescale::Hypertables;

/// What a table that grows for ever is made of.
#[derive(Debug)]
pub(super) enum Layout {
    /// A partition a day.
    Partitions(Days),
    /// Chunks of TimescaleDB.
    Timescale(Hypertables),
}

/// These tables, and the time by which their rows lie.
pub(super) const TABLES: [(&str, &str); 2] = [("telemetry", "at"), ("heartbeats", "received_at")];

/// Serialises those that make and drop partitions or chunks of one schema.
pub(super) const LOCK: &str =
    "select pg_advisory_xact_lock(hashtext('derms ' || current_schema()), 2)";

/// How long the rows of one of [`TABLES`] are kept.
pub(super) fn kept(table: &str, retention: &Retention) -> Option<Duration> {
    match table {
        "telemetry" => retention.telemetry,
        _ => retention.heartbeats,
    }
}

pub(super) fn add(pruned: &mut Pruned, table: &str, rows: u64) {
    match table {
        "telemetry" => pruned.telemetry += rows,
        _ => pruned.heartbeats += rows,
    }
}
