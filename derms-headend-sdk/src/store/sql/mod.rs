//! Stores in SQL databases: one schema idea, one set of statements, two dialects.
//!
//! `store` makes each call a transaction; `orders`, `limits`, `audit`, `events`, `telemetry`, `sessions`, `logs`, `prune` hold
//! the statements, for any [`connection::Connection`]; `sqlite` and `postgres` are such.

mod assets;
mod audit;
mod codes;
mod connection;
mod events;
mod fault;
mod limits;
mod logs;
mod orders;
mod prune;
mod schema;
mod sessions;
mod statement;
mod store;
mod telemetry;
mod value;

#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;

#[cfg(feature = "postgres")]
pub use postgres::{PostgresOptions, PostgresStore};
pub use schema::{OpenError, SchemaStatus};
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteOptions, SqliteStore};
pub use store::SqlStore;
