-- The headend that has this schema: src/store/sql/postgres/holder.rs. One row.
create table holder (
    one boolean primary key default true check (one),
    instance_id uuid not null,
    since timestamptz not null
);
