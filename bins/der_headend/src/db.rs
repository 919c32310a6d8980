//! `der_headend db`: what an administrator does with the database.

use clap::{Args, Subcommand};
use derms_headend_sdk::proto::Timestamp;
use derms_headend_sdk::store::{
    OpenError, Pruned, Retention, SchemaStatus, SqliteOptions, Store, StoreError,
};
use derms_program::{Failure, chain, say};

use crate::database::{self, Database};

/// What is done with the database.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Task {
    /// Say where the database is, which schema it has and how large it is; changes nothing
    Status,
    /// Bring the schema up to date; the headend does the same when it starts
    Migrate,
    /// Forget what is older than its retention; the headend does the same every hour
    Prune(PruneArgs),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct PruneArgs {
    /// Say what would be forgotten, and forget nothing
    #[arg(long)]
    dry_run: bool,
}

/// Does it, and prints what came out.
pub(crate) async fn run(
    task: &Task,
    database: Database,
    retention: &Retention,
) -> Result<(), Failure> {
    match task {
        Task::Status => {
            say(&status_text(&status(database).await?));
            Ok(())
        }
        Task::Migrate => {
            let done = migrate(database).await?;
            say(&match done.as_slice() {
                [] => "the schema is up to date\n".to_owned(),
                done => format!("added schema {}\n", list(done)),
            });
            Ok(())
        }
        Task::Prune(args) => prune(args, database, retention).await,
    }
}

/// A store that forgets everything when its process ends has nothing to do here.
fn memory() -> Failure {
    Failure::configuration(
        "--database-url (DATABASE_URL) is `memory`: there is no database; \
         name one, or leave it out for the one in --data-dir (DERMS_DATA_DIR)",
    )
}

/// What the database holds; changes nothing.
pub(crate) async fn status(database: Database) -> Result<SchemaStatus, Failure> {
    let status = match database {
        Database::Memory => return Err(memory()),
        Database::Embedded { folder } => database::looked_at(&folder).status().await,
        Database::Sqlite(path) => SqliteOptions::new(path).status().await,
        Database::Postgres(options) => options.status().await,
    };
    status.map_err(|error| database::failure(&error))
}

async fn migrate(database: Database) -> Result<Vec<u32>, Failure> {
    let done = match database {
        Database::Memory => return Err(memory()),
        Database::Embedded { folder } => database::embedded(&folder)?.migrate().await,
        Database::Sqlite(path) => SqliteOptions::new(path).migrate().await,
        Database::Postgres(options) => options.migrate().await,
    };
    done.map_err(|error| database::failure(&error))
}

async fn prune(args: &PruneArgs, database: Database, retention: &Retention) -> Result<(), Failure> {
    let failed = |error: OpenError| database::failure(&error);
    match database {
        Database::Memory => Err(memory()),
        Database::Embedded { folder } => {
            let store = database::looked_at(&folder)
                .open_beside()
                .await
                .map_err(failed)?;
            forget(
                &store,
                store.prunable(retention, Timestamp::now()).await,
                args,
                retention,
            )
            .await
        }
        Database::Sqlite(path) => {
            let store = SqliteOptions::new(path)
                .open_beside()
                .await
                .map_err(failed)?;
            forget(
                &store,
                store.prunable(retention, Timestamp::now()).await,
                args,
                retention,
            )
            .await
        }
        Database::Postgres(options) => {
            let store = options.connect_beside().await.map_err(failed)?;
            forget(
                &store,
                store.prunable(retention, Timestamp::now()).await,
                args,
                retention,
            )
            .await
        }
    }
}

async fn forget(
    store: &dyn Store,
    old: Result<Pruned, StoreError>,
    args: &PruneArgs,
    retention: &Retention,
) -> Result<(), Failure> {
    let failed = |error: StoreError| Failure::start(chain(&error));
    say(&pruned_text(
        "older than its retention",
        &old.map_err(failed)?,
    ));
    if args.dry_run {
        return Ok(());
    }
    let mut all = Pruned::default();
    let now = Timestamp::now();
    loop {
        let pruned = store.prune(retention, now).await.map_err(failed)?;
        let more = pruned.more;
        all = all + pruned;
        if !more {
            break;
        }
    }
    say(&pruned_text("forgotten", &all));
    Ok(())
}

fn pruned_text(what: &str, pruned: &Pruned) -> String {
    format!(
        "{what}: {} measurements, {} gaps, {} heartbeats, {} sessions, {} events, {} reports, \
         {} orders, {} limits and stops, {} records of the audit trail\n",
        pruned.telemetry,
        pruned.gaps,
        pruned.heartbeats,
        pruned.sessions,
        pruned.events,
        pruned.reports,
        pruned.dispatches,
        pruned.limits,
        pruned.audit
    )
}

fn status_text(status: &SchemaStatus) -> String {
    let schema = match status.found {
        None => format!("none yet; this program brings {}", status.known),
        Some(found) if found < status.known => {
            format!("{found}; `der_headend db migrate` brings {}", status.known)
        }
        Some(found) if found > status.known => {
            format!(
                "{found}, newer than this program, which knows {}",
                status.known
            )
        }
        Some(found) => format!("{found}, up to date"),
    };
    let mut text = format!("database   {}\nschema     {schema}\n", status.location);
    text.push_str(&format!("telemetry  in {}\n", status.telemetry));
    if let Some(bytes) = status.bytes {
        text.push_str(&format!("size       {:.1} MB\n", bytes as f64 / 1e6));
    }
    for (version, name, at) in &status.applied {
        text.push_str(&format!("  {version:>3}  {name}  {at}\n"));
    }
    text
}

fn list(versions: &[u32]) -> String {
    let versions: Vec<String> = versions.iter().map(u32::to_string).collect();
    versions.join(", ")
}
