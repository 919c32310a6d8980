//! Quarters of an hour that PostgreSQL has summed up say what their measurements say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use derms_headend_sdk::store::{HistoryQuery, PostgresStore, Retention, Store, TelemetryQuery};
use derms_proto::{AssetId, LogId, Power, Telemetry, TelemetryBucket, Timestamp};
use derms_tests::{PostgresServer, until};

use crate::facts::*;
use crate::place::beside;
use crate::server::server;

const QUARTER_S: u64 = 900;

struct World {
    server: Arc<PostgresServer>,
    url: String,
    store: PostgresStore,
    assets: Vec<AssetId>,
    /// All that was stored.
    stored: Vec<Telemetry>,
    /// The start of a quarter some hours ago.
    start: Timestamp,
}

fn quarter(at: Timestamp, step_s: u64) -> i64 {
    at.unix_micros().div_euclid(step_s as i64 * 1_000_000)
}

impl World {
    async fn new() -> Self {
        let server = server();
        let url = server.database();
        let store = PostgresStore::connect(&url).await.unwrap();
        let ago = Timestamp::now().saturating_sub(Duration::from_secs(8 * QUARTER_S));
        let start = quarter(ago, QUARTER_S) * QUARTER_S as i64 * 1_000_000;
        let this = Self {
            server,
            url,
            store,
            assets: (0..3).map(|_| asset()).collect(),
            stored: Vec::new(),
            start: Timestamp::from_unix_micros(start),
        };
        // As if it had been made then and nothing had been looked at since.
        let start = this.start;
        this.server.sql(
            &this.url,
            &format!(
                "update derms.rollup_progress set complete_to = '{start}', marked_to = '{start}'"
            ),
        );
        this
    }

    /// Measurements of an asset, so many seconds after the start, `mw` each.
    fn rows(&self, asset: usize, seconds: &[u64], mw: f64) -> Vec<Telemetry> {
        let row = |seconds: &u64| {
            let at = self.start.saturating_add(Duration::from_secs(*seconds));
            let mut row = bare(self.assets[asset], at);
            // Sums of these are exact, in whatever order.
            row.measurements.mw = Some(Power::from_mw(mw + *seconds as f64 / 1024.0));
            row.measurements.soc_pct = seconds.is_multiple_of(2).then_some(mw);
            row
        };
        seconds.iter().map(row).collect()
    }

    async fn store(&mut self, rows: Vec<Telemetry>) {
        let append = part(rows[0].asset_id.into(), LogId::generate(), 1, rows.clone());
        self.store.append_telemetry(&[append]).await.unwrap();
        self.stored.extend(rows);
    }

    async fn sum_up(&self) {
        sum_up(&self.store).await;
    }

    async fn buckets(&self, asset: usize, step_s: u64, page: HistoryQuery) -> Vec<TelemetryBucket> {
        let query = TelemetryQuery::new(self.assets[asset], page);
        let page = self.store.telemetry_buckets(&query, step_s).await.unwrap();
        assert_eq!(page.next_cursor, None);
        page.items
    }

    /// What is asked for is what was stored, in steps that are summed up and in others.
    async fn check(&self) {
        let end = self
            .start
            .saturating_add(Duration::from_secs(9 * QUARTER_S));
        // Borders on quarters and between them.
        let (a, b) = (Duration::from_secs(QUARTER_S), Duration::from_secs(1_234));
        let ranges = [
            (None, None),
            (Some(a), None),
            (Some(b), Some(a)),
            (None, Some(b)),
        ];
        for (after, before) in ranges {
            for step_s in [60, QUARTER_S, 3_600, 1_350, 86_400] {
                for asset in 0..self.assets.len() {
                    let mut page = HistoryQuery::default();
                    page.limit = 1_000;
                    page.from = after.map_or(page.from, |after| self.start.saturating_add(after));
                    page.to = before.map_or(page.to, |before| end.saturating_sub(before));
                    let wanted = self.wanted(asset, step_s, &page);
                    let found = self.buckets(asset, step_s, page.clone()).await;
                    let found: BTreeMap<_, _> = found.iter().map(|b| (b.from, short(b))).collect();
                    assert_eq!(found, wanted, "{asset} {step_s} {page:?}");
                }
            }
        }
    }

    fn wanted(
        &self,
        asset: usize,
        step_s: u64,
        page: &HistoryQuery,
    ) -> BTreeMap<Timestamp, String> {
        let mut buckets: BTreeMap<i64, Vec<&Telemetry>> = BTreeMap::new();
        for row in self
            .stored
            .iter()
            .filter(|row| row.asset_id == self.assets[asset])
        {
            let at = row.measured_at;
            if (page.from..page.to).contains(&at) {
                buckets.entry(quarter(at, step_s)).or_default().push(row);
            }
        }
        let bucket = |(number, rows): (i64, Vec<&Telemetry>)| {
            let from = Timestamp::from_unix_micros(number * step_s as i64 * 1_000_000);
            let mw: Vec<f64> = rows
                .iter()
                .filter_map(|row| row.measurements.mw)
                .map(Power::mw)
                .collect();
            let soc: Vec<f64> = rows
                .iter()
                .filter_map(|row| row.measurements.soc_pct)
                .collect();
            (
                from,
                format!("{} {} {}", rows.len(), figures(&mw), figures(&soc)),
            )
        };
        buckets.into_iter().map(bucket).collect()
    }

    fn sql(&self, sql: &str) -> String {
        self.server.sql(&self.url, sql)
    }
}

async fn sum_up(store: &PostgresStore) {
    let forever = Retention::forever();
    while store.prune(&forever, Timestamp::now()).await.unwrap().more {}
}

fn figures(values: &[f64]) -> String {
    if values.is_empty() {
        return "none".to_owned();
    }
    let min = values.iter().copied().fold(f64::INFINITY, f64::min);
    let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    format!("{min} {mean} {max}")
}

fn short(bucket: &TelemetryBucket) -> String {
    let figures = |aggregate: Option<derms_proto::Aggregate>| {
        aggregate.map_or_else(
            || "none".to_owned(),
            |a| format!("{} {} {}", a.min, a.mean, a.max),
        )
    };
    format!(
        "{} {} {}",
        bucket.count,
        figures(bucket.mw),
        figures(bucket.soc_pct)
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_say_the_same_before_and_after_summing_up_whatever_comes_late() {
    let mut world = World::new().await;
    let steady: Vec<u64> = (0..8 * QUARTER_S).step_by(97).collect();
    for asset in 0..2 {
        world.store(world.rows(asset, &steady, asset as f64)).await;
    }
    world.check().await;
    world.sum_up().await;
    world.check().await;
    assert_eq!(
        world.sql("select count(*) > 10 from derms.telemetry_rollup"),
        "t"
    );

    // Into a quarter that has some, one that has none, and of an asset that had none at all.
    world.store(world.rows(0, &[3, 901, 5_000], 7.0)).await;
    world.store(world.rows(2, &[1_000, 1_001], -7.0)).await;
    assert_eq!(
        world.sql("select count(*) from derms.telemetry_rollup where stale"),
        "4"
    );
    world.check().await;
    world.sum_up().await;
    assert_eq!(
        world.sql("select count(*) from derms.telemetry_rollup where stale"),
        "0"
    );
    world.check().await;

    // A store that was not there when it was summed up marks what it adds, too.
    world.store = beside(&world.url).await;
    world.store(world.rows(1, &[4], 9.0)).await;
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_summed_up_is_read_instead_of_the_measurements() {
    let mut world = World::new().await;
    world.store(world.rows(0, &[1, 2, 3, 2_000], 1.0)).await;
    world.sum_up().await;
    world.sql("update derms.telemetry_rollup set count = 1000 where count = 3");
    let counts =
        |buckets: Vec<TelemetryBucket>| buckets.iter().map(|b| b.count).collect::<Vec<_>>();
    let all = HistoryQuery::default;
    assert_eq!(counts(world.buckets(0, QUARTER_S, all()).await), [1, 1_000]);
    assert_eq!(counts(world.buckets(0, 450, all()).await), [1, 3]);
    // Nothing is read of a quarter of which a part is asked for.
    let mut part = all();
    part.from = world.start.saturating_add(Duration::from_secs(1));
    assert_eq!(counts(world.buckets(0, QUARTER_S, part).await), [1, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn measurements_that_come_while_two_sum_up_are_in_the_sums() {
    let mut world = World::new().await;
    let other = beside(&world.url).await;
    for round in 0..20 {
        // As if all of it had just become over.
        let start = world.start;
        world.sql(&format!(
            "update derms.rollup_progress set complete_to = '{start}', marked_to = '{start}'"
        ));
        world.sql("delete from derms.telemetry_rollup");
        let seconds: Vec<u64> = (0..8).map(|quarter| quarter * QUARTER_S + round).collect();
        let rows: Vec<Vec<Telemetry>> = (0..3)
            .map(|asset| world.rows(asset, &seconds, round as f64))
            .collect();
        let adding = async {
            for rows in &rows {
                let append = part(rows[0].asset_id.into(), LogId::generate(), 1, rows.clone());
                world.store.append_telemetry(&[append]).await.unwrap();
            }
        };
        tokio::join!(adding, sum_up(&other), sum_up(&world.store));
        world.stored.extend(rows.into_iter().flatten());
        world.check().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn summing_up_again_waits_for_those_who_have_marked_and_not_committed() {
    let mut world = World::new().await;
    world.store(world.rows(0, &[1, 2], 1.0)).await;
    world.sum_up().await;
    world.store(world.rows(0, &[3], 1.0)).await;
    let late = world.rows(0, &[4], 1.0);
    let (start, at) = (world.start, late[0].measured_at);
    // What the store does with a late measurement, held open.
    let pool = sqlx::PgPool::connect(&world.url).await.unwrap();
    let mut open = pool.begin().await.unwrap();
    let sql = format!(
        "set local search_path to derms; \
         insert into telemetry_rollup (asset, at, stale) select key, '{start}', true from assets \
         on conflict (asset, at) do update set stale = true where not telemetry_rollup.stale; \
         insert into telemetry (asset, at, received_at, tie, mw, soc_pct) \
         select key, '{at}', '{at}', 1, 1.00390625, 1.0 from assets"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
        .execute(&mut *open)
        .await
        .unwrap();
    let adding = async {
        until("somebody waits", Duration::from_secs(30), async || {
            let waits = "select count(*) > 0 from pg_stat_activity \
                         where datname = current_database() and wait_event_type = 'Lock'";
            (world.sql(waits) == "t").then_some(())
        })
        .await;
        open.commit().await.unwrap();
    };
    tokio::join!(sum_up(&world.store), adding);
    world.stored.extend(late);
    world.check().await;
    assert_eq!(
        world.sql("select count(*) from derms.telemetry_rollup where stale"),
        "0"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_ahead_sums_up_nothing_that_is_not_over() {
    let world = World::new().await;
    let future = Timestamp::now().saturating_add(Duration::from_secs(400 * 86_400));
    while world
        .store
        .prune(&Retention::forever(), future)
        .await
        .unwrap()
        .more
    {}
    assert_eq!(
        world.sql("select complete_to = marked_to and marked_to <= now() - interval '5 minutes' from derms.rollup_progress"),
        "t"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sums_are_forgotten_with_their_measurements() {
    let mut world = World::new().await;
    world.start = Timestamp::now().saturating_sub(Duration::from_secs(10 * 86_400));
    world
        .store(world.rows(0, &[0, 5 * 86_400, 9 * 86_400 + 80_000], 1.0))
        .await;
    world.sum_up().await;
    assert_eq!(
        world.sql("select count(*) from derms.telemetry_rollup"),
        "3"
    );
    let mut retention = Retention::forever();
    retention.telemetry = Some(Duration::from_secs(3 * 86_400));
    while world
        .store
        .prune(&retention, Timestamp::now())
        .await
        .unwrap()
        .more
    {}
    assert_eq!(
        world.sql("select count(*) from derms.telemetry_rollup"),
        "1"
    );
    let left = world.buckets(0, QUARTER_S, HistoryQuery::default()).await;
    assert_eq!(left.len(), 1);
    // Late ones of a day that was dropped are there again, summed up or not.
    world.stored.drain(..2);
    world.store(world.rows(0, &[3], 2.0)).await;
    world.check().await;
    world.sum_up().await;
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_stale_without_end_keeps_neither_new_quarters_nor_forgetting_waiting() {
    let mut world = World::new().await;
    let later = world.start.saturating_add(Duration::from_secs(QUARTER_S));
    world.sql(&format!(
        "update derms.rollup_progress set complete_to = '{later}', marked_to = '{later}'; \
         create function derms.again() returns trigger language plpgsql as \
         'begin new.stale := true; return new; end'; \
         create trigger again before update on derms.telemetry_rollup \
         for each row execute function derms.again()"
    ));
    // Both come too late, and the second one's day is over.
    world.store(world.rows(0, &[1], 1.0)).await;
    world.start = world.start.saturating_sub(Duration::from_secs(10 * 86_400));
    world.store(world.rows(0, &[1], 1.0)).await;
    let mut retention = Retention::forever();
    retention.telemetry = Some(Duration::from_secs(3 * 86_400));
    until("the others", Duration::from_secs(30), async || {
        let pruned = world.store.prune(&retention, Timestamp::now()).await;
        assert!(pruned.unwrap().more, "there is no end of what is stale");
        let others = format!(
            "select complete_to > '{later}' and (select count(*) = 1 from derms.telemetry_rollup) \
             from derms.rollup_progress"
        );
        (world.sql(&others) == "t").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forgetting_waits_for_nobody_who_holds_a_row() {
    let mut world = World::new().await;
    world.start = Timestamp::now().saturating_sub(Duration::from_secs(10 * 86_400));
    world.store(world.rows(0, &[0, QUARTER_S], 1.0)).await;
    world.sum_up().await;
    let rows = "select count(*) from derms.telemetry_rollup";
    assert_eq!(world.sql(rows), "2");
    let pool = sqlx::PgPool::connect(&world.url).await.unwrap();
    let mut other = pool.begin().await.unwrap();
    let first = "select * from derms.telemetry_rollup order by asset, at limit 1 for update";
    sqlx::query(first).execute(&mut *other).await.unwrap();
    let mut retention = Retention::forever();
    retention.telemetry = Some(Duration::from_secs(3 * 86_400));
    let forget = async || {
        while world
            .store
            .prune(&retention, Timestamp::now())
            .await
            .unwrap()
            .more
        {}
    };
    forget().await;
    assert_eq!(world.sql(rows), "1");
    other.rollback().await.unwrap();
    forget().await;
    assert_eq!(world.sql(rows), "0");
}
