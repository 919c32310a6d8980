-- Of a share: later shares of its site order have taken its place in full.
alter table dispatches add column replaced integer not null default 0;
