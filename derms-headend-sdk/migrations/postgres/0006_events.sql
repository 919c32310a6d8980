-- Alarms and changes of state.
create table events (
    id uuid primary key,
    -- When it happened, by the headend's clock; never after received_at.
    at timestamptz not null,
    received_at timestamptz not null,
    asset_id uuid,
    site_id uuid,
    agent_id uuid,
    severity int2 not null,
    code text not null,
    text text not null,
    source int2 not null,
    acknowledged_at timestamptz,
    acknowledged_by text,
    note text
);
create index events_at on events (at, id);
create index events_asset on events (asset_id, at, id);
create index events_open on events (at, id) where acknowledged_at is null;

-- Until now they lay among the reports.
insert into events (id, at, received_at, asset_id, agent_id, severity, code, text, source)
    select gen_random_uuid(), least(at, received_at), received_at, asset_id, agent_id,
        case severity when 'info' then 0 when 'warning' then 1 when 'alarm' then 2 else 3 end,
        coalesce(code, ''), coalesce(text, ''), 0
    from reports where kind = 'event';
delete from reports where kind = 'event';
alter table reports drop column severity;
