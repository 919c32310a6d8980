-- Measurements that come one by one wait in `telemetry_recent`, in the order in which they came,
-- and go to their asset's place in `telemetry` many at a time: to write there costs a page an
-- asset. All of them together are in the view `measurements`. Columns are those of `telemetry`.

create table telemetry_recent (
    -- Segments are numbered in the order of arrival; inside of one rows lie by asset and time.
    segment integer not null,
    asset integer not null,
    at integer not null,
    tie integer not null,
    received_at integer not null,
    measured_at integer,
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
    site_id blob,
    details text,
    primary key (segment, asset, at, tie)
) strict, without rowid;

-- The segments that may hold something.
create table recent_segments (
    id integer primary key
) strict;

create view measurements as
    select asset, at, tie, received_at, measured_at, quality, status, mw, mvar, voltage_v,
        frequency_hz, current_a, soc_pct, soh_pct, energy_in_mwh, energy_out_mwh,
        available_charge_mw, available_discharge_mw, setpoint_mw, site_id, details
    from telemetry
    union all
    select asset, at, tie, received_at, measured_at, quality, status, mw, mvar, voltage_v,
        frequency_hz, current_a, soc_pct, soh_pct, energy_in_mwh, energy_out_mwh,
        available_charge_mw, available_discharge_mw, setpoint_mw, site_id, details
    from recent_segments s cross join telemetry_recent r on r.segment = s.id;
