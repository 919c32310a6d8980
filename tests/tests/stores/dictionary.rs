//! The data dictionary has every table and column.

use std::collections::BTreeSet;

use crate::place::{Place, places};

const DICTIONARY: &str = include_str!("../../../docs/data.md");

/// `(table, column)` of each row under the heading of a table.
fn described() -> BTreeSet<(String, String)> {
    let mut described = BTreeSet::new();
    let mut table = "";
    for line in DICTIONARY.lines() {
        let code = |prefix: &str| line.strip_prefix(prefix)?.split('`').next();
        if line.starts_with("## ") {
            table = code("## `").unwrap_or_default();
        } else if let Some(column) = code("| `").filter(|_| !table.is_empty()) {
            described.insert((table.to_owned(), column.to_owned()));
        }
    }
    described
}

async fn columns(place: &Place) -> BTreeSet<(String, String)> {
    drop(place.open().await);
    let rows: Vec<(String, String)> = match place {
        Place::Sqlite(_) => {
            let url = format!("sqlite://{}", place.file().display());
            let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
            let sql = "select t.name, c.name from sqlite_master t join pragma_table_info(t.name) c \
                       where t.type = 'table'";
            sqlx::query_as(sql).fetch_all(&pool).await.unwrap()
        }
        Place::Postgres(_, url) => {
            let pool = sqlx::PgPool::connect(url).await.unwrap();
            // Partitions have what their table has.
            let sql = "select c.relname::text, a.attname::text from pg_class c \
                       join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 \
                       and not a.attisdropped where c.relnamespace = 'derms'::regnamespace \
                       and c.relkind in ('r', 'p') and not c.relispartition";
            sqlx::query_as(sql).fetch_all(&pool).await.unwrap()
        }
    };
    rows.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_column_is_in_the_data_dictionary_and_no_other() {
    let mut described = described();
    // Those that wait have the columns of their table.
    let telemetry = described.iter().filter(|(table, _)| table == "telemetry");
    let recent: Vec<_> = telemetry
        .map(|(_, column)| ("telemetry_recent".to_owned(), column.clone()))
        .collect();
    described.extend(recent);
    let [sqlite, postgres] = places();
    let without = |words: &[&str]| {
        let mut tables = described.clone();
        tables.retain(|(table, _)| !words.iter().any(|word| table.contains(word)));
        tables
    };
    assert_eq!(columns(&sqlite).await, without(&["rollup", "holder"]));
    assert_eq!(columns(&postgres).await, without(&["recent"]));
}
