-- Of a share: later shares of its site order have taken its place in full.
alter table dispatches add column replaced boolean not null default false;
