//! A connection to the file, inside a transaction.

use std::collections::HashMap;
use std::sync::Arc;

use derms_proto::link::LogKind;
use derms_proto::{AgentId, LogId, Timestamp};
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteArguments, SqlitePool, SqliteRow};
use sqlx::{AssertSqlSafe, Executor as _, Row as _};
use uuid::Uuid;

use super::super::codes::Code as _;
use super::super::connection::{Connection, Ranges, Row, TelemetryRow, bind, columns};
use super::super::fault::Fault;
use super::super::logs::Move;
use super::super::statement::{Dialect, Statement, portions};
use super::super::telemetry::COLUMNS;
use super::super::value::{Value, counter};
use super::recent::{self, Recent};

/// A connection to the file.
#[derive(Debug)]
pub struct SqliteConnection {
    connection: PoolConnection<sqlx::Sqlite>,
    recent: Arc<Recent>,
    ended: bool,
}

/// What a transaction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    Read,
    /// Takes the right to write at once: to ask for it later could fail.
    Write,
}

impl SqliteConnection {
    pub(super) async fn begin(pool: &SqlitePool, begin: Begin) -> Result<Self, Fault> {
        let mut this = Self {
            connection: pool.acquire().await?,
            recent: Arc::default(),
            ended: false,
        };
        this.end(match begin {
            Begin::Read => "begin",
            Begin::Write => "begin immediate",
        })
        .await?;
        Ok(this)
    }

    /// Measurements go where this says.
    pub(super) fn adding_to(mut self, recent: &Arc<Recent>) -> Self {
        self.recent = Arc::clone(recent);
        self
    }

    async fn end(&mut self, sql: &'static str) -> Result<(), Fault> {
        self.connection.execute(sqlx::query(sql)).await?;
        Ok(())
    }

    pub(super) async fn insert(&mut self, sql: String, args: SqliteArguments) -> Result<(), Fault> {
        let query = sqlx::query_with(AssertSqlSafe(sql), args);
        self.connection.execute(query).await?;
        Ok(())
    }
}

impl Drop for SqliteConnection {
    fn drop(&mut self) {
        if !self.ended {
            self.connection.close_on_drop();
        }
    }
}

impl Connection for SqliteConnection {
    const DIALECT: Dialect = Dialect::Sqlite;
    const LAST_TIE: u32 = 0x7fff_ffff;
    const MEASUREMENTS: &'static str = "measurements";
    const TOUCH: &'static str = "pragma user_version = 1";
    const HAS_VERSIONS: &'static str =
        "select name from sqlite_master where type = 'table' and name = 'schema_versions'";
    const VERSIONS: &'static str = "create table schema_versions (version integer primary key, \
         name text not null, applied_at integer not null) strict";

    type Row = StoredRow;

    fn bucket(statement: Statement, at: &str, step_s: i64, before_1970_s: i64) -> Statement {
        // What is divided is never negative.
        statement
            .push(&format!("{at} - ({at} + "))
            .bind(before_1970_s)
            .push(" * 1000000) % (")
            .bind(step_s)
            .push(" * 1000000)")
    }

    async fn ranges(&mut self, start: Timestamp, end: Timestamp, _: i64) -> Result<Ranges, Fault> {
        // Rows lie by asset and time: a day of one asset is read in a few milliseconds.
        Ok(Ranges::measured(start, end))
    }

    async fn rows(&mut self, statement: Statement) -> Result<Vec<StoredRow>, Fault> {
        let mut query = sqlx::query(AssertSqlSafe(statement.sql));
        for value in statement.args {
            query = bind!(query, value, Timestamp::unix_micros, |text| text, _none => None::<i64>);
        }
        let rows = self.connection.fetch_all(query).await?;
        Ok(rows.into_iter().map(StoredRow).collect())
    }

    async fn run(&mut self, statement: Statement) -> Result<u64, Fault> {
        let mut query = sqlx::query(AssertSqlSafe(statement.sql));
        for value in statement.args {
            query = bind!(query, value, Timestamp::unix_micros, |text| text, _none => None::<i64>);
        }
        Ok(self.connection.execute(query).await?.rows_affected())
    }

    async fn script(&mut self, sql: &str) -> Result<(), Fault> {
        let script = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        self.connection.execute(script).await?;
        Ok(())
    }

    async fn move_logs(
        &mut self,
        kind: LogKind,
        logs: &[Move],
    ) -> Result<Vec<(AgentId, LogId, u64)>, Fault> {
        let rows: Vec<Vec<Value>> = logs
            .iter()
            .map(|log| {
                let (kind, next) = (kind.code().into(), counter(log.next));
                vec![log.agent.into(), kind, log.log.into(), next, 0.into()]
            })
            .collect();
        let mut stood = Vec::new();
        for rows in portions(rows) {
            let statement = Statement::new(
                Dialect::Sqlite,
                "insert into log_cursors (agent_id, kind, log_id, next_seq, previous_seq) values ",
            )
            .rows(rows)
            .push(
                " on conflict do update set previous_seq = next_seq, \
                 next_seq = max(next_seq, excluded.next_seq) \
                 returning agent_id, log_id, previous_seq",
            );
            for row in self.rows(statement).await? {
                stood.push((
                    AgentId::new(row.uuid(0)?),
                    LogId::new(row.uuid(1)?),
                    row.counter(2)?,
                ));
            }
        }
        Ok(stood)
    }

    async fn insert_telemetry(&mut self, rows: &[TelemetryRow<'_>]) -> Result<(), Fault> {
        let recent = Arc::clone(&self.recent);
        recent::insert(self, &recent, rows).await
    }

    async fn latest_telemetry(&mut self, _: &[i64]) -> Result<Vec<StoredRow>, Fault> {
        let placed = Statement::new(Dialect::Sqlite, "select ")
            .push(COLUMNS)
            .push(
                ", asset from (select key, (select max(at) from telemetry where asset = key) as \
                 newest from assets) a cross join telemetry t on t.asset = a.key and t.at = a.newest \
                 and t.tie = (select max(tie) from telemetry where asset = a.key and at = a.newest)",
            );
        let waiting = Statement::new(Dialect::Sqlite, "select ")
            .push(COLUMNS)
            .push(
                ", asset from (select asset as key, max(at) as newest from telemetry_recent \
                 group by asset) a cross join recent_segments s cross join telemetry_recent r \
                 on r.segment = s.id and r.asset = a.key and r.at = a.newest",
            );
        let mut rows = self.rows(placed).await?;
        rows.extend(self.rows(waiting).await?);
        newest(rows)
    }

    async fn commit(mut self) -> Result<(), Fault> {
        self.end("commit").await?;
        self.ended = true;
        Ok(())
    }

    async fn rollback(mut self) {
        self.ended = self.end("rollback").await.is_ok();
    }
}

/// Of each asset the newest.
fn newest(rows: Vec<StoredRow>) -> Result<Vec<StoredRow>, Fault> {
    let mut newest: HashMap<i64, ((i64, i64), StoredRow)> = HashMap::new();
    for row in rows {
        // The place, and the key that stands behind the columns of the measurement.
        let (place, asset) = ((row.int(0)?, row.int(1)?), row.int(20)?);
        match newest.get(&asset) {
            Some((other, _)) if *other >= place => {}
            _ => drop(newest.insert(asset, (place, row))),
        }
    }
    Ok(newest.into_values().map(|(_, row)| row).collect())
}

/// A row of the file.
#[derive(Debug)]
pub struct StoredRow(SqliteRow);

impl Row for StoredRow {
    columns!();

    fn opt_time(&self, column: usize) -> Result<Option<Timestamp>, Fault> {
        Ok(self.opt_int(column)?.map(Timestamp::from_unix_micros))
    }
}
