-- Limits on the power of assets.
create table limits (
    id uuid primary key,
    asset_id uuid not null,
    site_id uuid not null,
    -- At least one of both bounds is there.
    min_mw float8,
    max_mw float8,
    created_at timestamptz not null,
    expires_at timestamptz,
    principal text,
    status int2 not null,
    reason text,
    text text,
    confirmed_at timestamptz,
    removed_at timestamptz,
    removed_by text,
    -- Of the limits of its asset, when it came or went.
    revision int8 not null,
    -- Null: it holds.
    ended_at timestamptz
);
create index limits_created_at on limits (created_at, id);
create index limits_asset on limits (asset_id, created_at, id);
create index limits_site on limits (site_id, created_at, id);
create index limits_ended_at on limits (ended_at);

-- Stops of an asset, of a site or, with neither, of all assets.
create table stops (
    id uuid primary key,
    asset_id uuid,
    site_id uuid,
    reason text,
    principal text,
    created_at timestamptz not null,
    revision int8 not null,
    -- How many it is for, and how far it came with them.
    assets int8 not null,
    reached int8 not null,
    confirmed int8 not null,
    not_obeyed int8 not null,
    -- Null: it holds.
    ended_at timestamptz,
    ended_by text,
    return_within_s float8
);
create index stops_created_at on stops (created_at, id);
create index stops_ended_at on stops (ended_at);

-- Orders for later, ramps, and what follows a lease.
alter table dispatches add column start_at timestamptz;
alter table dispatches add column ramp_mw_per_min float8;
-- JSON; null: the default.
alter table dispatches add column follow_up jsonb;
