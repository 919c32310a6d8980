//! What the statements of this module need of a database.

use std::future::Future;

use derms_proto::link::LogKind;
use derms_proto::{AgentId, LogId, SiteId, Telemetry, Timestamp};
use uuid::Uuid;

use super::super::{Pruned, Retention};
use super::fault::Fault;
use super::logs::Move;
use super::statement::{Dialect, Statement};

/// A database, with its connections. Sealed: its name can't be reached from outside.
pub trait Database: std::fmt::Debug + Send + Sync + 'static {
    /// One of its connections.
    type Connection: Connection;

    /// Begins a transaction that writes.
    fn begin(&self) -> impl Future<Output = Result<Self::Connection, Fault>> + Send;

    /// Begins a transaction that sees one moment and changes nothing.
    fn snapshot(&self) -> impl Future<Output = Result<Self::Connection, Fault>> + Send;

    /// Makes room for measurements or heartbeats of these times, before a transaction that adds
    /// them.
    fn make_room(
        &self,
        table: &'static str,
        times: impl Iterator<Item = Timestamp> + Send,
    ) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Forgets a part of the measurements and heartbeats that are old.
    fn drop_old(
        &self,
        retention: &Retention,
        now: Timestamp,
    ) -> impl Future<Output = Result<Pruned, Fault>> + Send;

    /// Counts them.
    fn count_old(
        &self,
        retention: &Retention,
        now: Timestamp,
    ) -> impl Future<Output = Result<Pruned, Fault>> + Send;
}

/// A connection inside a transaction. Dropped without [`commit`](Self::commit) or
/// [`rollback`](Self::rollback) it is closed: what state it was left in is not known.
pub trait Connection: Send {
    /// How it writes.
    const DIALECT: Dialect;
    /// The largest number that tells apart measurements of one time.
    const LAST_TIE: u32;
    /// What has all measurements.
    const MEASUREMENTS: &'static str;

    /// The smallest change that its commit waits for the disk with.
    const TOUCH: &'static str;

    /// Gives a row if there is a table of schema versions.
    const HAS_VERSIONS: &'static str;
    /// Makes that table.
    const VERSIONS: &'static str;

    /// One of its rows.
    type Row: Row;

    /// Adds the start of the bucket of a column: the first of all buckets starts so many seconds
    /// before 1970.
    fn bucket(statement: Statement, at: &str, step_s: i64, before_1970_s: i64) -> Statement;

    /// Which parts of a range are summed up already for buckets of this length.
    fn ranges(
        &mut self,
        start: Timestamp,
        end: Timestamp,
        step_s: i64,
    ) -> impl Future<Output = Result<Ranges, Fault>> + Send;

    /// Runs a statement that gives rows.
    fn rows(
        &mut self,
        statement: Statement,
    ) -> impl Future<Output = Result<Vec<Self::Row>, Fault>> + Send;

    /// Runs a statement; gives how many rows it changed.
    fn run(&mut self, statement: Statement) -> impl Future<Output = Result<u64, Fault>> + Send;

    /// Runs a script.
    fn script(&mut self, sql: &str) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Moves logs on, in the order of their ids, and holds them; gives where they stood, at least
    /// of those that stood above `first`.
    fn move_logs(
        &mut self,
        kind: LogKind,
        logs: &[Move],
    ) -> impl Future<Output = Result<Vec<(AgentId, LogId, u64)>, Fault>> + Send;

    /// Adds measurements.
    fn insert_telemetry(
        &mut self,
        rows: &[TelemetryRow<'_>],
    ) -> impl Future<Output = Result<(), Fault>> + Send;

    /// The newest measurement of each of these assets, by their keys.
    fn latest_telemetry(
        &mut self,
        keys: &[i64],
    ) -> impl Future<Output = Result<Vec<Self::Row>, Fault>> + Send;

    /// Makes all of it durable.
    fn commit(self) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Undoes all of it, so that the connection can be used again.
    fn rollback(self) -> impl Future<Output = ()> + Send;
}

/// Where the buckets of a range come from; each from its start up to before its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranges {
    /// Measurement by measurement.
    pub measured: Vec<(Timestamp, Timestamp)>,
    /// From whole quarters of an hour that are summed up.
    pub summed_up: Option<(Timestamp, Timestamp)>,
}

impl Ranges {
    /// Nothing of it is summed up.
    pub(super) fn measured(start: Timestamp, end: Timestamp) -> Self {
        Self {
            measured: vec![(start, end)],
            summed_up: None,
        }
    }
}

/// A measurement about to be stored.
#[derive(Debug, Clone, Copy)]
pub struct TelemetryRow<'a> {
    /// Its asset.
    pub asset: i64,
    /// Where it is placed.
    pub at: Timestamp,
    /// Tells it apart from others of that time.
    pub tie: u32,
    /// Its site, if that is not the one of its asset.
    pub site: Option<SiteId>,
    /// All of it.
    pub telemetry: &'a Telemetry,
}

/// Columns of a row, by position.
pub trait Row: Send {
    /// An integer of any size.
    fn opt_int(&self, column: usize) -> Result<Option<i64>, Fault>;
    /// A number.
    fn opt_real(&self, column: usize) -> Result<Option<f64>, Fault>;
    /// A truth.
    fn flag(&self, column: usize) -> Result<bool, Fault>;
    /// A text.
    fn opt_text(&self, column: usize) -> Result<Option<String>, Fault>;
    /// An id.
    fn opt_uuid(&self, column: usize) -> Result<Option<Uuid>, Fault>;
    /// A time.
    fn opt_time(&self, column: usize) -> Result<Option<Timestamp>, Fault>;
    /// A JSON value.
    fn opt_json(&self, column: usize) -> Result<Option<serde_json::Value>, Fault>;

    /// An integer.
    fn int(&self, column: usize) -> Result<i64, Fault> {
        there(self.opt_int(column)?, column)
    }

    /// A counter.
    fn counter(&self, column: usize) -> Result<u64, Fault> {
        u64::try_from(self.int(column)?).map_err(|_| negative(column))
    }

    /// A counter that may be absent.
    fn opt_counter(&self, column: usize) -> Result<Option<u64>, Fault> {
        self.opt_int(column)?
            .map(|value| u64::try_from(value).map_err(|_| negative(column)))
            .transpose()
    }

    /// A number.
    fn real(&self, column: usize) -> Result<f64, Fault> {
        there(self.opt_real(column)?, column)
    }

    /// A text.
    fn text(&self, column: usize) -> Result<String, Fault> {
        there(self.opt_text(column)?, column)
    }

    /// An id.
    fn uuid(&self, column: usize) -> Result<Uuid, Fault> {
        there(self.opt_uuid(column)?, column)
    }

    /// A time.
    fn time(&self, column: usize) -> Result<Timestamp, Fault> {
        there(self.opt_time(column)?, column)
    }
}

fn there<T>(value: Option<T>, column: usize) -> Result<T, Fault> {
    value.ok_or_else(|| Fault::unreadable(format!("column {column} is empty")))
}

fn negative(column: usize) -> Fault {
    Fault::unreadable(format!("the counter in column {column} is negative"))
}

/// Implements [`Row`] for a row of sqlx, but for what needs the database's own types.
macro_rules! columns {
    () => {
        fn opt_int(&self, column: usize) -> Result<Option<i64>, Fault> {
            Ok(self.0.try_get_unchecked(column)?)
        }
        fn opt_real(&self, column: usize) -> Result<Option<f64>, Fault> {
            Ok(self.0.try_get_unchecked(column)?)
        }
        fn flag(&self, column: usize) -> Result<bool, Fault> {
            Ok(self.0.try_get_unchecked(column)?)
        }
        fn opt_text(&self, column: usize) -> Result<Option<String>, Fault> {
            Ok(self.0.try_get_unchecked(column)?)
        }
        fn opt_uuid(&self, column: usize) -> Result<Option<Uuid>, Fault> {
            Ok(self.0.try_get_unchecked(column)?)
        }
        fn opt_json(&self, column: usize) -> Result<Option<serde_json::Value>, Fault> {
            let json: Option<sqlx::types::Json<serde_json::Value>> =
                self.0.try_get_unchecked(column)?;
            Ok(json.map(|json| json.0))
        }
    };
}
pub(super) use columns;

/// Binds a value to a query of sqlx; times and lists are bound as the database has them.
macro_rules! bind {
    ($query:ident, $value:expr, $time:expr, $text:expr, $uuids:ident => $list:expr) => {
        match $value {
            Value::Int(value) => $query.bind(value),
            Value::Real(value) => $query.bind(value),
            Value::Flag(value) => $query.bind(value),
            Value::Text(value) => $query.bind(value.map($text)),
            Value::Uuid(value) => $query.bind(value),
            Value::Time(value) => $query.bind(value.map($time)),
            Value::Json(value) => $query.bind(value.map(sqlx::types::Json)),
            #[cfg(feature = "postgres")]
            Value::Uuids($uuids) => $query.bind($list),
        }
    };
}
pub(super) use bind;
