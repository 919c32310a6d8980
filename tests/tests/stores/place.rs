//! Where a store keeps its things, so that it can be opened a second time.

use std::path::PathBuf;
use std::sync::Arc;

use derms_headend_sdk::store::{OpenError, PostgresOptions, PostgresStore, SqliteOptions, Store};
use derms_tests::{Folder, PostgresServer};

use crate::server::server;

/// A database of one test.
#[derive(Debug)]
pub(crate) enum Place {
    Sqlite(Folder),
    Postgres(Arc<PostgresServer>, String),
}

/// An empty one of each kind.
pub(crate) fn places() -> [Place; 2] {
    let server = server();
    let url = server.database();
    [Place::Sqlite(Folder::new()), Place::Postgres(server, url)]
}

/// A schema that is open already, opened as for maintenance.
pub(crate) async fn beside(url: &str) -> PostgresStore {
    let options = PostgresOptions::new(url).unwrap();
    options.connect_beside().await.unwrap()
}

impl Place {
    pub(crate) async fn open(&self) -> Arc<dyn Store> {
        self.try_open().await.unwrap()
    }

    pub(crate) async fn try_open(&self) -> Result<Arc<dyn Store>, OpenError> {
        Ok(match self {
            Self::Sqlite(_) => Arc::new(SqliteOptions::new(self.file()).open().await?),
            Self::Postgres(_, url) => Arc::new(PostgresOptions::new(url)?.connect().await?),
        })
    }

    /// A second time, while it is open; in a file, where there is no second time, that one.
    pub(crate) async fn open_again(&self, open: &Arc<dyn Store>) -> Arc<dyn Store> {
        match self {
            Self::Sqlite(_) => Arc::clone(open),
            Self::Postgres(_, url) => Arc::new(beside(url).await),
        }
    }

    /// Of the one in a file.
    pub(crate) fn file(&self) -> PathBuf {
        match self {
            Self::Sqlite(folder) => folder.file("derms.sqlite"),
            Self::Postgres(..) => panic!("there is no file"),
        }
    }

    /// Runs SQL that no store would.
    pub(crate) async fn sql(&self, sql: &str) {
        match self {
            Self::Sqlite(_) => {
                let url = format!("sqlite://{}?mode=rwc", self.file().display());
                let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
                sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()))
                    .execute(&pool)
                    .await
                    .unwrap();
                pool.close().await;
            }
            Self::Postgres(server, url) => {
                drop(server.sql(url, &format!("set search_path = derms; {sql}")));
            }
        }
    }
}
