//! Whether a server has TimescaleDB, which edition of it, and where its functions are.

use super::super::super::connection::{Connection as _, Row as _};
use super::super::super::fault::Fault;
use super::super::super::statement::{Dialect, Statement};
use super::super::PostgresConnection;

/// What there is of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Edition {
    /// "Apache 2 Edition": hypertables, without compression and jobs. What distributions and some
    /// managed services have.
    Apache,
    /// "Community Edition", under the Timescale licence: all of it.
    Community,
}

/// The extension of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Extension {
    /// Of its functions.
    pub(in super::super) schema: String,
    pub(in super::super) edition: Edition,
}

/// What a server says of it.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// It has none.
    Nothing,
    /// It has it and does not load it. Who makes it or calls it all the same loses the connection.
    NotLoaded,
    /// This database could have it.
    Available,
    /// This database has it, where this role may not look.
    Closed,
    /// This database has it.
    Installed(Extension),
}

/// Installs it. Not in our schema: others may use it, too.
const INSTALL: &str = "create extension if not exists timescaledb schema public";

/// Only one at a time: of two that install it the second would fail.
const LOCK: &str = "select pg_advisory_xact_lock(hashtext('derms timescaledb'), 4)";

/// The setting is one of the part that is loaded when the server starts; the list of what is loaded
/// can't be read by everybody.
const LOOK: &str = "select (select n.nspname::text from pg_extension e join pg_namespace n \
    on n.oid = e.extnamespace where e.extname = 'timescaledb'), \
    exists (select 1 from pg_extension where extname = 'timescaledb' \
    and has_schema_privilege(extnamespace, 'usage')), \
    exists (select 1 from pg_available_extensions where name = 'timescaledb'), \
    current_setting('timescaledb.disable_load', true) is not distinct from 'off', \
    coalesce(current_setting('timescaledb.license', true), '')";

async fn look(connection: &mut PostgresConnection) -> Result<Found, Fault> {
    let rows = connection
        .rows(Statement::new(Dialect::Postgres, LOOK))
        .await?;
    let Some(row) = rows.first() else {
        return Ok(Found::Nothing);
    };
    Ok(match row.opt_text(0)? {
        None if !row.flag(2)? => Found::Nothing,
        _ if !row.flag(3)? => Found::NotLoaded,
        None => Found::Available,
        Some(_) if !row.flag(1)? => Found::Closed,
        Some(schema) => Found::Installed(Extension {
            schema,
            edition: edition(&row.text(4)?),
        }),
    })
}

/// By the setting `timescaledb.license`. One that is not known is asked for nothing special.
fn edition(licence: &str) -> Edition {
    match licence {
        "timescale" => Edition::Community,
        _ => Edition::Apache,
    }
}

/// The extension for a schema about to be made; installed if it is there and may be. A server that
/// has it and can't give it is told of in the log: the schema stays without for ever.
pub(in super::super) async fn obtain(
    connection: &mut PostgresConnection,
) -> Result<Option<Extension>, Fault> {
    let without = |reason: &str| {
        tracing::warn!(
            reason,
            "timescaledb can't be used; measurements are partitioned by day"
        );
        Ok(None)
    };
    connection.control(LOCK).await?;
    let mut found = look(connection).await?;
    if found == Found::Available {
        connection.control("savepoint extension").await?;
        if let Err(fault) = connection.control(INSTALL).await {
            connection
                .control("rollback to savepoint extension")
                .await?;
            let why = match fault {
                Fault::Conflict(why) | Fault::Away(why) | Fault::Wrong(why) => why.to_string(),
                other => format!("{other:?}"),
            };
            return without(&format!("it can't be created: {why}"));
        }
        found = look(connection).await?;
    }
    match found {
        Found::Nothing | Found::Available => Ok(None),
        Found::NotLoaded => without(NOT_LOADED),
        Found::Closed => without(CLOSED),
        Found::Installed(extension) => {
            let edition = match extension.edition {
                Edition::Apache => "apache",
                Edition::Community => "community",
            };
            tracing::info!(edition, "measurements lie in hypertables of timescaledb");
            Ok(Some(extension))
        }
    }
}

const NOT_LOADED: &str =
    "the server does not load it: add timescaledb to shared_preload_libraries and restart it";

const CLOSED: &str = "its schema is closed to this role: grant usage on it";

/// The extension that measurements were laid down with.
pub(in super::super) async fn laid_down(
    connection: &mut PostgresConnection,
) -> Result<Extension, Fault> {
    let wrong = |what: &str| {
        Fault::unreadable(format!(
            "measurements were laid down with timescaledb, and {what}"
        ))
    };
    let extension = match look(connection).await? {
        Found::Installed(extension) => extension,
        Found::NotLoaded => return Err(wrong(NOT_LOADED)),
        Found::Closed => return Err(wrong(CLOSED)),
        Found::Nothing | Found::Available => return Err(wrong("the database has it no more")),
    };
    let hypertable = "select 1 from timescaledb_information.hypertables \
                      where hypertable_schema = current_schema() and hypertable_name = 'telemetry'";
    let rows = connection
        .rows(Statement::new(Dialect::Postgres, hypertable))
        .await?;
    if rows.is_empty() {
        return Err(wrong(
            "their table is none of its hypertables: restore a dump of the whole database, between \
             timescaledb_pre_restore() and timescaledb_post_restore()",
        ));
    }
    Ok(extension)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_timescale_licence_is_asked_for_more_than_hypertables() {
        assert_eq!(edition("timescale"), Edition::Community);
        for licence in ["apache", "", "of next year"] {
            assert_eq!(edition(licence), Edition::Apache, "{licence}");
        }
    }
}
