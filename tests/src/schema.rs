//! What the first release has left behind.

/// SQL that makes the SQLite database of the first release, with the row that says so.
pub const FIRST_SCHEMA: &str = concat!(
    include_str!("../../derms-headend-sdk/migrations/sqlite/0001_first.sql"),
    "pragma application_id = 1145393741; create table schema_versions (version integer primary key, \
     name text not null, applied_at integer not null) strict; \
     insert into schema_versions values (1, 'first', 1790000000000000)"
);
