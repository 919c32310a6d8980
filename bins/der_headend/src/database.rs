//! Where the headend keeps its memory: read from a URL, opened.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;
use derms_headend_sdk::HeadendBuilder;
use derms_headend_sdk::store::{OpenError, PostgresOptions, SqliteOptions};
use derms_program::{Failure, chain};

/// The file in the data folder.
const FILE: &str = "derms.sqlite";

/// Flags and environment.
#[derive(Debug, Args)]
pub(crate) struct DatabaseArgs {
    /// Where history and orders are kept: `sqlite:FILE`, `postgres://USER:PASSWORD@HOST/DATABASE`,
    /// or `memory`, which forgets all when the process ends.
    /// Default: derms.sqlite in the folder of --data-dir
    // The value of the variable may hold a password.
    #[arg(
        long,
        env = "DATABASE_URL",
        hide_env_values = true,
        value_name = "URL",
        global = true
    )]
    database_url: Option<OsString>,

    /// The schema in a PostgreSQL database; made when it is missing
    #[arg(
        long,
        env = "DATABASE_SCHEMA",
        value_name = "NAME",
        default_value = "derms",
        global = true
    )]
    database_schema: String,

    /// The folder of what this headend keeps; made when it is missing
    #[arg(
        long,
        env = "DERMS_DATA_DIR",
        value_name = "FOLDER",
        default_value = "derms-data",
        global = true
    )]
    data_dir: PathBuf,
}

/// A checked place for everything.
#[derive(Debug)]
pub(crate) enum Database {
    Memory,
    /// In the data folder, which is made when it is missing.
    Embedded {
        folder: PathBuf,
    },
    Sqlite(PathBuf),
    Postgres(Box<PostgresOptions>),
}

impl Database {
    pub(crate) fn check(args: &DatabaseArgs) -> Result<Self, String> {
        let Some(url) = &args.database_url else {
            return Ok(Self::Embedded {
                folder: args.data_dir.clone(),
            });
        };
        let setting = "--database-url (DATABASE_URL)";
        // Never quoted: it may hold a password.
        let forms = || {
            format!(
                "{setting}: write `sqlite:FILE`, `postgres://USER:PASSWORD@HOST/DATABASE` or \
                 `memory`, or leave it out"
            )
        };
        let url = url.to_str().ok_or_else(forms)?;
        if url == "memory" {
            return Ok(Self::Memory);
        }
        if let Some(path) = url.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() || path.starts_with(':') {
                return Err(forms());
            }
            return Ok(Self::Sqlite(path.into()));
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let options = PostgresOptions::new(url)
                .map_err(|error| format!("{setting}: {error}"))?
                .schema(&args.database_schema);
            return Ok(Self::Postgres(Box::new(options)));
        }
        Err(forms())
    }

    /// What it is, for a log.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Embedded { .. } | Self::Sqlite(_) => "sqlite",
            Self::Postgres(_) => "postgres",
        }
    }

    /// Opens it, and gives the headend to it.
    pub(crate) async fn give_to(self, builder: HeadendBuilder) -> Result<HeadendBuilder, Failure> {
        let not_opened = not_opened(self.remedy());
        Ok(match self {
            Self::Memory => builder,
            Self::Embedded { folder } => {
                builder.store(embedded(&folder)?.open().await.map_err(not_opened)?)
            }
            Self::Sqlite(path) => {
                let options = SqliteOptions::new(path);
                builder.store(options.open().await.map_err(not_opened)?)
            }
            Self::Postgres(options) => builder.store(options.connect().await.map_err(not_opened)?),
        })
    }

    /// What chooses another one.
    fn remedy(&self) -> &'static str {
        match self {
            Self::Embedded { .. } => "choose another folder with --data-dir (DERMS_DATA_DIR)",
            _ => "choose another database with --database-url (DATABASE_URL)",
        }
    }
}

/// Why a start has no database, and what to do; other errors say that themselves.
fn not_opened(remedy: &str) -> impl Fn(OpenError) -> Failure {
    move |error| match error {
        OpenError::Store(_) => Failure::start(format!(
            "{}; mend that, or {remedy}; `der_headend check` looks further",
            chain(&error)
        )),
        _ => failure(&error),
    }
}

/// The file in the data folder, which is made for this user alone.
pub(crate) fn embedded(folder: &Path) -> Result<SqliteOptions, Failure> {
    let mut make = std::fs::DirBuilder::new();
    make.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut make, 0o700);
    make.create(folder).map_err(|error| {
        Failure::start(format!(
            "can't make the folder {}: {error}; choose another one with --data-dir (DERMS_DATA_DIR)",
            folder.display()
        ))
    })?;
    Ok(SqliteOptions::new(folder.join(FILE)))
}

/// The file in the data folder, whether the folder is there or not.
pub(crate) fn looked_at(folder: &Path) -> SqliteOptions {
    SqliteOptions::new(folder.join(FILE))
}

/// What to tell of a database that can't be used.
pub(crate) fn failure(error: &OpenError) -> Failure {
    match error {
        OpenError::Setting { .. } => Failure::configuration(chain(error)),
        _ => Failure::start(chain(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: Option<&str>) -> Result<Database, String> {
        Database::check(&DatabaseArgs {
            database_url: url.map(OsString::from),
            database_schema: "derms".to_owned(),
            data_dir: "data".into(),
        })
    }

    #[test]
    fn a_url_is_a_file_a_server_or_nothing() {
        assert!(
            matches!(check(None).unwrap(), Database::Embedded { folder } if folder == Path::new("data"))
        );
        assert!(matches!(check(Some("memory")).unwrap(), Database::Memory));
        for (url, path) in [
            ("sqlite:a/b.sqlite", "a/b.sqlite"),
            ("sqlite:///a/b", "/a/b"),
            ("sqlite:/a", "/a"),
        ] {
            assert!(
                matches!(check(Some(url)).unwrap(), Database::Sqlite(p) if p == Path::new(path))
            );
        }
        for url in ["postgres://me:secret@db:5432/x", "postgresql:///x"] {
            let database = check(Some(url)).unwrap();
            assert_eq!(database.name(), "postgres");
            assert!(!format!("{database:?}").contains("secret"));
        }
    }

    #[test]
    fn a_url_that_is_none_is_refused_without_showing_its_password() {
        for url in [
            "mysql://me:secret@db/x",
            "",
            "sqlite:",
            "sqlite::memory:",
            "postgres://me:secret@db:x/",
        ] {
            let line = check(Some(url)).unwrap_err();
            assert!(
                line.contains("(DATABASE_URL)") && !line.contains("secret"),
                "{line}"
            );
        }
    }
}
