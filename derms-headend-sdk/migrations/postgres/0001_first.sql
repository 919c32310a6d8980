-- The first schema. Power is in MW with + = export. Numbers of states are
-- explained in src/store/sql/codes.rs.

-- Short keys for assets: a measurement holds one of these instead of two UUIDs.
create table assets (
    key int4 generated always as identity primary key,
    id uuid not null unique,
    -- The site of its first measurement.
    site_id uuid
);

-- Columns by falling alignment: nothing is lost between them. The end of the statement depends on
-- whether TimescaleDB is there: see src/store/sql/postgres/migrate.rs.
create table telemetry (
    -- The time it is placed by: when it was measured or, if that is later, when it was received.
    at timestamptz not null,
    received_at timestamptz not null,
    -- Null: the same as `at`.
    measured_at timestamptz,
    mw float8,
    mvar float8,
    voltage_v float8,
    frequency_hz float8,
    current_a float8,
    soc_pct float8,
    soh_pct float8,
    energy_in_mwh float8,
    energy_out_mwh float8,
    available_charge_mw float8,
    available_discharge_mw float8,
    setpoint_mw float8,
    asset int4 not null,
    -- Tells apart those of one time.
    tie int2 not null,
    status int2,
    -- Null: good.
    quality int2,
    -- Null: the site of its asset in `assets`.
    site_id uuid,
    -- Null: empty.
    details jsonb
) @partitioned at@;
-- Read backwards. Falling times would leave its pages half empty.
create index telemetry_asset_at on telemetry (asset, at);

-- Where the logs of agents continue: every number below `next_seq` is settled.
create table log_cursors (
    agent_id uuid not null,
    -- 0 telemetry, 1 reports.
    kind int2 not null,
    log_id uuid not null,
    next_seq int8 not null,
    -- Where it stood before it was moved last.
    previous_seq int8 not null,
    primary key (agent_id, kind, log_id)
) with (fillfactor = 50);

-- Numbers that agents have lost for good; both ends included.
create table gaps (
    id int8 generated always as identity primary key,
    agent_id uuid not null,
    log_id uuid not null,
    first_seq int8 not null,
    last_seq int8 not null,
    reason int2 not null,
    stored_at timestamptz not null
);
create index gaps_agent on gaps (agent_id, id);
create index gaps_stored_at on gaps (stored_at);

create table agents (
    id uuid primary key,
    -- The newest epoch given.
    epoch int8 not null,
    -- The newest epoch that is over.
    ended_epoch int8 not null
);

create table sessions (
    agent_id uuid not null,
    epoch int8 not null,
    instance_id uuid not null,
    peer text,
    agent_version text,
    -- An array of UUIDs.
    assets jsonb not null,
    connected_at timestamptz not null,
    -- Null: it lives.
    disconnected_at timestamptz,
    cause text,
    text text,
    primary key (agent_id, epoch)
);
create index sessions_connected_at on sessions (connected_at, agent_id, epoch);
create index sessions_disconnected_at on sessions (disconnected_at);

create table heartbeats (
    asset int4 not null,
    received_at timestamptz not null,
    agent_id uuid not null,
    epoch int8 not null,
    agent_time timestamptz,
    uptime_s float8,
    outbox_depth int8 not null,
    dropped_samples int8 not null,
    availability int2 not null,
    control int2 not null,
    control_mw float8,
    read_errors int8 not null,
    primary key (asset, received_at, agent_id, epoch)
) @partitioned received_at@;

create table revisions (
    asset_id uuid primary key,
    -- The highest ever given.
    revision int8 not null
);

-- Orders. A site order has no asset, and its status and doubt are those of its children.
create table dispatches (
    id uuid primary key,
    parent_id uuid,
    asset_id uuid,
    site_id uuid not null,
    mw float8 not null,
    duration_s float8,
    ttl_s float8 not null,
    revision int8,
    status int2 not null,
    in_doubt boolean not null,
    reason text,
    text text,
    applied_mw float8,
    created_at timestamptz not null,
    expires_at timestamptz not null,
    -- Null: it has not ended. Site orders never have one.
    ended_at timestamptz,
    principal text,
    -- Of a site order.
    split jsonb,
    carrier_agent uuid,
    carrier_instance uuid,
    carrier_log uuid,
    carrier_epoch int8
);
create index dispatches_roots on dispatches (created_at, id) where parent_id is null;
create index dispatches_site on dispatches (site_id, created_at, id) where parent_id is null;
create index dispatches_asset on dispatches (asset_id, created_at, id) where asset_id is not null;
create index dispatches_parent on dispatches (parent_id) where parent_id is not null;
create index dispatches_open on dispatches (asset_id) where ended_at is null and asset_id is not null;
create index dispatches_carried on dispatches (carrier_agent, carrier_epoch) where ended_at is null and carrier_agent is not null;

-- Every step in the life of an order, oldest first.
create table transitions (
    dispatch_id uuid not null,
    step int4 not null,
    status int2 not null,
    at timestamptz not null,
    reported_at timestamptz,
    reason text,
    text text,
    applied_mw float8,
    epoch int8,
    primary key (dispatch_id, step)
);

-- A client's key lives as long as its order.
create table idempotency_keys (
    key text primary key,
    fingerprint text not null,
    dispatch_id uuid not null unique
);

-- What agents reported beside the steps of orders: events, contradictions, and steps of orders
-- that are not known, as received.
create table reports (
    id int8 generated always as identity primary key,
    agent_id uuid not null,
    log_id uuid not null,
    seq int8 not null,
    epoch int8 not null,
    asset_id uuid not null,
    -- When it happened, on the headend's clock as the agent estimates it.
    at timestamptz not null,
    received_at timestamptz not null,
    -- event, contradiction, unknown_dispatch or unknown.
    kind text not null,
    severity text,
    code text,
    text text,
    dispatch_id uuid,
    revision int8,
    -- The status that was reported.
    status int2,
    reason text,
    applied_mw float8
);
create index reports_asset on reports (asset_id, at);
create index reports_received_at on reports (received_at);
