-- Who asked for the end of an order, and the release that ends it at its agent.
alter table dispatches add column cancel_requested_at timestamptz;
alter table dispatches add column cancelled_by text;
-- Null: none was given.
alter table dispatches add column release_revision int8;
