//! Opening, migrating, and what is refused.

use derms_headend_sdk::store::{
    EventQuery, HistoryQuery, OpenError, PostgresOptions, SqliteOptions, SqliteStore, Store,
    TelemetryQuery,
};

use derms_proto::Severity;
use derms_tests::{Days, FIRST_SCHEMA, first_postgres_schema};

use crate::facts::*;
use crate::place::{Place, places};
use crate::server::server;

/// What the first release has written, in the database's own words for ids and times.
struct First {
    schema: String,
    /// A UUID of this number.
    id: fn(u128) -> String,
    /// So many microseconds since 1970.
    at: fn(u64) -> String,
}

impl First {
    fn sqlite() -> Self {
        Self {
            schema: FIRST_SCHEMA.to_owned(),
            id: |number| format!("x'{number:032x}'"),
            at: |micros| micros.to_string(),
        }
    }

    /// With partitions by day.
    fn postgres() -> Self {
        Self {
            schema: first_postgres_schema(Days::Partitions),
            id: |number| format!("'{}'", uuid::Uuid::from_u128(number)),
            at: |micros| format!("timestamptz 'epoch' + interval '{micros} us'"),
        }
    }

    fn sql(&self) -> String {
        let Self { schema, id, at } = self;
        let (asset, order, site, none) = (id(7), id(9), id(1), id(0));
        let (measured, zero) = (at(1_700_000_000_123_456), at(0));
        let (happened, received) = (at(9), at(7));
        format!(
            "{schema}; insert into revisions values ({asset}, 41); \
             insert into assets (id) values ({asset}); \
             insert into telemetry (asset, at, tie, received_at, site_id) values \
             (1, {measured}, 9, {measured}, {none}); \
             insert into dispatches (id, asset_id, site_id, mw, ttl_s, revision, status, in_doubt, \
             created_at, expires_at) values ({order}, {asset}, {site}, 5, 300, 41, 1, false, \
             {zero}, {zero}); \
             insert into reports (agent_id, log_id, seq, epoch, asset_id, at, received_at, kind, \
             severity, code, text) values ({none}, {none}, 1, 1, {asset}, {happened}, {received}, \
             'event', 'alarm', 'arc_fault', 'string 3')"
        )
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_the_first_schema_is_brought_up_to_date_and_keeps_what_it_holds() {
    for (place, first) in places()
        .into_iter()
        .zip([First::sqlite(), First::postgres()])
    {
        place.sql(&first.sql()).await;
        keeps_what_it_holds(&*place.open().await).await;
    }
}

async fn keeps_what_it_holds(store: &dyn Store) {
    let asset = derms_proto::AssetId::new(uuid::Uuid::from_u128(7));
    assert_eq!(store.revisions(&[asset]).await.unwrap(), [41]);
    let orders = store.open_orders(None).await.unwrap();
    assert_eq!(
        (
            orders.len(),
            orders[0].release,
            orders[0].dispatch.cancel_requested_at
        ),
        (1, None, None)
    );
    let events = store.events(&EventQuery::default()).await.unwrap().items;
    assert_eq!(events.len(), 1);
    assert_eq!(
        (events[0].severity, &*events[0].code),
        (Severity::Alarm, "arc_fault")
    );
    assert_eq!(
        (events[0].asset_id, events[0].at.unix_micros()),
        (Some(asset), 7)
    );
    let rows = vec![bare(asset, at(1))];
    let append = part(
        asset.into(),
        derms_proto::LogId::generate(),
        1,
        rows.clone(),
    );
    store.append_telemetry(&[append]).await.unwrap();
    assert_eq!(store.latest_telemetry().await.unwrap(), rows);
    let query = TelemetryQuery::new(asset, HistoryQuery::default());
    let history = store.telemetry(&query).await.unwrap().items;
    assert_eq!(history, [rows[0].clone(), bare(asset, at(0))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_a_newer_program_is_refused_and_left_as_it_is() {
    for place in places() {
        drop(place.open().await);
        let newer = match &place {
            Place::Sqlite(_) => "insert into schema_versions values (99, 'of next year', 0)",
            Place::Postgres(..) => "insert into schema_versions values (99, 'of next year', now())",
        };
        place.sql(newer).await;
        let error = place.try_open().await.unwrap_err();
        assert!(
            matches!(error, OpenError::NewerSchema { found: 99, .. }),
            "{error:?}"
        );
        assert!(
            error.to_string().contains("use the newer program"),
            "{error}"
        );
        let status = match &place {
            Place::Sqlite(_) => SqliteOptions::new(place.file()).status().await,
            Place::Postgres(_, url) => PostgresOptions::new(url).unwrap().status().await,
        };
        let status = status.unwrap();
        assert_eq!(
            (status.found, status.known < 99, status.is_behind()),
            (Some(99), true, false)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_changes_nothing_and_a_migration_is_done_once() {
    let [sqlite, postgres] = places();
    let file = || SqliteOptions::new(sqlite.file());
    let status = file().status().await.unwrap();
    assert!(status.found.is_none() && status.is_behind() && !sqlite.file().exists());
    assert_eq!(file().migrate().await.unwrap(), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(file().migrate().await.unwrap(), [] as [u32; 0]);
    let status = file().status().await.unwrap();
    assert_eq!(
        (status.found, status.telemetry.as_str()),
        (Some(7), "table")
    );
    assert!(status.bytes.unwrap() > 0 && status.applied[0].1 == "first");

    let Place::Postgres(server, url) = &postgres else {
        unreachable!()
    };
    let options = || PostgresOptions::new(url).unwrap();
    let status = options().status().await.unwrap();
    assert!(status.found.is_none() && status.is_behind());
    let schemas = "select count(*) from pg_namespace where nspname = 'derms'";
    assert_eq!(server.sql(url, schemas), "0");
    assert_eq!(options().migrate().await.unwrap(), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(options().migrate().await.unwrap(), [] as [u32; 0]);
    let status = options().status().await.unwrap();
    let layout = match server.has_timescaledb() {
        true => "timescaledb",
        false => "partitions",
    };
    assert_eq!((status.found, status.telemetry.as_str()), (Some(8), layout));
    assert!(
        !status.location.contains("postgres@"),
        "{}",
        status.location
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_has_one_headend_at_a_time() {
    let [place, _] = places();
    let store = place.open().await;
    let error = place.try_open().await.unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error:?}");
    assert!(
        error.to_string().contains("in use by another headend"),
        "{error}"
    );
    // Maintenance goes on beside it.
    let beside = SqliteOptions::new(place.file())
        .open_beside()
        .await
        .unwrap();
    let pruned = beside.prune(&Default::default(), at(0)).await.unwrap();
    assert_eq!(pruned.total(), 0);
    assert!(SqliteOptions::new(place.file()).status().await.is_ok());
    drop(store);
    place.open().await;
    // And not before anything is there.
    let [empty, _] = places();
    let error = SqliteOptions::new(empty.file())
        .open_beside()
        .await
        .unwrap_err();
    assert!(
        matches!(error, OpenError::OldSchema { found: None, .. }),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_another_program_is_left_alone() {
    let [place, _] = places();
    place.sql("create table telemetry (precious text)").await;
    let error = SqliteStore::open(place.file()).await.unwrap_err();
    assert!(matches!(error, OpenError::Foreign { .. }), "{error:?}");
    place
        .sql("insert into telemetry (precious) values ('mine')")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_not_there_and_a_server_that_does_not_answer_are_told() {
    let [place, _] = places();
    let error = SqliteStore::open(place.file().join("deeper"))
        .await
        .unwrap_err();
    assert!(matches!(error, OpenError::Store(_)), "{error:?}");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = nobody.local_addr().unwrap().port();
    drop(nobody);
    let url = format!("postgres://me:secret@127.0.0.1:{port}/x");
    let error = PostgresOptions::new(&url)
        .unwrap()
        .connect()
        .await
        .unwrap_err();
    let text = format!("{error:?}");
    assert!(
        text.contains("refused") && !text.contains("secret"),
        "{text}"
    );
    let options = PostgresOptions::new("postgres://h/d")
        .unwrap()
        .schema("Not; this");
    let error = options.connect().await.unwrap_err();
    assert!(matches!(error, OpenError::Setting { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_that_migrate_at_once_do_so_one_after_the_other() {
    let server = server();
    let url = server.database();
    let starts: Vec<_> = (0..8)
        .map(|_| {
            let options = PostgresOptions::new(&url).unwrap().connections(2);
            tokio::spawn(async move { options.migrate().await })
        })
        .collect();
    let mut added = 0;
    for start in starts {
        added += start.await.unwrap().unwrap().len();
    }
    assert_eq!(added, 8);

    // In a file, one of them is refused.
    let [place, _] = places();
    let starts: Vec<_> = (0..8)
        .map(|_| tokio::spawn(SqliteOptions::new(place.file()).migrate()))
        .collect();
    let mut added = 0;
    for start in starts {
        match start.await.unwrap() {
            Ok(versions) => added += versions.len(),
            Err(OpenError::InUse { .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(added, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_schemas_of_one_database_do_not_see_each_other_or_what_else_is_there() {
    let server = server();
    let url = server.database();
    server.sql(
        &url,
        "create table dispatches (precious text); create table telemetry (precious text)",
    );
    let open = |schema: &str| PostgresOptions::new(&url).unwrap().schema(schema).connect();
    let (north, south) = (open("north").await.unwrap(), open("user").await.unwrap());
    let asset = asset();
    let order = commit(&north, &order(asset)).await;
    let append = part(
        asset.into(),
        derms_proto::LogId::generate(),
        1,
        vec![bare(asset, at(1))],
    );
    north.append_telemetry(&[append]).await.unwrap();
    assert_eq!(south.dispatch(order.id).await.unwrap(), None);
    assert_eq!(south.revisions(&[asset]).await.unwrap(), [0]);
    assert!(south.latest_telemetry().await.unwrap().is_empty());
    let mine = "select count(*) from information_schema.columns where table_schema = 'public'";
    assert_eq!(server.sql(&url, mine), "2");
}
