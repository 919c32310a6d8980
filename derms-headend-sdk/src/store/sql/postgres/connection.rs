//! A connection to the server, inside a transaction.

use std::time::Duration;

use derms_proto::link::LogKind;
use derms_proto::{AgentId, LogId, Timestamp};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgPool, PgRow};
use sqlx::{AssertSqlSafe, Executor as _, Row as _};
use uuid::Uuid;

use super::super::codes::Code as _;
use super::super::connection::{Connection, Ranges, Row, TelemetryRow, bind, columns};
use super::super::fault::Fault;
use super::super::logs::Move;
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

/// What is acknowledged is on the disk, whatever server, database and role say. In each transaction,
/// for a reload of the server's settings and a pooler change what a session has set.
pub(super) const WRITE: &str = "begin isolation level read committed read write; \
                     select set_config('synchronous_commit', 'on', true) \
                     where current_setting('synchronous_commit') = 'off'";

impl PostgresConnection {
    pub(super) async fn begin(pool: &PgPool, begin: Begin) -> Result<Self, Fault> {
        let mut this = Self {
            connection: pool.acquire().await?,
            ended: false,
        };
        this.control(match begin {
            Begin::Read => "begin isolation level repeatable read read only",
            Begin::Write => WRITE,
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
    /// Moves logs of telemetry that are known; gives their number, and where those stood that stood
    /// above `first`. That is hardly ever one of the thousands in a call.
    async fn move_known(&mut self, logs: &Arrays) -> Result<(usize, Stood), Fault> {
        let sql = "with moved as (update log_cursors set previous_seq = next_seq, \
                   next_seq = greatest(next_seq, moved.next) \
                   from unnest($2, $3, $4, $5) as moved (agent, log, first, next) \
                   where agent_id = moved.agent and kind = $1 and log_id = moved.log \
                   returning agent_id, log_id, previous_seq, moved.first) \
                   select null as agent_id, null as log_id, count(*) from moved union all \
                   select agent_id, log_id, previous_seq from moved where previous_seq > first";
        let query = sqlx::query(sql).bind(LogKind::Telemetry.code());
        let rows = self.connection.fetch_all(logs.bind(query)).await?;
        let (count, logs): (Vec<_>, Vec<_>) =
            (rows.into_iter().map(StoredRow)).partition(|row| matches!(row.opt_uuid(0), Ok(None)));
        let known = count.first().map_or(Ok(0), |row| row.counter(2))?;
        Ok((usize::try_from(known).unwrap_or(usize::MAX), stood(logs)?))
    }

    /// Adds the others.
    async fn add_unknown(&mut self, logs: &Arrays) -> Result<(), Fault> {
        let sql = "insert into log_cursors (agent_id, kind, log_id, next_seq, previous_seq) \
                   select agent, $1, log, next, 0 from unnest($2, $3, $4, $5) \
                   as new (agent, log, first, next) where not exists (select from log_cursors \
                   where agent_id = agent and kind = $1 and log_id = log)";
        let query = sqlx::query(sql).bind(LogKind::Telemetry.code());
        self.connection.execute(logs.bind(query)).await?;
        Ok(())
    }

    /// One statement reads, moves and holds them, also those that are new.
    async fn add_or_move(&mut self, kind: LogKind, logs: &Arrays) -> Result<Stood, Fault> {
        let sql = "insert into log_cursors (agent_id, kind, log_id, next_seq, previous_seq) \
                   select agent, $1, log, next, 0 from unnest($2, $3, $4, $5) \
                   as moved (agent, log, first, next) order by agent, log \
                   on conflict (agent_id, kind, log_id) do update set \
                   previous_seq = log_cursors.next_seq, \
                   next_seq = greatest(log_cursors.next_seq, excluded.next_seq) \
                   returning agent_id, log_id, previous_seq";
        let query = logs.bind(sqlx::query(sql).bind(kind.code()));
        let rows = self.connection.fetch_all(query).await?;
        stood(rows.into_iter().map(StoredRow))
    }
}

/// Where logs stood.
type Stood = Vec<(AgentId, LogId, u64)>;

fn stood(rows: impl IntoIterator<Item = StoredRow>) -> Result<Stood, Fault> {
    let stood = rows.into_iter().map(|row| {
        Ok((
            AgentId::new(row.uuid(0)?),
            LogId::new(row.uuid(1)?),
            row.counter(2)?,
        ))
    });
    stood.collect()
}

/// Logs, an array a column.
struct Arrays {
    agents: Vec<Uuid>,
    ids: Vec<Uuid>,
    first: Vec<i64>,
    next: Vec<i64>,
}

impl Arrays {
    fn new(logs: &[Move]) -> Self {
        Self {
            agents: logs.iter().map(|log| log.agent.uuid()).collect(),
            ids: logs.iter().map(|log| log.log.uuid()).collect(),
            first: logs.iter().map(|log| saturated(log.first)).collect(),
            next: logs.iter().map(|log| saturated(log.next)).collect(),
        }
    }

    /// As the arguments that come next.
    fn bind<'q>(&'q self, query: Query<'q>) -> Query<'q> {
        query
            .bind(&self.agents)
            .bind(&self.ids)
            .bind(&self.first)
            .bind(&self.next)
    }
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, PgArguments>;

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
    const TOUCH: &'static str = "update holder set since = since";
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

    async fn move_logs(&mut self, kind: LogKind, logs: &[Move]) -> Result<Stood, Fault> {
        let arrays = Arrays::new(logs);
        if kind != LogKind::Telemetry {
            return self.add_or_move(kind, &arrays).await;
        }
        // Thousands of logs move in a call and nearly all of them are known: an update of those
        // takes half as long. It takes its rows in any order, so calls come one after the other.
        self.control(ONE_BY_ONE).await?;
        let (known, stood) = self.move_known(&arrays).await?;
        if known < logs.len() {
            self.add_unknown(&arrays).await?;
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
