//! How a file is opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::ConnectOptions as _;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use super::super::connection::{Connection as _, Row as _};
use super::super::fault::Fault;
use super::super::schema::{self, OpenError, SchemaStatus};
use super::super::statement::{Dialect, Statement};
use super::connection::{Begin, SqliteConnection};
use super::lock::{self, Lock};
use super::{MIGRATIONS, Sqlite, SqliteStore};

/// "DERM", in the header of the file: whose it is.
const APPLICATION: i64 = 0x4445_524d;

/// Sets up a [`SqliteStore`].
#[derive(Debug, Clone)]
#[must_use = "nothing is opened until `open` is called"]
pub struct SqliteOptions {
    path: PathBuf,
    readers: u32,
    busy: Duration,
    patience: Duration,
    limit: Duration,
}

impl SqliteOptions {
    /// A file; made when it is missing. Its folder must be there.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            readers: 4,
            busy: Duration::from_secs(5),
            patience: Duration::from_secs(3),
            limit: Duration::from_secs(15),
        }
    }

    /// Most reads at one time, at least 1. Default 4.
    pub fn readers(mut self, readers: u32) -> Self {
        self.readers = readers.max(1);
        self
    }

    /// The longest a call may take before it is
    /// [`Unavailable`](super::super::super::StoreError::Unavailable). Default 15 s.
    pub fn call_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// How long a file that another headend has is waited for: one that was killed a moment ago may
    /// not have let it go yet. Default 3 s.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Opens the file and brings its schema up to date.
    ///
    /// # Errors
    /// It can't be opened, belongs to somebody else, or has a newer schema.
    pub async fn open(self) -> Result<SqliteStore, OpenError> {
        let lock = Lock::take(&self.path, self.patience).await?;
        let writer = self.writer(self.connect());
        self.bring_up_to_date(&writer).await?;
        Ok(self.store(writer, Some(lock)))
    }

    /// Opens a file that a headend may have open, for maintenance: [`Store::prune`] and what reads.
    /// Its schema must be up to date.
    ///
    /// # Errors
    /// It is not there, or has another schema than this program knows.
    ///
    /// [`Store::prune`]: super::super::super::Store::prune
    pub async fn open_beside(self) -> Result<SqliteStore, OpenError> {
        self.clone().status().await?.must_be_up_to_date()?;
        let writer = self.writer(self.connect().create_if_missing(false));
        Ok(self.store(writer, None))
    }

    fn store(&self, writer: SqlitePool, lock: Option<Lock>) -> SqliteStore {
        let readers = SqlitePoolOptions::new()
            .max_connections(self.readers)
            .acquire_timeout(self.busy)
            .connect_lazy_with(self.connect().pragma("query_only", "on"));
        let database = Sqlite {
            writer,
            readers,
            recent: Arc::default(),
            _lock: lock,
        };
        SqliteStore::new(database, self.limit)
    }

    /// Brings the schema up to date and does nothing else; gives the versions that were added.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn migrate(self) -> Result<Vec<u32>, OpenError> {
        let _lock = Lock::take(&self.path, self.patience).await?;
        let pool = self.writer(self.connect());
        let done = self.bring_up_to_date(&pool).await;
        pool.close().await;
        done
    }

    /// What the file holds; nothing is changed, and a headend may use it meanwhile.
    ///
    /// # Errors
    /// It can't be read.
    pub async fn status(self) -> Result<SchemaStatus, OpenError> {
        let mut status = SchemaStatus {
            location: self.path.display().to_string(),
            found: None,
            known: schema::newest(MIGRATIONS),
            applied: Vec::new(),
            telemetry: "table".to_owned(),
            bytes: None,
        };
        if !self.path.exists() {
            return Ok(status);
        }
        let failed = OpenError::told("to read the schema");
        let options = self
            .connect()
            .create_if_missing(false)
            .pragma("query_only", "on");
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(self.busy)
            .connect_lazy_with(options);
        let read = async {
            let mut connection = SqliteConnection::begin(&pool, Begin::Read).await?;
            let applied = schema::applied(&mut connection).await?;
            connection.commit().await?;
            Ok(applied)
        };
        let applied = read.await.map_err(&failed);
        pool.close().await;
        status.applied = applied?;
        status.found = status.applied.last().map(|(version, ..)| *version);
        status.bytes = ["", "-wal"]
            .into_iter()
            .filter_map(|end| {
                let mut path = self.path.clone().into_os_string();
                path.push(end);
                Some(std::fs::metadata(path).ok()?.len())
            })
            .reduce(u64::saturating_add);
        Ok(status)
    }

    /// Whether a headend has the file open; nothing is changed.
    ///
    /// # Errors
    /// The lock beside the file can't be looked at.
    pub fn is_in_use(&self) -> std::io::Result<bool> {
        lock::is_held(&self.path)
    }

    fn writer(&self, options: SqliteConnectOptions) -> SqlitePool {
        SqlitePoolOptions::new()
            .max_connections(1)
            // Calls wait for their turn here; the limit of a call is the end of it.
            .acquire_timeout(self.limit)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            // 64 MiB.
            .connect_lazy_with(options.pragma("cache_size", "-65536"))
    }

    fn connect(&self) -> SqliteConnectOptions {
        SqliteConnectOptions::new()
            .filename(&self.path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(false)
            .busy_timeout(self.busy)
            // 64 MiB: the pages at which assets grow are written again and again, and go from the
            // log into the file once.
            .pragma("wal_autocheckpoint", "16384")
            .pragma("journal_size_limit", "134217728")
            .row_buffer_size(512)
            .disable_statement_logging()
    }

    async fn bring_up_to_date(&self, pool: &SqlitePool) -> Result<Vec<u32>, OpenError> {
        let failed = OpenError::told("to open the file");
        let mut connection = SqliteConnection::begin(pool, Begin::Write)
            .await
            .map_err(&failed)?;
        if !is_ours(&mut connection).await.map_err(&failed)? {
            connection.rollback().await;
            return Err(OpenError::Foreign {
                path: self.path.clone(),
            });
        }
        let done = schema::migrate(&mut connection, MIGRATIONS, |migration| {
            migration.sql.to_owned()
        })
        .await?;
        connection.commit().await.map_err(&failed)?;
        Ok(done)
    }
}

impl SqliteStore {
    /// Opens a file as [`SqliteOptions`] do by default.
    ///
    /// # Errors
    /// As [`SqliteOptions::open`].
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        SqliteOptions::new(path.as_ref()).open().await
    }
}

/// Marks an empty file as ours, and finds out whether another one is.
async fn is_ours(connection: &mut SqliteConnection) -> Result<bool, Fault> {
    let sql = "select (select application_id from pragma_application_id), \
               (select count(*) from sqlite_master)";
    let rows = connection
        .rows(Statement::new(Dialect::Sqlite, sql))
        .await?;
    let Some(row) = rows.first() else {
        return Ok(false);
    };
    match (row.int(0)?, row.int(1)?) {
        (APPLICATION, _) => Ok(true),
        (0, 0) => {
            let mark = format!("pragma application_id = {APPLICATION}");
            connection.script(&mark).await?;
            Ok(true)
        }
        _ => Ok(false),
    }
}
