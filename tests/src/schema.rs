//! What the first release has left behind.

/// SQL that makes the SQLite database of the first release, with the row that says so.
pub const FIRST_SCHEMA: &str = concat!(
    include_str!("../../derms-headend-sdk/migrations/sqlite/0001_first.sql"),
    "pragma application_id = 1145393741; create table schema_versions (version integer primary key, \
     name text not null, applied_at integer not null) strict; \
     insert into schema_versions values (1, 'first', 1790000000000000)"
);

/// How measurements and heartbeats lie in PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Days {
    /// In a partition a day.
    Partitions,
    /// In hypertables of TimescaleDB, which the database must have.
    Hypertables,
}

/// SQL that makes the PostgreSQL schema `derms` of the first release, with the row that says so.
#[must_use]
pub fn first_postgres_schema(days: Days) -> String {
    let mut schema =
        include_str!("../../derms-headend-sdk/migrations/postgres/0001_first.sql").to_owned();
    for (table, column) in [("telemetry", "at"), ("heartbeats", "received_at")] {
        let (clause, more) = match days {
            Days::Partitions => (
                format!("partition by range ({column})"),
                format!("create table {table}_rest partition of {table} default;"),
            ),
            Days::Hypertables => (
                String::new(),
                format!(
                    "select create_hypertable('{table}', '{column}', chunk_time_interval => \
                     interval '1 day', create_default_indexes => false);"
                ),
            ),
        };
        schema = schema.replace(&format!("@partitioned {column}@"), &clause) + &more;
    }
    format!(
        "create schema derms; set search_path = derms, public; {schema} create table \
         schema_versions (version int8 primary key, name text not null, applied_at timestamptz not \
         null); insert into schema_versions values (1, 'first', now())"
    )
}
