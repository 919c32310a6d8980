-- The first schema. Times are microseconds since 1970 (UTC), ids are UUIDs in 16 bytes, power is
-- in MW with + = export. Numbers of states are explained in src/store/sql/codes.rs.

-- Short keys for assets: a measurement holds one of these instead of two UUIDs.
create table assets (
    key integer primary key,
    id blob not null unique,
    -- The site of its first measurement.
    site_id blob
) strict;

-- A measurement lies beside the others of its asset, by time.
create table telemetry (
    asset integer not null,
    -- The time it is placed by: when it was measured or, if that is later, when it was received.
    at integer not null,
    -- Tells apart those of one time.
    tie integer not null,
    received_at integer not null,
    -- Null: the same as `at`.
    measured_at integer,
    -- Null: good.
    quality integer,
    status integer,
    mw real,
    mvar real,
    voltage_v real,
    frequency_hz real,
    current_a real,
    soc_pct real,
    soh_pct real,
    energy_in_mwh real,
    energy_out_mwh real,
    available_charge_mw real,
    available_discharge_mw real,
    setpoint_mw real,
    -- Null: the site of its asset in `assets`.
    site_id blob,
    -- A JSON object; null: empty.
    details text,
    primary key (asset, at, tie)
) strict, without rowid;

-- Where the logs of agents continue: every number below `next_seq` is settled.
create table log_cursors (
    agent_id blob not null,
    -- 0 telemetry, 1 reports.
    kind integer not null,
    log_id blob not null,
    next_seq integer not null,
    -- Where it stood before it was moved last.
    previous_seq integer not null,
    primary key (agent_id, kind, log_id)
) strict, without rowid;

-- Numbers that agents have lost for good; both ends included.
create table gaps (
    id integer primary key,
    agent_id blob not null,
    log_id blob not null,
    first_seq integer not null,
    last_seq integer not null,
    reason integer not null,
    stored_at integer not null
) strict;
create index gaps_agent on gaps (agent_id, id);
create index gaps_stored_at on gaps (stored_at);

create table agents (
    id blob primary key,
    -- The newest epoch given.
    epoch integer not null,
    -- The newest epoch that is over.
    ended_epoch integer not null
) strict, without rowid;

create table sessions (
    agent_id blob not null,
    epoch integer not null,
    instance_id blob not null,
    peer text,
    agent_version text,
    -- A JSON array of UUIDs.
    assets text not null,
    connected_at integer not null,
    -- Null: it lives.
    disconnected_at integer,
    cause text,
    text text,
    primary key (agent_id, epoch)
) strict, without rowid;
create index sessions_connected_at on sessions (connected_at, agent_id, epoch);
create index sessions_disconnected_at on sessions (disconnected_at);

create table heartbeats (
    asset integer not null,
    received_at integer not null,
    agent_id blob not null,
    epoch integer not null,
    agent_time integer,
    uptime_s real,
    outbox_depth integer not null,
    dropped_samples integer not null,
    availability integer not null,
    control integer not null,
    control_mw real,
    read_errors integer not null,
    primary key (asset, received_at, agent_id, epoch)
) strict, without rowid;

create table revisions (
    asset_id blob primary key,
    -- The highest ever given.
    revision integer not null
) strict, without rowid;

-- Orders. A site order has no asset, and its status and doubt are those of its children.
create table dispatches (
    id blob primary key,
    parent_id blob,
    asset_id blob,
    site_id blob not null,
    mw real not null,
    duration_s real,
    ttl_s real not null,
    revision integer,
    status integer not null,
    in_doubt integer not null,
    reason text,
    text text,
    applied_mw real,
    created_at integer not null,
    expires_at integer not null,
    -- Null: it has not ended. Site orders never have one.
    ended_at integer,
    principal text,
    -- A JSON object, of a site order.
    split text,
    carrier_agent blob,
    carrier_instance blob,
    carrier_log blob,
    carrier_epoch integer
) strict, without rowid;
create index dispatches_roots on dispatches (created_at, id) where parent_id is null;
create index dispatches_site on dispatches (site_id, created_at, id) where parent_id is null;
create index dispatches_asset on dispatches (asset_id, created_at, id) where asset_id is not null;
create index dispatches_parent on dispatches (parent_id) where parent_id is not null;
create index dispatches_open on dispatches (asset_id) where ended_at is null and asset_id is not null;
create index dispatches_carried on dispatches (carrier_agent, carrier_epoch) where ended_at is null and carrier_agent is not null;

-- Every step in the life of an order, oldest first.
create table transitions (
    dispatch_id blob not null,
    step integer not null,
    status integer not null,
    at integer not null,
    reported_at integer,
    reason text,
    text text,
    applied_mw real,
    epoch integer,
    primary key (dispatch_id, step)
) strict, without rowid;

-- A client's key lives as long as its order.
create table idempotency_keys (
    key text primary key,
    fingerprint text not null,
    dispatch_id blob not null unique
) strict, without rowid;

-- What agents reported beside the steps of orders: events, contradictions, and steps of orders
-- that are not known, as received.
create table reports (
    id integer primary key,
    agent_id blob not null,
    log_id blob not null,
    seq integer not null,
    epoch integer not null,
    asset_id blob not null,
    -- When it happened, on the headend's clock as the agent estimates it.
    at integer not null,
    received_at integer not null,
    -- event, contradiction, unknown_dispatch or unknown.
    kind text not null,
    severity text,
    code text,
    text text,
    dispatch_id blob,
    revision integer,
    -- The status that was reported.
    status integer,
    reason text,
    applied_mw real
) strict;
create index reports_asset on reports (asset_id, at);
create index reports_received_at on reports (received_at);
