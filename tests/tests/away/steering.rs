//! The database fails while orders are under way: it is stopped, or its disk is full. Leases, cancels
//! and stops need no database; a new order that can't be recorded is refused and never sent; and all
//! that has happened is told truly when there is a database again (I1, I5, I6, I8, I10, I11, I13 of
//! `docs/protocol.md`).

use std::path::Path;

use derms_tests::{PostgresServer, SmallDisk, until};
use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use crate::PATIENCE;
use crate::steered::Steered;
use crate::story::Takes;

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_away_orders_end_and_none_begins_and_afterwards_it_tells_the_truth() {
    let server = PostgresServer::start();
    let plant = Steered::start(&["--database-url", &server.database()]).await;
    let before = plant.order().await;
    server.stop();
    plant.until_not_ready("can't be reached").await;
    let meanwhile = plant.steer(&before, Takes::Nothing).await;
    plant.until_not_ready("can't be reached").await;
    server.start_again();
    plant.check(&before, &meanwhile).await;
    plant.check_restarted(&before, &meanwhile).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_of_the_headend_orders_end_and_none_begins_and_room_is_all_it_needs() {
    let disk = SmallDisk::mount("size=48m");
    let data = disk.path().join("data");
    let mut plant = Steered::start(&["--data-dir", data.to_str().unwrap()]).await;
    let before = plant.order().await;
    disk.fill();
    let held = use_up(&data.join("derms.sqlite")).await;
    plant.until_logged("disk is full").await;
    plant.until_not_ready("takes nothing").await;
    let meanwhile = plant.steer(&before, Takes::Nothing).await;
    plant.until_not_ready("take").await;
    disk.make_room();
    plant.check(&before, &meanwhile).await;
    held.close().await.unwrap();
    plant.check_restarted(&before, &meanwhile).await;
}

/// Commits as little as SQLite can until that fails: what its log has begun has room, and nothing
/// else is to find it. While this connection is open, no other one that is closed empties the log.
async fn use_up(file: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .busy_timeout(PATIENCE)
        .pragma("wal_autocheckpoint", "0");
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    for number in 1..10_000 {
        let commit = AssertSqlSafe(format!("pragma user_version = {number}"));
        if let Err(error) = connection.execute(commit).await {
            let code = error.as_database_error().and_then(|error| error.code());
            assert_eq!(code.as_deref(), Some("13"), "{error:?}"); // SQLITE_FULL
            return connection;
        }
    }
    panic!("the disk is not full");
}

/// The tables are on the full disk, what is written ahead is not: PostgreSQL refuses what needs
/// another page (53100), and takes what finds room in the pages that it has.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_of_postgresql_what_finds_no_room_waits_or_is_refused_until_there_is_some() {
    let disk = SmallDisk::mount("size=48m");
    let server = PostgresServer::start();
    let database = server.database_in(disk.path());
    let mut plant = Steered::start(&["--database-url", &database]).await;
    let before = plant.order().await;
    disk.fill();
    let meanwhile = plant.steer(&before, Takes::Some).await;
    plant.until_logged("No space left on device").await;
    plant.until_not_ready("take").await;
    disk.make_room();
    plant.check(&before, &meanwhile).await;
    plant.check_restarted(&before, &meanwhile).await;
}

/// All of PostgreSQL is on the full disk: when it needs another file to write ahead it panics, finds
/// no room for its recovery either, and stays down until somebody starts it.
#[tokio::test(flavor = "multi_thread")]
async fn a_postgresql_that_a_full_disk_has_ended_is_away_until_it_is_started_on_a_disk_with_room() {
    let disk = SmallDisk::mount("size=128m");
    let server = PostgresServer::start_on(disk.path());
    let database = server.database();
    let plant = Steered::start(&["--database-url", &database]).await;
    let before = plant.order().await;
    disk.fill();
    until("its end", PATIENCE, async || {
        // What others would write for minutes.
        let next_file = "select pg_logical_emit_message(true, '', ''), pg_switch_wal()";
        if let Ok(mut connection) = PgConnection::connect(&database).await {
            let _ = connection.execute(next_file).await;
        }
        (!server.is_running()).then_some(())
    })
    .await;
    plant.until_not_ready("can't be reached").await;
    let meanwhile = plant.steer(&before, Takes::Nothing).await;
    disk.make_room();
    server.start_again();
    plant.check(&before, &meanwhile).await;
    plant.check_restarted(&before, &meanwhile).await;
}
