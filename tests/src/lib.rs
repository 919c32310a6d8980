//! What the tests of several sides share: the programs as processes, a link that can be cut, and
//! waiting for a condition with an end.

mod call;
mod folder;
mod headend;
mod numbered;
mod pki;
mod postgres;
mod process;
mod proxy;
mod schema;
mod small_disk;
mod tree;

use std::time::Duration;

pub use call::call;
pub use folder::Folder;
pub use headend::{FREE, HeadendProcess, lasting_address};
pub use numbered::{Numbered, number_of, numbered_asset, numbered_fleet, reading_number};
pub use pki::{Pki, Wanted};
pub use postgres::PostgresServer;
pub use process::{Output, Process, Program, build_programs, program, root};
pub use proxy::Proxy;
pub use schema::{Days, FIRST_SCHEMA, first_postgres_schema};
pub use small_disk::SmallDisk;
pub use tree::{Relative, children_of};

/// Waits until `check` gives a value, looking every 20 ms.
///
/// # Panics
/// Nothing came within `limit`; tells what was waited for.
pub async fn until<T>(what: &str, limit: Duration, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let end = tokio::time::Instant::now() + limit;
    loop {
        if let Some(value) = check().await {
            return value;
        }
        assert!(
            tokio::time::Instant::now() < end,
            "waited {limit:?} in vain: {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
