-- Measurements of quarters of an hour that are over, summed up: src/store/sql/postgres/rollup.rs.
create table telemetry_rollup (
    at timestamptz not null,
    mw_min float8,
    mw_sum float8,
    mw_max float8,
    soc_pct_min float8,
    soc_pct_sum float8,
    soc_pct_max float8,
    asset int4 not null,
    count int4 not null default 0,
    mw_count int4 not null default 0,
    soc_pct_count int4 not null default 0,
    stale boolean not null default false,
    primary key (asset, at)
);
create index telemetry_rollup_at on telemetry_rollup (at);
create index telemetry_rollup_stale on telemetry_rollup (asset, at) where stale;

create table rollup_progress (
    complete_from timestamptz not null,
    complete_to timestamptz not null,
    marked_to timestamptz not null
);
-- What is there already is not summed up later: that would take long.
insert into rollup_progress
    select case when exists (select 1 from telemetry) then last else timestamptz '-infinity' end,
        last, last
    from (select date_bin(interval '15 minutes', now(), timestamptz 'epoch') as last) now;
