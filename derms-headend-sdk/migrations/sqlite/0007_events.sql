-- Alarms and changes of state.
create table events (
    id blob primary key,
    -- When it happened, by the headend's clock; never after received_at.
    at integer not null,
    received_at integer not null,
    asset_id blob,
    site_id blob,
    agent_id blob,
    severity integer not null,
    code text not null,
    text text not null,
    source integer not null,
    acknowledged_at integer,
    acknowledged_by text,
    note text
) strict, without rowid;
create index events_at on events (at, id);
create index events_asset on events (asset_id, at, id);
create index events_open on events (at, id) where acknowledged_at is null;

-- Until now they lay among the reports.
insert into events (id, at, received_at, asset_id, agent_id, severity, code, text, source)
    select randomblob(16), min(at, received_at), received_at, asset_id, agent_id,
        case severity when 'info' then 0 when 'warning' then 1 when 'alarm' then 2 else 3 end,
        coalesce(code, ''), coalesce(text, ''), 0
    from reports where kind = 'event';
delete from reports where kind = 'event';
alter table reports drop column severity;
