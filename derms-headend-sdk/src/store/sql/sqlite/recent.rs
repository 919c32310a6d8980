//! Measurements that come one by one.
//!
//! `telemetry` lies by asset and time, so that history is read from few pages; to write there costs
//! a page an asset, however small the row. So what comes singly goes to `telemetry_recent`, in
//! segments in the order of arrival, and moves to its place with others of its asset, in rounds over
//! all assets: each call moves about twice what it adds, as long as too much waits.

use std::sync::Arc;

use parking_lot::Mutex;

use super::super::connection::{Connection as _, Row as _, TelemetryRow};
use super::super::fault::Fault;
use super::super::statement::{Dialect, Statement};
use super::super::telemetry::COLUMNS;
use super::connection::SqliteConnection;
use super::rows::{self, Table};

/// So many rows of one asset in one call fill pages of their own: they go to their place at once.
const MANY: usize = 8;
/// Rows that may wait: so many an asset, in these bounds.
const WAITING_AN_ASSET: u64 = 32;
const LEAST_WAITING: u64 = 4_096;
const MOST_WAITING: u64 = 1 << 20;
/// A segment takes so many rows at least, or one of each asset.
const LEAST_SEGMENT: u64 = 4_096;

/// How far the moving has come. Only a hint: a transaction that fails leaves it as if it had gone
/// through. What the tables hold is what counts.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<Option<Round>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Round {
    /// Rows that wait, about.
    waiting: u64,
    /// Rows that came since the round began.
    came: u64,
    /// Where rows are added, and how many it has.
    segment: i64,
    filled: u64,
    /// The first segment of this round: those before it are empty when it ends.
    first: i64,
    /// Assets up to this key have had their turn.
    reached: i64,
    /// The largest key of all assets.
    last: i64,
}

/// Assets whose rows are moved: those with keys above the first number, up to the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Portion {
    above: i64,
    up_to: i64,
}

impl Round {
    fn new(waiting: u64, last_segment: i64, last: i64) -> Self {
        Self {
            waiting,
            came: 0,
            segment: last_segment + 1,
            filled: 0,
            first: last_segment + 1,
            reached: 0,
            last,
        }
    }

    /// Rows are added: gives their segment, and what to move for it.
    fn add(&mut self, rows: u64, last: i64) -> (i64, Option<Portion>) {
        self.last = self.last.max(last);
        let assets = self.last.unsigned_abs();
        if self.filled >= assets.max(LEAST_SEGMENT) {
            self.segment += 1;
            self.filled = 0;
        }
        self.filled += rows;
        self.came += rows;
        self.waiting += rows;
        let most = assets
            .saturating_mul(WAITING_AN_ASSET)
            .clamp(LEAST_WAITING, MOST_WAITING);
        if self.waiting <= most {
            return (self.segment, None);
        }
        let share = assets.saturating_mul(2 * rows).div_ceil(self.waiting);
        let share = i64::try_from(share).unwrap_or(i64::MAX).max(1);
        let portion = Portion {
            above: self.reached,
            up_to: self.reached.saturating_add(share).min(self.last),
        };
        (self.segment, Some(portion))
    }

    /// A portion was moved; gives the first segment that may not be empty if that ends the round.
    fn moved(&mut self, portion: Portion, rows: u64) -> Option<i64> {
        self.waiting = self.waiting.saturating_sub(rows);
        self.reached = portion.up_to;
        if self.reached < self.last {
            return None;
        }
        let first = self.first;
        self.waiting = self.waiting.min(self.came);
        self.came = 0;
        self.segment += 1;
        self.filled = 0;
        self.first = self.segment;
        self.reached = 0;
        Some(first)
    }
}

/// Adds measurements, and moves others on.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    recent: &Arc<Recent>,
    rows: &[TelemetryRow<'_>],
) -> Result<(), Fault> {
    let (many, singles) = apart(rows);
    rows::insert(connection, Table::Telemetry, &many).await?;
    let Some(last) = singles.last().map(|row| row.asset) else {
        return Ok(());
    };
    let known = *recent.0.lock();
    let mut round = match known {
        Some(round) => round,
        None => look(connection).await?,
    };
    let (segment, portion) = round.add(singles.len() as u64, last);
    let name = Statement::new(
        Dialect::Sqlite,
        "insert or ignore into recent_segments (id) values ",
    );
    connection.run(name.row([segment.into()])).await?;
    rows::insert(connection, Table::Recent(segment), &singles).await?;
    if let Some(portion) = portion {
        let moved = put_into_place(connection, portion).await?;
        if let Some(first) = round.moved(portion, moved) {
            forget_segments(connection, first).await?;
        }
    }
    *recent.0.lock() = Some(round);
    Ok(())
}

/// Those of assets with many, and the others; by asset and time.
fn apart<'a>(rows: &[TelemetryRow<'a>]) -> (Vec<TelemetryRow<'a>>, Vec<TelemetryRow<'a>>) {
    let mut rows = rows.to_vec();
    rows.sort_by_key(|row| (row.asset, row.at, row.tie));
    let (mut many, mut singles) = (Vec::new(), Vec::new());
    for rows in rows.chunk_by(|one, next| one.asset == next.asset) {
        if rows.len() >= MANY {
            many.extend_from_slice(rows);
        } else {
            singles.extend_from_slice(rows);
        }
    }
    (many, singles)
}

async fn look(connection: &mut SqliteConnection) -> Result<Round, Fault> {
    let sql = "select (select count(*) from telemetry_recent), \
               (select coalesce(max(id), 0) from recent_segments), \
               (select coalesce(max(key), 0) from assets)";
    let rows = connection
        .rows(Statement::new(Dialect::Sqlite, sql))
        .await?;
    let row = rows
        .first()
        .ok_or_else(|| Fault::unreadable("a count has no row"))?;
    Ok(Round::new(row.counter(0)?, row.int(1)?, row.int(2)?))
}

/// Moves what waits of these assets; gives how many rows.
async fn put_into_place(connection: &mut SqliteConnection, portion: Portion) -> Result<u64, Fault> {
    let copy = |tie: &str| {
        let columns = COLUMNS.replacen("tie", tie, 1);
        let sql = format!(
            "insert into telemetry (asset, {COLUMNS}) select asset, {columns} from recent_segments \
             s cross join telemetry_recent r on r.segment = s.id and r.asset > "
        );
        Statement::new(Dialect::Sqlite, &sql)
            .bind(portion.above)
            .push(" and r.asset <= ")
            .bind(portion.up_to)
            .push(" order by asset, at, tie")
    };
    match connection.run(copy("tie")).await {
        Ok(_) => {}
        // Two of one time have the same number, out of 2³¹: they get others.
        Err(Fault::Conflict(_)) => {
            connection.run(copy("random() & 0x7fffffff")).await?;
        }
        Err(fault) => return Err(fault),
    }
    let delete = Statement::new(
        Dialect::Sqlite,
        "delete from telemetry_recent where segment in (select id from recent_segments) \
         and asset > ",
    );
    let delete = delete.bind(portion.above).push(" and asset <= ");
    connection.run(delete.bind(portion.up_to)).await
}

async fn forget_segments(connection: &mut SqliteConnection, first: i64) -> Result<(), Fault> {
    let statement = Statement::new(
        Dialect::Sqlite,
        "delete from recent_segments where not exists (select 1 from telemetry_recent r \
         where r.segment = recent_segments.id) and id < ",
    );
    connection.run(statement.bind(first)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds one row of each asset so often; gives the most that ever waited and the segments.
    fn fleet(assets: i64, calls: u64) -> (u64, i64) {
        let mut round = Round::new(0, 0, 0);
        let mut waits = vec![0_u64; assets as usize + 1];
        let (mut most, mut segments, mut first_used) = (0, 0, 1);
        for _ in 0..calls {
            let (segment, portion) = round.add(assets as u64, assets);
            waits.iter_mut().skip(1).for_each(|rows| *rows += 1);
            if let Some(portion) = portion {
                let range = portion.above as usize + 1..=portion.up_to as usize;
                let moved = waits[range].iter_mut().map(std::mem::take).sum();
                first_used = round.moved(portion, moved).unwrap_or(first_used);
            }
            most = most.max(waits.iter().sum());
            segments = segments.max(segment - first_used);
        }
        (most, segments)
    }

    #[test]
    fn what_waits_and_its_segments_stay_bounded_whatever_the_size_of_the_fleet() {
        for assets in [1_i64, 7, 256, 1_000, 10_000] {
            let (most, segments) = fleet(assets, 600_000 / assets.unsigned_abs().max(600));
            let bound = (assets as u64 * WAITING_AN_ASSET).max(LEAST_WAITING) + 2 * assets as u64;
            assert!(most <= bound, "{assets} assets: {most} rows wait");
            assert!(segments <= 80, "{assets} assets: {segments} segments");
        }
    }

    #[test]
    fn an_asset_comes_into_its_place_with_many_rows_at_a_time() {
        let mut round = Round::new(0, 0, 0);
        let mut turns = 0;
        for _ in 0..1_000 {
            let (_, portion) = round.add(1_000, 1_000);
            if let Some(portion) = portion {
                turns += portion.up_to - portion.above;
                let rows = (portion.up_to - portion.above).unsigned_abs() * WAITING_AN_ASSET;
                round.moved(portion, rows);
            }
        }
        let rows_a_turn = 1_000 * 1_000 / turns;
        assert!(rows_a_turn >= 16, "{rows_a_turn} rows an asset and turn");
    }

    #[test]
    fn a_round_that_was_begun_by_an_earlier_life_is_begun_again() {
        let mut round = Round::new(10_000, 17, 3);
        let mut ended = None;
        while ended.is_none() {
            let (segment, portion) = round.add(3, 3);
            assert_eq!(segment, 18);
            ended = portion.and_then(|portion| round.moved(portion, 3_000));
        }
        assert_eq!(ended, Some(18), "what that life left is all moved");
    }
}
