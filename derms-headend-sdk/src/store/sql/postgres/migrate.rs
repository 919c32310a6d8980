//! Bringing the schema up to date, whoever else does so at the same time.

use sqlx::PgPool;

use super::super::connection::{Connection as _, Row as _};
use super::super::fault::Fault;
use super::super::schema::{self, Migration, OpenError};
use super::super::statement::{Dialect, Statement};
use super::connection::{Begin, PostgresConnection};
use super::layout::{Layout, TABLES};
use super::partitions::{self, Days};
use super::timescale::{self, Extension, Hypertables};

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
    Migration {
        version: 8,
        name: "holder",
        sql: include_str!("../../../../migrations/postgres/0008_holder.sql"),
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
    let applied = schema::applied(&mut connection).await.map_err(&failed)?;
    // The first migration alone asks for it.
    let extension = match applied.is_empty() && timescale {
        true => timescale::obtain(&mut connection).await.map_err(&failed)?,
        false => None,
    };
    let done = schema::migrate(&mut connection, MIGRATIONS, |migration| {
        text(migration, extension.as_ref())
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

/// A migration for the layout that this database gets.
fn text(migration: &Migration, extension: Option<&Extension>) -> String {
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
    let extension = timescale::laid_down(connection).await?;
    Ok(Layout::Timescale(Hypertables::new(extension)))
}

#[cfg(test)]
mod tests {
    use super::super::timescale::Edition;
    use super::*;

    #[test]
    fn a_migration_has_a_text_for_each_layout() {
        let extension = Extension {
            schema: "public".to_owned(),
            edition: Edition::Apache,
        };
        for migration in MIGRATIONS {
            for extension in [None, Some(&extension)] {
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
        let hypertables = text(&MIGRATIONS[0], Some(&extension));
        assert!(!hypertables.contains("partition by"));
        assert!(hypertables.contains("create_hypertable"));
    }

    #[test]
    fn versions_go_up_by_one() {
        let versions = MIGRATIONS.iter().map(|migration| migration.version);
        assert!(versions.eq(1..=MIGRATIONS.len() as u32));
    }
}
