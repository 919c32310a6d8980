//! A connection to the server, inside a transaction.

use std::collections::HashSet;
use std::time::Duration;

use derms_proto::link::LogKind;
use derms_proto::{AgentId, LogId, Timestamp};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgPool, PgRow};
use sqlx::{AssertSqlSafe, Executor as _, Row as _};
use uuid::Uuid;

use super::super::codes::Code as _;
use super::super::connection::{Connection, Ranges, Row, TelemetryRow, bind, columns};
use super::super::fault::Fault;
use super::super::statement::{Dialect, Statement};
use super::super::telemetry::COLUMNS;
use super::super::value::{Value, saturated, without_nul};
use super::time::{self, Time};
use super::{rollup, rows};

/// A connection to the server.
#[derive(Debug)]
pub struct PostgresConnection {
    pub(super) connection: PoolConnection<sqlx::Postgres>,
    ended: bool,
}

/// What a transaction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    /// All statements see the same moment.
    Read,
    /// Each statement sees what was committed before it: what has waited for a lock goes on with
    /// what the other has left.
    Write,
}

impl PostgresConnection {
    pub(super) async fn begin(pool: &PgPool, begin: Begin) -> Result<Self, Fault> {
        let mut this = Self {
            connection: pool.acquire().await?,
            ended: false,
        };
        this.control(match begin {
            Begin::Read => "begin isolation level repeatable read read only",
            Begin::Write => "begin isolation level read committed read write",
        })
        .await?;
        Ok(this)
    }

    /// A statement without arguments and without an answer, in one round trip.
    pub(super) async fn control(&mut self, sql: &str) -> Result<(), Fault> {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        self.connection.execute(sql).await?;
        Ok(())
    }
}

/// Serialises calls that add telemetry.
pub(super) const ONE_BY_ONE: &str =
    "select pg_advisory_xact_lock(hashtext('derms ' || current_schema()), 3)";

impl PostgresConnection {
    /// Moves logs that are known; the others are left out.
    async fn move_known(
        &mut self,
        kind: LogKind,
        logs: &[(AgentId, LogId, u64)],
    ) -> Result<Vec<(AgentId, LogId, u64)>, Fault> {
        let sql = "update log_cursors set previous_seq = next_seq, \
                   next_seq = greatest(next_seq, moved.next) \
                   from unnest($1, $2, $3) as moved (agent, log, next) \
                   where agent_id = moved.agent and kind = $4 and log_id = moved.log \
                   returning agent_id, log_id, previous_seq";
        self.moved(sql, kind, logs).await
    }

    /// One statement reads, moves and holds them, also those that are new.
    async fn add_or_move(
        &mut self,
        kind: LogKind,
        logs: &[(AgentId, LogId, u64)],
    ) -> Result<Vec<(AgentId, LogId, u64)>, Fault> {
        let sql = "insert into log_cursors (agent_id, kind, log_id, next_seq, previous_seq) \
                   select agent, $4, log, next, 0 from unnest($1, $2, $3) \
                   as moved (agent, log, next) order by agent, log \
                   on conflict (agent_id, kind, log_id) do update set \
                   previous_seq = log_cursors.next_seq, \
                   next_seq = greatest(log_cursors.next_seq, excluded.next_seq) \
                   returning agent_id, log_id, previous_seq";
        self.moved(sql, kind, logs).await
    }

    async fn moved(
        &mut self,
        sql: &'static str,
        kind: LogKind,
        logs: &[(AgentId, LogId, u64)],
    ) -> Result<Vec<(AgentId, LogId, u64)>, Fault> {
        let agents: Vec<Uuid> = logs.iter().map(|(agent, ..)| agent.uuid()).collect();
        let ids: Vec<Uuid> = logs.iter().map(|(_, log, _)| log.uuid()).collect();
        let next: Vec<i64> = logs.iter().map(|(.., next)| saturated(*next)).collect();
        let query = sqlx::query(sql)
            .bind(agents)
            .bind(ids)
            .bind(next)
            .bind(kind.code());
        let rows = self.connection.fetch_all(query).await?;
        let stood = rows.into_iter().map(StoredRow).map(|row| {
            Ok((
                AgentId::new(row.uuid(0)?),
                LogId::new(row.uuid(1)?),
                row.counter(2)?,
            ))
        });
        stood.collect()
    }
}

impl Drop for PostgresConnection {
    fn drop(&mut self) {
        if !self.ended {
            self.connection.close_on_drop();
        }
    }
}

/// How far back the latest measurements are looked for first; then twice as far, and so on.
const FIRST_LOOK: Duration = Duration::from_secs(24 * 3600);

impl Connection for PostgresConnection {
    const DIALECT: Dialect = Dialect::Postgres;
    const LAST_TIE: u32 = 0x7fff;
    const MEASUREMENTS: &'static str = "telemetry";
    const HAS_VERSIONS: &'static str = "select c.relname::text from pg_class c join pg_namespace n \
         on n.oid = c.relnamespace where n.nspname = current_schema() \
         and c.relname = 'schema_versions'";
    const VERSIONS: &'static str = "create table schema_versions (version int8 primary key, \
         name text not null, applied_at timestamptz not null)";

    type Row = StoredRow;

    fn bucket(statement: Statement, at: &str, step_s: i64, before_1970_s: i64) -> Statement {
        // Before its origin `date_bin` rounds the wrong way in some releases.
        let statement = statement
            .push("date_bin(make_interval(secs => ")
            .bind(step_s);
        statement
            .push(&format!(
                "), {at}, timestamptz 'epoch' - make_interval(secs => "
            ))
            .bind(before_1970_s)
            .push("))")
    }

    async fn ranges(
        &mut self,
        start: Timestamp,
        end: Timestamp,
        step_s: i64,
    ) -> Result<Ranges, Fault> {
        rollup::ranges(self, start, end, step_s).await
    }

    async fn rows(&mut self, statement: Statement) -> Result<Vec<StoredRow>, Fault> {
        let mut query = sqlx::query(AssertSqlSafe(statement.sql));
        for value in statement.args {
            query = bind!(query, value, Time, |text| without_nul(&text), uuids => uuids);
        }
        let rows = self.connection.fetch_all(query).await?;
        Ok(rows.into_iter().map(StoredRow).collect())
    }

    async fn run(&mut self, statement: Statement) -> Result<u64, Fault> {
        let mut query = sqlx::query(AssertSqlSafe(statement.sql));
        for value in statement.args {
            query = bind!(query, value, Time, |text| without_nul(&text), uuids => uuids);
        }
        Ok(self.connection.execute(query).await?.rows_affected())
    }

    async fn script(&mut self, sql: &str) -> Result<(), Fault> {
        self.control(sql).await
    }

    async fn move_logs(
        &mut self,
        kind: LogKind,
        logs: &[(AgentId, LogId, u64)],
    ) -> Result<Vec<(AgentId, LogId, u64)>, Fault> {
        if kind != LogKind::Telemetry {
            return self.add_or_move(kind, logs).await;
        }
        // Thousands of logs move in a call and nearly all of them are known: an update of those
        // takes half as long. It takes its rows in any order, so calls come one after the other.
        self.control(ONE_BY_ONE).await?;
        let mut stood = self.move_known(kind, logs).await?;
        if stood.len() < logs.len() {
            let known: HashSet<_> = stood.iter().map(|(agent, log, _)| (*agent, *log)).collect();
            let mut new = logs.to_vec();
            new.retain(|(agent, log, _)| !known.contains(&(*agent, *log)));
            stood.extend(self.add_or_move(kind, &new).await?);
        }
        Ok(stood)
    }

    async fn insert_telemetry(&mut self, rows: &[TelemetryRow<'_>]) -> Result<(), Fault> {
        rollup::mark_late(self, rows).await?;
        rows::insert(self, rows).await
    }

    async fn latest_telemetry(&mut self, keys: &[i64]) -> Result<Vec<StoredRow>, Fault> {
        let sql = format!(
            "select latest.* from unnest($1) as wanted (key) cross join lateral (select {COLUMNS}, \
             asset from telemetry where asset = key and at >= $2 and at < $3 \
             order by at desc, tie desc limit 1) latest"
        );
        let mut missing: std::collections::BTreeSet<i64> = keys.iter().copied().collect();
        let (mut found, mut look) = (Vec::new(), FIRST_LOOK);
        let mut end = Timestamp::MAX;
        let mut start = Timestamp::now().saturating_sub(look);
        // Nearly all have one today, and a look at every day for every asset takes long.
        while !missing.is_empty() && end > Timestamp::MIN {
            let wanted: Vec<i32> = missing
                .iter()
                .filter_map(|key| i32::try_from(*key).ok())
                .collect();
            let query = sqlx::query(AssertSqlSafe(sql.as_str()))
                .bind(wanted)
                .bind(Time(start))
                .bind(Time(end));
            for row in self.connection.fetch_all(query).await? {
                let row = StoredRow(row);
                missing.remove(&row.int(20)?);
                found.push(row);
            }
            end = start;
            look = look.saturating_mul(2);
            start = start.saturating_sub(look);
        }
        Ok(found)
    }

    async fn commit(mut self) -> Result<(), Fault> {
        self.control("commit").await?;
        self.ended = true;
        Ok(())
    }

    async fn rollback(mut self) {
        self.ended = self.control("rollback").await.is_ok();
    }
}

/// A row of the server.
#[derive(Debug)]
pub struct StoredRow(PgRow);

impl Row for StoredRow {
    columns!();

    fn opt_time(&self, column: usize) -> Result<Option<Timestamp>, Fault> {
        Ok(self.opt_int(column)?.map(time::read))
    }
}
