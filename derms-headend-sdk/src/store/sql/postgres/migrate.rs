//! Bringing the schema up to date, whoever else does so at the same time.

use sqlx::PgPool;

use super::super::connection::{Connection as _, Row as _};
use super::super::fault::Fault;
use super::super::schema::{self, Migration, OpenError};
use super::super::statement::{Dialect, Statement};
use super::connection::{Begin, PostgresConnection};
use super::layout::{Layout, TABLES};
use super::partitions::{self, Days};
use super::timescale::{self, Hypertables};

pub(super) const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "first",
        sql: include_str!("../../../../migrations/postgres/0001_first.sql"),
    },
    Migration {
        version: 2,
        name: "cancel",
        sql: include_str!("../../../../migrations/postgres/0002_cancel.sql"),
    },
    Migration {
        version: 3,
        name: "limits",
        sql: include_str!("../../../../migrations/postgres/0003_limits.sql"),
    },
    Migration {
        version: 4,
        name: "audit",
        sql: include_str!("../../../../migrations/postgres/0004_audit.sql"),
    },
    Migration {
        version: 5,
        name: "control",
        sql: include_str!("../../../../migrations/postgres/0005_control.sql"),
    },
    Migration {
        version: 6,
        name: "events",
        sql: include_str!("../../../../migrations/postgres/0006_events.sql"),
    },
    Migration {
        version: 7,
        name: "rollup",
        sql: include_str!("../../../../migrations/postgres/0007_rollup.sql"),
    },
];

/// Brings the schema up to date in one transaction.
pub(super) async fn migrate(
    pool: &PgPool,
    name: &str,
    timescale: bool,
) -> Result<Vec<u32>, OpenError> {
    let failed = OpenError::told("to prepare the schema");
    let mut connection = PostgresConnection::begin(pool, Begin::Write)
        .await
        .map_err(&failed)?;
    // Another headend may be at it: as long as that takes.
    let wait = format!(
        "set local statement_timeout = '5min'; set local lock_timeout = '5min'; \
         select pg_advisory_xact_lock(hashtext('derms {name}'), 1)"
    );
    connection.control(&wait).await.map_err(&failed)?;
    make_schema(&mut connection, name).await.map_err(&failed)?;
    let extension = match timescale {
        true => find_timescale(&mut connection).await.map_err(&failed)?,
        false => None,
    };
    let done = schema::migrate(&mut connection, MIGRATIONS, |migration| {
        text(migration, extension.as_deref())
    })
    .await;
    match done {
        Ok(done) => {
            connection.commit().await.map_err(&failed)?;
            Ok(done)
        }
        Err(error) => {
            connection.rollback().await;
            Err(error)
        }
    }
}

/// Not `create schema if not exists`: that asks for a right that a schema made by an administrator
/// does not need.
async fn make_schema(connection: &mut PostgresConnection, name: &str) -> Result<(), Fault> {
    let exists = Statement::new(
        Dialect::Postgres,
        "select 1 from pg_namespace where nspname = ",
    )
    .bind(name);
    if connection.rows(exists).await?.is_empty() {
        connection
            .control(&format!("create schema \"{name}\""))
            .await?;
    }
    Ok(())
}

/// Where TimescaleDB is; installed if it is there and may be.
async fn find_timescale(connection: &mut PostgresConnection) -> Result<Option<String>, Fault> {
    let ask = || Statement::new(Dialect::Postgres, timescale::ASK);
    let there = async |connection: &mut PostgresConnection| {
        let rows = connection.rows(ask()).await?;
        rows.first().map(|row| row.text(0)).transpose()
    };
    let Some(schema) = there(connection).await? else {
        return Ok(None);
    };
    if !schema.is_empty() {
        return Ok(Some(schema));
    }
    connection.control("savepoint extension").await?;
    if let Err(fault) = connection.control(timescale::INSTALL).await {
        connection
            .control("rollback to savepoint extension")
            .await?;
        tracing::info!(
            ?fault,
            "timescaledb is there but can't be installed; measurements are partitioned by day"
        );
        return Ok(None);
    }
    Ok(there(connection).await?.filter(|schema| !schema.is_empty()))
}

/// A migration for the layout that this database gets.
pub(super) fn text(migration: &Migration, extension: Option<&str>) -> String {
    let mut sql = migration.sql.to_owned();
    for (_, column) in TABLES {
        let clause = match extension {
            Some(_) => String::new(),
            None => partitions::clause(column),
        };
        sql = sql.replace(&format!("@partitioned {column}@"), &clause);
    }
    if migration.version == 1 {
        sql.push_str(&match extension {
            Some(extension) => timescale::setup(extension),
            None => partitions::rest(),
        });
    }
    sql
}

/// How a database that is up to date was laid down.
pub(super) async fn layout(connection: &mut PostgresConnection) -> Result<Layout, Fault> {
    let sql = "select c.relkind::text from pg_class c join pg_namespace n on n.oid = \
               c.relnamespace where n.nspname = current_schema() and c.relname = 'telemetry'";
    let rows = connection
        .rows(Statement::new(Dialect::Postgres, sql))
        .await?;
    match rows.first().map(|row| row.text(0)).transpose()?.as_deref() {
        Some("p") => return Ok(Layout::Partitions(Days::default())),
        Some(_) => {}
        None => return Err(Fault::unreadable("there is no table of measurements")),
    }
    let rows = connection
        .rows(Statement::new(Dialect::Postgres, timescale::ASK))
        .await?;
    match rows.first().map(|row| row.text(0)).transpose()? {
        Some(extension) if !extension.is_empty() => {
            Ok(Layout::Timescale(Hypertables::new(extension)))
        }
        _ => Err(Fault::unreadable(
            "measurements were laid down with timescaledb, which is gone",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_migration_has_a_text_for_each_layout() {
        for migration in MIGRATIONS {
            for extension in [None, Some("public")] {
                assert!(
                    !text(migration, extension).contains('@'),
                    "{}",
                    migration.name
                );
            }
        }
        let partitioned = text(&MIGRATIONS[0], None);
        assert!(partitioned.contains(") partition by range (at);"));
        assert!(partitioned.contains("create table telemetry_rest partition of telemetry default"));
        let hypertables = text(&MIGRATIONS[0], Some("public"));
        assert!(!hypertables.contains("partition by"));
        assert!(hypertables.contains("create_hypertable"));
    }

    #[test]
    fn versions_go_up_by_one() {
        let versions = MIGRATIONS.iter().map(|migration| migration.version);
        assert!(versions.eq(1..=MIGRATIONS.len() as u32));
    }
}
