//! How measurements and heartbeats lie in the database.

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
