//! How a server is reached.

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _};

use super::super::connection::{Connection, Row as _};
use super::super::fault::Fault;
use super::super::schema::{self, OpenError, SchemaStatus};
use super::super::statement::{Dialect, Statement};
use super::connection::{Begin, PostgresConnection};
use super::holder::{Claim, GONE_AFTER, Held, KEEPALIVE};
use super::layout::Layout;
use super::migrate::{self, MIGRATIONS};
use super::rollup::Rollup;
use super::{Postgres, PostgresStore};

/// Sets up a [`PostgresStore`].
#[derive(Clone)]
#[must_use = "nothing is connected until `connect` is called"]
pub struct PostgresOptions {
    /// Holds the password.
    server: PgConnectOptions,
    schema: String,
    connections: u32,
    acquire: Duration,
    limit: Duration,
    timescale: bool,
    /// `None`: longer than a server remembers a headend that is gone.
    patience: Option<Duration>,
}

/// What a server takes to let go of what a headend held.
const MARGIN: Duration = Duration::from_secs(5);

/// What a URL may say after its `?`.
const PARAMETERS: [&str; 18] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "ssl-mode",
    "ssl-root-cert",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];

impl PostgresOptions {
    /// A server and database: `postgres://user:password@host:port/database?sslmode=verify-full`.
    ///
    /// What is left out comes from libpq's variables (`PGUSER`, `PGPASSWORD`, …) and its password
    /// file. TLS is used when the server offers it; ask for `sslmode=verify-full` (and
    /// `sslrootcert`) to be sure who answers.
    ///
    /// # Errors
    /// It is no such URL. The error never shows it, for it may hold a password.
    pub fn new(url: &str) -> Result<Self, OpenError> {
        let wrong = |problem: &str| OpenError::Setting {
            setting: "the URL of the database",
            problem: problem.to_owned(),
        };
        let form = "write it like postgres://user:password@host:5432/database";
        if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
            return Err(wrong(form));
        }
        let query = url.split_once('?').map_or("", |(_, query)| query);
        let query = query.split('#').next().unwrap_or_default();
        for name in query.split('&').filter(|part| !part.is_empty()) {
            let name = name.split('=').next().unwrap_or_default();
            // What is not known would be logged with its value, which may be a password.
            if !PARAMETERS.contains(&name) {
                return Err(wrong(
                    "a parameter after `?` is not known; sslmode, sslrootcert, sslcert, sslkey, \
                     application_name and options are",
                ));
            }
        }
        let server = PgConnectOptions::from_str(url).map_err(|_| wrong(form))?;
        Ok(Self {
            server,
            schema: "derms".to_owned(),
            connections: 8,
            acquire: Duration::from_secs(5),
            limit: Duration::from_secs(15),
            timescale: true,
            patience: None,
        })
    }

    /// The schema that holds everything, 1 to 48 of `a-z`, `0-9` and `_`, and no digit first; made
    /// when it is missing. Default `derms`.
    pub fn schema(mut self, name: impl Into<String>) -> Self {
        self.schema = name.into();
        self
    }

    /// Most connections at one time, at least 2, beside the one that a headend holds its schema by.
    /// Default 8.
    pub fn connections(mut self, connections: u32) -> Self {
        self.connections = connections.max(2);
        self
    }

    /// The longest a call may take before it is
    /// [`Unavailable`](super::super::super::StoreError::Unavailable); the server gives up a
    /// statement of it after the same time. At least 1 s, default 15 s.
    pub fn call_limit(mut self, limit: Duration) -> Self {
        self.limit = limit.max(Duration::from_secs(1));
        self.acquire = self.acquire.min(self.limit);
        self
    }

    /// Makes a new schema with partitions by day, even if TimescaleDB is there. A schema that
    /// exists stays as it was made.
    pub fn without_timescaledb(mut self) -> Self {
        self.timescale = false;
        self
    }

    /// How long [`connect`](Self::connect) waits for a headend that has the schema to be gone.
    /// Default: the [`call_limit`](Self::call_limit) and 30 s, so 45 s. A server gives up a client
    /// whose machine does not answer 25 s after the end of its last statement.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// Connects, waits until no other headend has the schema, and brings it up to date.
    ///
    /// # Errors
    /// It can't be reached, a setting is wrong, another headend has it, or the schema is newer than
    /// this program.
    pub async fn connect(self) -> Result<PostgresStore, OpenError> {
        let server = self.server()?;
        let connection = self.reach(&server).await?;
        let patience = self
            .patience
            .unwrap_or(self.limit.saturating_add(GONE_AFTER + MARGIN));
        let claim = Claim::wait(connection, &self.schema, &self.location(), patience).await?;
        self.bring_up_to_date(&server).await?;
        let failed = OpenError::told("to take the schema");
        let taken = claim.take(self.pool(), server).await;
        let (pool, held) = taken.map_err(&failed)?;
        let store = self.store(pool, Some(held)).await?;
        if let Layout::Partitions(days) = &store.database.layout {
            let now = derms_proto::Timestamp::now();
            days.make_ahead(&store.database, now)
                .await
                .map_err(&failed)?;
        }
        Ok(store)
    }

    /// Connects to a schema that a headend may have, for maintenance: [`Store::prune`] and what
    /// reads. It must be up to date.
    ///
    /// # Errors
    /// It can't be reached, is not there, or has another schema than this program knows.
    ///
    /// [`Store::prune`]: super::super::super::Store::prune
    pub async fn connect_beside(self) -> Result<PostgresStore, OpenError> {
        self.clone().status().await?.must_be_up_to_date()?;
        let pool = self.pool().connect_lazy_with(self.server()?);
        self.store(pool, None).await
    }

    /// What both need to know of the server.
    async fn store(&self, pool: PgPool, holder: Option<Held>) -> Result<PostgresStore, OpenError> {
        let failed = OpenError::told("to read the schema");
        let (layout, waits_for_its_disk) = look(&pool).await.map_err(&failed)?;
        if !waits_for_its_disk {
            tracing::warn!(
                "the database server runs with fsync = off: what was acknowledged is lost if its \
                 machine fails; switch it on"
            );
        }
        let database = Postgres {
            pool,
            holder,
            layout,
            rollup: Rollup::default(),
        };
        Ok(PostgresStore::new(database, self.limit))
    }

    /// Brings the schema up to date and does nothing else; gives the versions that were added.
    ///
    /// # Errors
    /// It can't be reached, a setting is wrong, or the schema is newer than this program.
    pub async fn migrate(self) -> Result<Vec<u32>, OpenError> {
        let server = self.server()?;
        self.probe(&server).await?;
        self.bring_up_to_date(&server).await
    }

    async fn bring_up_to_date(&self, server: &PgConnectOptions) -> Result<Vec<u32>, OpenError> {
        let pool = self.pool().connect_lazy_with(server.clone());
        let done = migrate::migrate(&pool, &self.schema, self.timescale).await;
        pool.close().await;
        done
    }

    /// What the schema holds; nothing is changed.
    ///
    /// # Errors
    /// It can't be read.
    pub async fn status(self) -> Result<SchemaStatus, OpenError> {
        let server = self.server()?;
        self.probe(&server).await?;
        let pool = self.pool().connect_lazy_with(server);
        let read = self.read_status(&pool).await;
        pool.close().await;
        read.map_err(OpenError::told("to read the schema"))
    }

    async fn read_status(&self, pool: &PgPool) -> Result<SchemaStatus, Fault> {
        let mut connection = PostgresConnection::begin(pool, Begin::Read).await?;
        let applied = schema::applied(&mut connection).await?;
        let mut status = SchemaStatus {
            location: self.location(),
            found: applied.last().map(|(version, ..)| *version),
            known: schema::newest(MIGRATIONS),
            applied,
            telemetry: "partitions".to_owned(),
            bytes: None,
        };
        if status.found.is_some() {
            let layout = migrate::layout(&mut connection).await?;
            let size = "select coalesce(sum(pg_total_relation_size(c.oid)), 0)::int8 from pg_class \
                        c join pg_namespace n on n.oid = c.relnamespace where n.nspname = \
                        current_schema() and c.relkind = 'r'";
            let rows = connection
                .rows(Statement::new(Dialect::Postgres, size))
                .await?;
            let mut bytes = rows.first().map_or(Ok(0), |row| row.counter(0))?;
            if let Layout::Timescale(hypertables) = layout {
                status.telemetry = "timescaledb".to_owned();
                // Its chunks lie in a schema of its own.
                bytes += hypertables.bytes(&mut connection).await?;
            }
            status.bytes = Some(bytes);
        }
        connection.commit().await?;
        Ok(status)
    }

    /// Host, port, database and schema.
    fn location(&self) -> String {
        let database = self
            .server
            .get_database()
            .unwrap_or(self.server.get_username());
        let (host, port) = (self.server.get_host(), self.server.get_port());
        format!("{host}:{port}/{database}, schema {}", self.schema)
    }

    fn server(&self) -> Result<PgConnectOptions, OpenError> {
        if !is_name(&self.schema) {
            return Err(OpenError::Setting {
                setting: "the schema of the database",
                problem: "give it 1 to 48 of a-z, 0-9 and _, beginning with a letter and not with \
                          pg_"
                .to_owned(),
            });
        }
        let millis = self.limit.as_millis().to_string();
        let idle = self.limit.saturating_mul(2).as_millis().to_string();
        let server = self
            .server
            .clone()
            .options(KEEPALIVE)
            .options([
                ("search_path", self.schema.as_str()),
                // A client that is gone must not hold what others wait for.
                ("statement_timeout", millis.as_str()),
                ("lock_timeout", millis.as_str()),
                ("idle_in_transaction_session_timeout", idle.as_str()),
                ("timezone", "UTC"),
                // Compiling a statement over all partitions takes ten times as long as running it.
                ("jit", "off"),
            ])
            .disable_statement_logging();
        Ok(match server.get_application_name() {
            Some(_) => server,
            None => server.application_name("derms-headend"),
        })
    }

    /// A first connection: a pool would only say that it has waited in vain.
    async fn reach(&self, server: &PgConnectOptions) -> Result<PgConnection, OpenError> {
        let first = tokio::time::timeout(self.acquire, server.connect()).await;
        let first = first.unwrap_or(Err(sqlx::Error::PoolTimedOut));
        first.map_err(|error| OpenError::told("to connect")(error.into()))
    }

    async fn probe(&self, server: &PgConnectOptions) -> Result<(), OpenError> {
        let _ = self.reach(server).await?.close().await;
        Ok(())
    }

    fn pool(&self) -> PgPoolOptions {
        PgPoolOptions::new()
            .max_connections(self.connections)
            .acquire_timeout(self.acquire)
    }
}

impl std::fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PostgresOptions({})", self.location())
    }
}

impl PostgresStore {
    /// Connects as [`PostgresOptions`] do by default.
    ///
    /// # Errors
    /// As [`PostgresOptions::new`] and [`PostgresOptions::connect`].
    pub async fn connect(url: &str) -> Result<Self, OpenError> {
        PostgresOptions::new(url)?.connect().await
    }
}

/// How the schema is laid down, and whether the server waits for its disk.
async fn look(pool: &PgPool) -> Result<(Layout, bool), Fault> {
    let mut connection = PostgresConnection::begin(pool, Begin::Read).await?;
    let layout = migrate::layout(&mut connection).await?;
    let sql = "select current_setting('fsync') <> 'off'";
    let rows = connection
        .rows(Statement::new(Dialect::Postgres, sql))
        .await?;
    let waits = rows.first().map_or(Ok(false), |row| row.flag(0))?;
    connection.commit().await?;
    Ok((layout, waits))
}

/// Safe in every place where a schema is named, and not one of the server's own. Short enough for
/// what is made of it.
fn is_name(name: &str) -> bool {
    let first = name.chars().next();
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    first.is_some_and(|c| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(allowed)
        && name.len() <= 48
        && !name.starts_with("pg_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_a_plain_name() {
        for name in ["derms", "_d", "north_2", "user"] {
            assert!(is_name(name), "{name}");
        }
        for name in [
            "",
            "2d",
            "De",
            "a-b",
            "a;b",
            "pg_x",
            "a b",
            "ä",
            &"a".repeat(49),
        ] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn a_wrong_url_is_told_without_its_password() {
        for url in [
            "postgres://me:secret@db:port/x",
            "mysql://me:secret@db/x",
            "postgres://me@db/x?passwrd=secret",
            "postgres://me@db/x?sslmode=secret",
        ] {
            let error = PostgresOptions::new(url).unwrap_err();
            assert!(
                !format!("{error} {error:?}").contains("secret"),
                "{error:?}"
            );
        }
        let options = PostgresOptions::new("postgres://me:secret@db:77/x?sslmode=require").unwrap();
        assert_eq!(
            format!("{options:?}"),
            "PostgresOptions(db:77/x, schema derms)"
        );
    }
}
