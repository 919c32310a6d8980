-- Of a share: later shares of its site order have taken its place in full.
alter table dispatches add column replaced integer not null default 0;

-- The client's key under which it was set, and what was asked; null: without one.
alter table limits add column idempotency_key text;
alter table limits add column fingerprint text;
create unique index limits_key on limits (idempotency_key);
alter table stops add column idempotency_key text;
alter table stops add column fingerprint text;
create unique index stops_key on stops (idempotency_key);
