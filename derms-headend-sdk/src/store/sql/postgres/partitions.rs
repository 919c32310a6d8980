//! Partitions by day, where there is no TimescaleDB.
//!
//! Each day from a while ago to the day after tomorrow has one; what is older, or comes from a
//! clock that is far behind, goes to the rest, so that no agent can make partitions without end.

use std::collections::{BTreeSet, HashSet};

use derms_proto::Timestamp;
use parking_lot::Mutex;

use super::super::super::retention::horizon;
use super::super::super::{Pruned, Retention};
use super::super::connection::{Connection as _, Database as _, Row as _};
use super::super::fault::Fault;
use super::super::prune::{self, PORTION};
use super::super::statement::{Dialect, Statement};
use super::Postgres;
use super::layout::{LOCK, TABLES, add, kept};

const MICROS_A_DAY: i64 = 24 * 3600 * 1_000_000;

/// Late measurements of so many days get partitions.
const BACK: i64 = 45;

/// Days that are made before they are needed.
const AHEAD: i64 = 2;

/// A day since 1970, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Day(i64);

impl Day {
    pub(super) fn of(at: Timestamp) -> Self {
        Self(at.unix_micros().div_euclid(MICROS_A_DAY))
    }

    pub(super) fn start(self) -> Timestamp {
        Timestamp::from_unix_micros(self.0.saturating_mul(MICROS_A_DAY))
    }

    fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// `20260131`.
    fn digits(self) -> String {
        self.start()
            .to_string()
            .chars()
            .filter(char::is_ascii_digit)
            .take(8)
            .collect()
    }

    /// Of a partition; `None` for the rest and what is not ours.
    fn of_partition(table: &str, partition: &str) -> Option<Self> {
        let digits = partition.strip_prefix(table)?.strip_prefix('_')?;
        let (year, month, day) = (digits.get(..4)?, digits.get(4..6)?, digits.get(6..)?);
        let start: Timestamp = format!("{year}-{month}-{day}T00:00:00Z").parse().ok()?;
        Some(Self::of(start))
    }
}

/// The days that have partitions, as far as this process has seen.
#[derive(Debug, Default)]
pub(super) struct Days(Mutex<HashSet<(&'static str, Day)>>);

impl Days {
    /// Makes sure that these times have a place.
    pub(super) async fn make_room(
        &self,
        database: &Postgres,
        table: &'static str,
        times: impl Iterator<Item = Timestamp> + Send,
    ) -> Result<(), Fault> {
        let today = Day::of(Timestamp::now());
        let days: BTreeSet<Day> = times.map(Day::of).collect();
        let window = Day(today.0 - BACK)..=Day(today.0 + AHEAD);
        for day in days.into_iter().filter(|day| window.contains(day)) {
            self.make(database, table, day).await?;
        }
        Ok(())
    }

    /// Makes the days to come.
    pub(super) async fn make_ahead(
        &self,
        database: &Postgres,
        now: Timestamp,
    ) -> Result<(), Fault> {
        let today = Day::of(now);
        for (table, _) in TABLES {
            for day in today.0..=today.0 + AHEAD {
                self.make(database, table, Day(day)).await?;
            }
        }
        Ok(())
    }

    async fn make(&self, database: &Postgres, table: &'static str, day: Day) -> Result<(), Fault> {
        if self.0.lock().contains(&(table, day)) {
            return Ok(());
        }
        let mut connection = database.begin().await?;
        connection.control(LOCK).await?;
        let column = TABLES.iter().find(|(name, _)| *name == table);
        let column = column.map_or("at", |(_, column)| column);
        let (from, to) = (day.start(), day.next().start());
        let partition = format!("{table}_{}", day.digits());
        // There already, or the rest has rows of that day since its partition was dropped.
        let exists = Statement::new(Dialect::Postgres, "select 1 from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = current_schema() and c.relname = ")
            .bind(partition.clone())
            .push(&format!(" union all (select 1 from {table}_rest where {column} >= "))
            .bind(from)
            .push(&format!(" and {column} < "))
            .bind(to)
            .push(" limit 1)");
        if connection.rows(exists).await?.is_empty() {
            // Attached instead of made as a partition: that does not wait for those who read.
            connection
                .control(&format!(
                    "create table {partition} (like {table} including all); \
                     alter table {table} attach partition {partition} \
                     for values from ('{from}') to ('{to}')"
                ))
                .await?;
        }
        connection.commit().await?;
        self.0.lock().insert((table, day));
        Ok(())
    }

    /// Drops the oldest day that is over, and a portion of the rest.
    pub(super) async fn drop_old(
        &self,
        database: &Postgres,
        retention: &Retention,
        now: Timestamp,
    ) -> Result<Pruned, Fault> {
        let mut pruned = Pruned::default();
        for (table, column) in TABLES {
            let Some(before) = first_day(table, retention, now) else {
                continue;
            };
            let mut connection = database.begin().await?;
            connection.control(LOCK).await?;
            let mut old = over(&mut connection, table, before).await?;
            let mut count = 0;
            if !old.is_empty() {
                let (day, partition, rows) = old.remove(0);
                // Who waits for this waits for all that read, and makes others wait: not for long.
                connection
                    .control(&format!(
                        "set local lock_timeout = '2s'; drop table {partition}"
                    ))
                    .await?;
                count += rows;
                self.0.lock().remove(&(table, day));
            }
            let rest = Statement::new(
                Dialect::Postgres,
                &format!(
                    "delete from {table}_rest where ctid = any(array(select ctid from \
                     {table}_rest where {column} < "
                ),
            )
            .bind(before.start())
            .push(" limit ")
            .bind(PORTION)
            .push("))");
            let deleted = connection.run(rest).await?;
            connection.commit().await?;
            pruned.more |= !old.is_empty() || deleted >= PORTION.unsigned_abs();
            add(&mut pruned, table, count + deleted);
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
            let Some(before) = first_day(table, retention, now) else {
                continue;
            };
            let days = over(&mut connection, table, before).await?;
            let days: u64 = days.iter().map(|(.., rows)| rows).sum();
            let rest = format!("select count(*) from {table}_rest where {column} < ");
            let rest = Statement::new(Dialect::Postgres, &rest).bind(before.start());
            let rest = prune::first(&mut connection, rest).await?;
            add(&mut pruned, table, days + rest);
        }
        connection.commit().await?;
        Ok(pruned)
    }
}

/// The first day that is kept. Days are dropped whole, so the rest is kept from there on, too: it
/// counts in the same sums.
fn first_day(table: &str, retention: &Retention, now: Timestamp) -> Option<Day> {
    horizon(kept(table, retention), now).map(Day::of)
}

/// The days before this one, oldest first, with an estimate of their rows.
async fn over(
    connection: &mut super::PostgresConnection,
    table: &str,
    before: Day,
) -> Result<Vec<(Day, String, u64)>, Fault> {
    let sql = "select c.relname::text, greatest(c.reltuples, 0)::int8 from pg_inherits i \
               join pg_class c on c.oid = i.inhrelid join pg_class p on p.oid = i.inhparent \
               join pg_namespace n on n.oid = p.relnamespace \
               where n.nspname = current_schema() and p.relname = ";
    let statement = Statement::new(Dialect::Postgres, sql).bind(table);
    let mut old = Vec::new();
    for row in connection.rows(statement).await? {
        let name = row.text(0)?;
        let Some(day) = Day::of_partition(table, &name) else {
            continue;
        };
        if day < before {
            old.push((day, name, row.counter(1)?));
        }
    }
    old.sort_unstable();
    Ok(old)
}

/// What a table is followed by when it is made, and what is made after it.
pub(super) fn clause(column: &str) -> String {
    format!("partition by range ({column})")
}

/// Where goes what has no day.
pub(super) fn rest() -> String {
    TABLES
        .iter()
        .map(|(table, _)| format!("create table {table}_rest partition of {table} default;\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_named_after_its_day() {
        let at: Timestamp = "2026-01-31T23:59:59.999999Z".parse().unwrap();
        let day = Day::of(at);
        assert_eq!(day.digits(), "20260131");
        assert_eq!(day.start().to_string(), "2026-01-31T00:00:00Z");
        assert_eq!(day.next().digits(), "20260201");
        assert_eq!(
            Day::of_partition("telemetry", "telemetry_20260131"),
            Some(day)
        );
        for other in [
            "telemetry_rest",
            "telemetry_2026",
            "telemetry",
            "heartbeats_20260131",
        ] {
            assert_eq!(Day::of_partition("telemetry", other), None);
        }
        let before: Timestamp = "1969-12-31T12:00:00Z".parse().unwrap();
        assert_eq!(Day::of(before), Day(-1));
    }
}
