-- Limits on the power of assets.
create table limits (
    id blob primary key,
    asset_id blob not null,
    site_id blob not null,
    -- At least one of both bounds is there.
    min_mw real,
    max_mw real,
    created_at integer not null,
    expires_at integer,
    principal text,
    status integer not null,
    reason text,
    text text,
    confirmed_at integer,
    removed_at integer,
    removed_by text,
    -- Of the limits of its asset, when it came or went.
    revision integer not null,
    -- Null: it holds.
    ended_at integer
) strict, without rowid;
create index limits_created_at on limits (created_at, id);
create index limits_asset on limits (asset_id, created_at, id);
create index limits_site on limits (site_id, created_at, id);
create index limits_ended_at on limits (ended_at);

-- Stops of an asset, of a site or, with neither, of all assets.
create table stops (
    id blob primary key,
    asset_id blob,
    site_id blob,
    reason text,
    principal text,
    created_at integer not null,
    revision integer not null,
    -- How many it is for, and how far it came with them.
    assets integer not null,
    reached integer not null,
    confirmed integer not null,
    not_obeyed integer not null,
    -- Null: it holds.
    ended_at integer,
    ended_by text,
    return_within_s real
) strict, without rowid;
create index stops_created_at on stops (created_at, id);
create index stops_ended_at on stops (ended_at);

-- Orders for later, ramps, and what follows a lease.
alter table dispatches add column start_at integer;
alter table dispatches add column ramp_mw_per_min real;
-- JSON; null: the default.
alter table dispatches add column follow_up text;
