//! Measurements in hypertables of TimescaleDB (Apache edition). `cargo xtask ci --only timescaledb`
//! makes a server that has it and runs these.

use std::sync::Arc;
use std::time::Duration;

use derms_headend_sdk::store::{
    HistoryQuery, OpenError, PostgresOptions, PostgresStore, Retention, Store, TelemetryQuery,
};
use derms_proto::{LogId, Timestamp};
use derms_tests::{Days, Folder, PostgresServer, Program, first_postgres_schema};

use crate::facts::*;
use crate::partitions::{DAY, append, days_ago, times};
use crate::place::beside;
use crate::server::server;

struct World {
    server: Arc<PostgresServer>,
    url: String,
    store: PostgresStore,
}

impl World {
    async fn new() -> Self {
        let server = server();
        let url = server.database();
        let store = PostgresStore::connect(&url).await.unwrap();
        assert_eq!(layout(&url).await, "timescaledb");
        Self { server, url, store }
    }

    fn chunks(&self, table: &str) -> usize {
        let sql = format!("select count(*) from show_chunks('derms.{table}')");
        self.server.sql(&self.url, &sql).parse().unwrap()
    }

    /// Prunes until nothing is left to be pruned; gives the measurements and heartbeats.
    async fn prune(&self, retention: &Retention) -> (u64, u64) {
        let mut all = (0, 0);
        loop {
            let pruned = self.store.prune(retention, Timestamp::now()).await.unwrap();
            all = (all.0 + pruned.telemetry, all.1 + pruned.heartbeats);
            if !pruned.more {
                return all;
            }
        }
    }

    async fn prunable(&self, retention: &Retention) -> (u64, u64) {
        let old = self.store.prunable(retention, Timestamp::now()).await;
        let old = old.unwrap();
        (old.telemetry, old.heartbeats)
    }
}

/// What `der_headend` says when it makes a schema.
async fn made(url: &str) -> String {
    let program = Program::new("der_headend").args(["db", "migrate", "--database-url", url]);
    let output = program.run().await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    output.stderr
}

/// How often it is told that there are partitions instead.
fn told(said: &str) -> usize {
    said.matches("timescaledb can't be used; measurements are partitioned by day")
        .count()
}

async fn layout(url: &str) -> String {
    let status = PostgresOptions::new(url).unwrap().status().await;
    status.unwrap().telemetry
}

fn kept(telemetry_days: u32, heartbeat_days: u32) -> Retention {
    let mut retention = Retention::forever();
    retention.telemetry = Some(DAY * telemetry_days);
    retention.heartbeats = Some(DAY * heartbeat_days);
    retention
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs TimescaleDB"]
async fn each_measurement_lies_in_the_chunk_of_its_day_however_late_it_comes() {
    let world = World::new().await;
    let asset = asset();
    let wanted = [
        days_ago(0),
        days_ago(1),
        days_ago(40),
        days_ago(400),
        at(0),
        Timestamp::MIN,
    ];
    let rows = wanted.iter().rev().map(|at| bare(asset, *at)).collect();
    append(&world.store, rows).await;
    assert_eq!(world.chunks("telemetry"), wanted.len());
    assert_eq!(times(&world.store, asset).await, wanted);
    let mut page = HistoryQuery::default();
    page.from = at(0);
    page.to = wanted[0];
    let query = TelemetryQuery::new(asset, page);
    let buckets = world.store.telemetry_buckets(&query, 60).await.unwrap();
    assert_eq!(buckets.items.len(), 4);

    // A heartbeat that comes twice is there once, in whichever chunk it is.
    let beats: Vec<_> = wanted[..3].iter().map(|at| heartbeat(asset, *at)).collect();
    for _ in 0..2 {
        world.store.append_heartbeats(&beats).await.unwrap();
    }
    assert_eq!(world.chunks("heartbeats"), 3);
    let query = HistoryQuery::default();
    let found = world.store.heartbeats(asset, &query).await.unwrap();
    assert_eq!(found.items, beats);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs TimescaleDB"]
async fn old_chunks_go_whole_as_many_rows_as_were_counted_and_late_ones_find_a_place() {
    let world = World::new().await;
    let asset = asset();
    let all = [0, 2, 10, 10, 20, 100, 700].map(days_ago);
    append(
        &world.store,
        all.iter().map(|at| bare(asset, *at)).collect(),
    )
    .await;
    let beats: Vec<_> = all.iter().map(|at| heartbeat(asset, *at)).collect();
    world.store.append_heartbeats(&beats).await.unwrap();
    let retention = kept(5, 15);
    // Neither what the database has looked at nor what it has not is told wrong.
    for analyzed in [false, true] {
        if analyzed {
            world.server.sql(&world.url, "analyze");
        }
        assert_eq!(world.prunable(&retention).await, (5, 3), "{analyzed}");
    }
    let first = world.store.prune(&retention, Timestamp::now()).await;
    let first = first.unwrap();
    assert!(first.more, "four chunks are old, and one goes at a time");
    let rest = world.prune(&retention).await;
    let gone = (first.telemetry + rest.0, first.heartbeats + rest.1);
    assert_eq!(gone, (5, 3));
    assert_eq!(world.prunable(&retention).await, (0, 0));
    assert_eq!(times(&world.store, asset).await, all[..2]);
    assert_eq!(
        (world.chunks("telemetry"), world.chunks("heartbeats")),
        (2, 3)
    );

    // By this store, which knew the chunk, and by another one.
    append(&world.store, vec![bare(asset, all[2])]).await;
    let other = beside(&world.url).await;
    append(&other, vec![bare(asset, all[4])]).await;
    assert_eq!(
        times(&world.store, asset).await,
        [all[0], all[1], all[2], all[4]]
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs TimescaleDB"]
async fn who_writes_to_a_chunk_or_reads_it_while_it_is_dropped_does_not_fail() {
    let world = World::new().await;
    let other = beside(&world.url).await;
    let (asset, retention) = (asset(), kept(5, 5));
    let query = TelemetryQuery::new(asset, HistoryQuery::default());
    for _ in 0..8 {
        let writes = async {
            for _ in 0..20 {
                append(&other, vec![bare(asset, days_ago(10))]).await;
                let beats = [heartbeat(asset, days_ago(10))];
                other.append_heartbeats(&beats).await.unwrap();
            }
        };
        let reads = async {
            for _ in 0..20 {
                other.telemetry(&query).await.unwrap();
                other.telemetry_buckets(&query, 900).await.unwrap();
                other.latest_telemetry().await.unwrap();
            }
        };
        let drops = async {
            for _ in 0..20 {
                let now = Timestamp::now();
                world.store.prune(&retention, now).await.unwrap();
            }
        };
        tokio::join!(writes, reads, drops);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs TimescaleDB"]
async fn what_is_summed_up_is_forgotten_with_its_chunks() {
    let world = World::new().await;
    let sums = "select count(*), count(*) filter (where stale) from derms.telemetry_rollup";
    // As if all of these days had just been summed up.
    world.server.sql(
        &world.url,
        "update derms.rollup_progress set complete_from = '-infinity'",
    );
    let asset = asset();
    let rows = [3, 20].map(|days| bare(asset, days_ago(days)));
    append(&world.store, rows.into()).await;
    assert_eq!(world.server.sql(&world.url, sums), "2|2");
    world.prune(&Retention::forever()).await;
    assert_eq!(world.server.sql(&world.url, sums), "2|0");
    world.prune(&kept(5, 5)).await;
    assert_eq!(world.server.sql(&world.url, sums), "1|0");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs TimescaleDB"]
async fn the_size_of_a_database_has_its_chunks_in_it() {
    let world = World::new().await;
    let bytes = async || {
        let status = PostgresOptions::new(&world.url).unwrap().status().await;
        status.unwrap().bytes.unwrap()
    };
    let before = bytes().await;
    let asset = asset();
    let rows = (0..4_000).map(|second| bare(asset, at(second))).collect();
    append(&world.store, rows).await;
    let grown = bytes().await - before;
    // 36 for the header, 28 for what is in it, and the index.
    assert!((4_000 * 60..4_000 * 200).contains(&grown), "{grown}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs TimescaleDB"]
async fn a_schema_of_the_first_version_is_brought_up_to_date_with_what_it_holds() {
    let server = server();
    let url = server.database();
    let first = first_postgres_schema(Days::Hypertables);
    server.sql(
        &url,
        &format!(
            "create extension timescaledb; {first}; \
             insert into assets (id) values ('00000000-0000-0000-0000-000000000007'); \
             insert into telemetry (asset, at, tie, received_at, mw) \
             values (1, '2026-01-31T12:00:00Z', 1, '2026-01-31T12:00:01Z', 4)"
        ),
    );
    let options = || PostgresOptions::new(&url).unwrap();
    assert_eq!(options().migrate().await.unwrap(), [2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(layout(&url).await, "timescaledb");
    let store = options().connect().await.unwrap();
    let asset = derms_proto::AssetId::new(uuid::Uuid::from_u128(7));
    append(&store, vec![bare(asset, days_ago(0))]).await;
    let query = TelemetryQuery::new(asset, HistoryQuery::default());
    for step_s in [60, 900] {
        let buckets = store.telemetry_buckets(&query, step_s).await.unwrap();
        let counts: Vec<u64> = buckets.items.iter().map(|bucket| bucket.count).collect();
        assert_eq!(counts, [1, 1], "{step_s}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs TimescaleDB"]
async fn a_dump_of_the_whole_database_is_loaded_as_the_guide_says() {
    let world = World::new().await;
    let asset = asset();
    let all = [1, 2, 30].map(days_ago);
    append(
        &world.store,
        all.iter().map(|at| bare(asset, *at)).collect(),
    )
    .await;
    let folder = Folder::new();
    let dump = folder.file("dump").display().to_string();
    let server = &world.server;
    server.run("pg_dump", &["--format=custom", "--file", &dump, &world.url]);

    let url = server.database();
    server.sql(&url, "create extension timescaledb");
    server.sql(&url, "select timescaledb_pre_restore()");
    server.run("pg_restore", &["--dbname", &url, &dump]);
    server.sql(&url, "select timescaledb_post_restore()");
    let world = World {
        store: PostgresStore::connect(&url).await.unwrap(),
        server: Arc::clone(server),
        url,
    };
    assert_eq!(times(&world.store, asset).await, all);
    append(&world.store, vec![bare(asset, days_ago(0))]).await;
    assert_eq!(world.prune(&kept(5, 5)).await, (1, 0));
    assert_eq!(
        (
            times(&world.store, asset).await.len(),
            world.chunks("telemetry")
        ),
        (3, 3)
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs TimescaleDB"]
async fn programs_that_migrate_at_once_in_schemas_of_one_database_all_get_hypertables() {
    let server = server();
    let url = server.database();
    let starts: Vec<_> = (0..8)
        .map(|number| {
            let options = PostgresOptions::new(&url).unwrap().connections(2);
            let options = options.schema(format!("s{}", number / 2));
            tokio::spawn(async move { options.migrate().await })
        })
        .collect();
    for start in starts {
        start.await.unwrap().unwrap();
    }
    let tables = "select count(*) from timescaledb_information.hypertables";
    assert_eq!(server.sql(&url, tables), "8");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs TimescaleDB"]
async fn an_extension_in_a_schema_of_its_own_serves_a_role_that_may_use_it() {
    let server = server();
    let url = server.database();
    let name = url.rsplit('/').next().unwrap();
    server.sql(
        &url,
        &format!(
            "create schema ts; create extension timescaledb schema ts; \
             create role {name}_user login; grant create on database {name} to {name}_user"
        ),
    );
    let theirs = url.replace("postgres@", &format!("{name}_user@"));
    let open = |schema: &str| {
        let options = PostgresOptions::new(&theirs).unwrap().schema(schema);
        options.connect()
    };
    open("closed").await.unwrap();
    server.sql(&url, &format!("grant usage on schema ts to {name}_user"));
    let store = open("open").await.unwrap();
    let asset = asset();
    append(
        &store,
        [0, 1, 9].map(|days| bare(asset, days_ago(days))).into(),
    )
    .await;
    store.prune(&kept(5, 5), Timestamp::now()).await.unwrap();
    assert_eq!(times(&store, asset).await.len(), 2);
    let tables = "select distinct hypertable_schema from timescaledb_information.hypertables";
    assert_eq!(server.sql(&url, tables), "open");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs TimescaleDB"]
async fn a_role_that_may_not_create_the_extension_gets_partitions() {
    let server = server();
    let url = server.database();
    let name = url.rsplit('/').next().unwrap();
    server.sql(
        &url,
        &format!("create role {name}_user login; create schema derms authorization {name}_user"),
    );
    let theirs = url.replace("postgres@", &format!("{name}_user@"));
    let said = made(&theirs).await;
    let reason = said.contains("permission denied to create extension");
    assert!(told(&said) == 1 && reason, "{said}");
    let store = PostgresStore::connect(&theirs).await.unwrap();
    append(&store, vec![bare(asset(), days_ago(0))]).await;
    assert_eq!(layout(&theirs).await, "partitions");
    assert_eq!(
        server.sql(
            &url,
            "select count(*) from pg_extension where extname = 'timescaledb'"
        ),
        "0"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs TimescaleDB"]
async fn who_wants_partitions_gets_them_and_installs_nothing() {
    let server = server();
    let url = server.database();
    let options = PostgresOptions::new(&url).unwrap().without_timescaledb();
    drop(options.connect().await.unwrap());
    // Nor does a later start without that wish.
    drop(PostgresStore::connect(&url).await.unwrap());
    assert_eq!(layout(&url).await, "partitions");
    assert_eq!(
        server.sql(
            &url,
            "select count(*) from pg_extension where extname = 'timescaledb'"
        ),
        "0"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs TimescaleDB"]
async fn a_server_that_does_not_load_it_gets_partitions_which_stay_when_it_does() {
    let mut server = PostgresServer::start_with(&["shared_preload_libraries="]);
    let url = server.database();
    let available = "select count(*) from pg_available_extensions where name = 'timescaledb'";
    assert_eq!(server.sql(&url, available), "1");
    let said = made(&url).await;
    let reason = said.contains("shared_preload_libraries");
    assert!(told(&said) == 1 && reason, "{said}");
    assert_eq!(told(&made(&url).await), 0, "it is told once");
    let store = PostgresStore::connect(&url).await.unwrap();
    let asset = asset();
    append(&store, vec![bare(asset, days_ago(1))]).await;
    assert_eq!(layout(&url).await, "partitions");
    drop(store);

    server.stop();
    server.set(&["shared_preload_libraries=timescaledb"]);
    server.start_again();
    let store = PostgresStore::connect(&url).await.unwrap();
    append(&store, vec![bare(asset, days_ago(0))]).await;
    assert_eq!(times(&store, asset).await.len(), 2);
    assert_eq!(layout(&url).await, "partitions");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs TimescaleDB"]
async fn hypertables_without_their_extension_are_told_with_what_to_do() {
    let mut server = PostgresServer::start();
    let url = server.database();
    let store = PostgresStore::connect(&url).await.unwrap();
    let append = part(
        asset().into(),
        LogId::generate(),
        1,
        vec![bare(asset(), at(0))],
    );
    store.append_telemetry(&[append]).await.unwrap();
    drop(store);
    // What is left of them in a dump of the schema alone.
    let copy = server.database();
    server.sql(
        &copy,
        "create extension timescaledb; create schema derms; set search_path = derms; \
         create table telemetry (at timestamptz); \
         create table holder (one bool primary key default true, instance_id uuid, since timestamptz); \
         create table schema_versions (version int8, name text, applied_at timestamptz); \
         insert into schema_versions select v, '', now() from generate_series(1, 8) v",
    );
    let refused = async |url: &str| {
        let options = PostgresOptions::new(url).unwrap();
        let limit = Duration::from_secs(10);
        let error = options.call_limit(limit).connect().await.unwrap_err();
        assert!(matches!(error, OpenError::Store(_)), "{error:?}");
        format!("{error:?}")
    };
    let error = refused(&copy).await;
    assert!(error.contains("timescaledb_pre_restore"), "{error}");

    server.stop();
    server.set(&["shared_preload_libraries="]);
    server.start_again();
    let error = refused(&url).await;
    assert!(error.contains("shared_preload_libraries"), "{error}");
}
