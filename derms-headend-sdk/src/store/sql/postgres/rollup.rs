//! Quarters of an hour that are over, summed up, for those who ask for buckets: a day of one asset
//! is 96 rows instead of 21,600 that lie on a page each.
//!
//! A quarter is summed up in two steps, for measurements may arrive late while that goes on. First
//! `marked_to` moves past it: whoever adds a measurement before that time marks its quarter stale,
//! in the same transaction. Then it is summed up, marked rows are left alone, and `complete_to` moves past
//! it: readers take summed up rows before that time and read measurement by measurement what is
//! stale. Stale rows are summed up again, locked, so that one that is marked meanwhile stays stale.
//! From `complete_from` to `complete_to` no row means no measurement.

use std::collections::BTreeSet;
use std::time::Duration;

use derms_proto::Timestamp;
use parking_lot::Mutex;
use sqlx::{AssertSqlSafe, Executor as _};
use tokio::time::{Instant, timeout};

use super::super::super::Retention;
use super::super::super::retention::horizon;
use super::super::connection::{Connection as _, Database as _, Ranges, Row as _, TelemetryRow};
use super::super::fault::Fault;
use super::super::prune::PORTION;
use super::super::statement::{Dialect, Statement};
use super::super::telemetry::{SUMMARY, summary};
use super::Postgres;
use super::connection::{ONE_BY_ONE, PostgresConnection};
use super::partitions::Day;
use super::time::Time;

/// What a row sums up, and its length in SQL.
const QUARTER_S: i64 = 900;
const QUARTER: &str = "interval '15 minutes'";
const MICROS: i64 = QUARTER_S * 1_000_000;

/// So long a quarter is left alone after its end: most of what comes late has come by then.
const SETTLED: Duration = Duration::from_secs(300);

/// The most assets in one transaction, each with some hundred measurements.
const ASSETS: i64 = 1_000;

/// The most stale rows in one transaction.
const STALE: i64 = 500;

/// After so long others have their turn.
const TURN: Duration = Duration::from_secs(2);

/// The longest that it may take, well below what a call of the store may.
const PATIENCE: Duration = Duration::from_secs(6);

/// How far this process is within the quarter that it sums up.
#[derive(Debug, Default)]
pub(super) struct Rollup {
    /// The quarter, and the last asset that is done.
    within: Mutex<Option<(Timestamp, i64)>>,
}

impl Rollup {
    /// Sums up what is over and what has become stale, forgets what is old, for a while; tells
    /// whether there is more.
    pub(super) async fn keep(
        &self,
        database: &Postgres,
        retention: &Retention,
        now: Timestamp,
    ) -> bool {
        // It only makes reading faster: nothing else waits for it or fails with it.
        let caught_up = timeout(PATIENCE, self.catch_up(database, retention, now)).await;
        match caught_up.unwrap_or(Err(Fault::TooLong)) {
            Ok(more) => more,
            Err(fault) => {
                tracing::warn!(error = ?fault, "can't sum up telemetry; long histories are slower");
                false
            }
        }
    }

    async fn catch_up(
        &self,
        database: &Postgres,
        retention: &Retention,
        now: Timestamp,
    ) -> Result<bool, Fault> {
        let old = horizon(retention.telemetry, now);
        let start = Instant::now();
        while start.elapsed() < TURN {
            // What is stale comes last: with a backfill that never ends, it never does, and may
            // take all the time there is.
            let forgotten = forget(database, old).await?;
            let gone_on = self.go_on(database, now).await?;
            let summed_up = sum_up_stale(database).await?;
            if !(forgotten || gone_on || summed_up) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A portion of the next quarter that is over; `false` if there is none.
    async fn go_on(&self, database: &Postgres, now: Timestamp) -> Result<bool, Fault> {
        let Some(quarter) = mark(database, now).await? else {
            return Ok(false);
        };
        let within = *self.within.lock();
        let after = within.filter(|(at, _)| *at == quarter);
        let after = after.map_or(i64::MIN, |(_, asset)| asset);
        let mut connection = database.begin().await?;
        let last = sum_up(&mut connection, quarter, after).await?;
        if last.is_none() {
            let done = Statement::new(
                Dialect::Postgres,
                "update rollup_progress set complete_to = ",
            )
            .bind(next(quarter))
            .push(" where complete_to = ")
            .bind(quarter);
            connection.run(done).await?;
        }
        connection.commit().await?;
        *self.within.lock() = last.map(|asset| (quarter, asset));
        Ok(true)
    }
}

fn floor(at: Timestamp) -> Timestamp {
    Timestamp::from_unix_micros(at.unix_micros().div_euclid(MICROS).saturating_mul(MICROS))
}

fn next(quarter: Timestamp) -> Timestamp {
    Timestamp::from_unix_micros(quarter.unix_micros().saturating_add(MICROS))
}

/// The row of `rollup_progress`, and the server's clock.
struct Progress {
    complete_from: Timestamp,
    complete_to: Timestamp,
    marked_to: Timestamp,
    now: Timestamp,
}

async fn progress(connection: &mut PostgresConnection) -> Result<Option<Progress>, Fault> {
    let statement = Statement::new(
        Dialect::Postgres,
        "select complete_from, complete_to, marked_to, now() from rollup_progress",
    );
    let rows = connection.rows(statement).await?;
    let progress = rows.first().map(|row| {
        Ok(Progress {
            complete_from: row.time(0)?,
            complete_to: row.time(1)?,
            marked_to: row.time(2)?,
            now: row.time(3)?,
        })
    });
    progress.transpose()
}

/// The first quarter that is over and not summed up; from now on who adds to it marks it.
async fn mark(database: &Postgres, now: Timestamp) -> Result<Option<Timestamp>, Fault> {
    let mut connection = database.begin().await?;
    // Who adds measurements holds this until they can be seen.
    connection.control(ONE_BY_ONE).await?;
    let progress = progress(&mut connection)
        .await?
        .ok_or_else(|| Fault::unreadable("the progress of summing up is gone"))?;
    let quarter = progress.complete_to;
    let end = next(quarter);
    // A clock that is ahead must not have all that is measured marked.
    if end > now.min(progress.now).saturating_sub(SETTLED) {
        connection.rollback().await;
        return Ok(None);
    }
    if progress.marked_to < end {
        let mark = Statement::new(Dialect::Postgres, "update rollup_progress set marked_to = ");
        connection.run(mark.bind(end)).await?;
    }
    connection.commit().await?;
    Ok(Some(quarter))
}

/// Sums up a quarter of the assets after one; gives the last of them, `None` when there was none.
async fn sum_up(
    connection: &mut PostgresConnection,
    quarter: Timestamp,
    after: i64,
) -> Result<Option<i64>, Fault> {
    let keys = Statement::new(Dialect::Postgres, "select key from assets where key > ")
        .bind(after)
        .push(" order by key limit ")
        .bind(ASSETS);
    let keys = connection.rows(keys).await?;
    let Some(last) = keys.last() else {
        return Ok(None);
    };
    let last = last.int(0)?;
    let sql = format!(
        "insert into telemetry_rollup (asset, at, {}) select key, $1, summed.* \
         from assets cross join lateral (select {} from telemetry where asset = key \
         and at >= $1 and at < $2) summed where key > $3 and key <= $4 and count > 0 \
         order by key on conflict (asset, at) do nothing",
        SUMMARY.join(", "),
        summary()
    );
    let query = sqlx::query(AssertSqlSafe(sql))
        .bind(Time(quarter))
        .bind(Time(next(quarter)))
        .bind(after)
        .bind(last);
    connection.connection.execute(query).await?;
    Ok(Some(last))
}

/// A portion of what has become stale; `false` if nothing has.
async fn sum_up_stale(database: &Postgres) -> Result<bool, Fault> {
    let mut connection = database.begin().await?;
    let stale = Statement::new(
        Dialect::Postgres,
        "select asset, at from telemetry_rollup where stale order by asset, at limit ",
    )
    .bind(STALE)
    .push(" for update");
    let rows = connection.rows(stale).await?;
    let (mut assets, mut times) = (Vec::new(), Vec::new());
    for row in &rows {
        assets.push(row.int(0)?);
        times.push(Time(row.time(1)?));
    }
    if rows.is_empty() {
        connection.rollback().await;
        return Ok(false);
    }
    // A statement of its own sees what was added by those who held the locks before.
    let sql = format!(
        "update telemetry_rollup r set stale = false, ({}) = (select {} from telemetry t \
         where t.asset = r.asset and t.at >= r.at and t.at < r.at + {QUARTER}) \
         from unnest($1, $2) as wanted (asset, at) \
         where r.asset = wanted.asset and r.at = wanted.at",
        SUMMARY.join(", "),
        summary()
    );
    let query = sqlx::query(AssertSqlSafe(sql)).bind(assets).bind(times);
    connection.connection.execute(query).await?;
    connection.commit().await?;
    Ok(true)
}

/// Forgets a portion of the days that ended before this, as measurements are forgotten; `false` if
/// there was none.
async fn forget(database: &Postgres, before: Option<Timestamp>) -> Result<bool, Fault> {
    let Some(before) = before else {
        return Ok(false);
    };
    let mut connection = database.begin().await?;
    // Others lock rows in the order of their keys: to wait for them here would be a deadlock.
    let old = Statement::new(
        Dialect::Postgres,
        "delete from telemetry_rollup where ctid = any(array(select ctid from telemetry_rollup \
         where at < ",
    )
    .bind(Day::of(before).start())
    .push(" limit ")
    .bind(PORTION)
    .push(" for update skip locked))");
    let forgotten = connection.run(old).await?;
    connection.commit().await?;
    Ok(forgotten > 0)
}

/// Marks the quarters that these measurements come too late for. The caller holds [`ONE_BY_ONE`].
pub(super) async fn mark_late(
    connection: &mut PostgresConnection,
    rows: &[TelemetryRow<'_>],
) -> Result<(), Fault> {
    let Some(progress) = progress(connection).await? else {
        return Ok(());
    };
    let summed_up = progress.complete_from..progress.marked_to;
    let late = rows.iter().filter(|row| summed_up.contains(&row.at));
    let late: BTreeSet<_> = late.map(|row| (row.asset, floor(row.at))).collect();
    if late.is_empty() {
        return Ok(());
    }
    let (assets, times): (Vec<i64>, Vec<Time>) = late
        .into_iter()
        .map(|(asset, quarter)| (asset, Time(quarter)))
        .unzip();
    let sql = "insert into telemetry_rollup (asset, at, stale) \
               select asset, at, true from unnest($1, $2) as late (asset, at) order by asset, at \
               on conflict (asset, at) do update set stale = true \
               where not telemetry_rollup.stale";
    let query = sqlx::query(sql).bind(assets).bind(times);
    connection.connection.execute(query).await?;
    Ok(())
}

/// Which part of a range is summed up.
pub(super) async fn ranges(
    connection: &mut PostgresConnection,
    start: Timestamp,
    end: Timestamp,
    step_s: i64,
) -> Result<Ranges, Fault> {
    let whole = Ranges::measured(start, end);
    if step_s % QUARTER_S != 0 {
        return Ok(whole);
    }
    let Some(progress) = progress(connection).await? else {
        return Ok(whole);
    };
    let from = floor(start.max(progress.complete_from));
    let from = if from < start { next(from) } else { from };
    let to = floor(end.min(progress.complete_to));
    if from >= to {
        return Ok(whole);
    }
    Ok(Ranges {
        measured: vec![(start, from), (to, end)],
        summed_up: Some((from, to)),
    })
}
