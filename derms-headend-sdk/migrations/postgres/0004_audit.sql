-- Who did what. Rows are added and, when their time is over, forgotten; none is ever changed.
create table audit (
    id uuid primary key,
    at timestamptz not null,
    principal text,
    peer text,
    action text not null,
    target text,
    status int2,
    code text,
    detail text
);
create index audit_at on audit (at, id);

create function audit_is_append_only() returns trigger language plpgsql as $$
begin
    raise exception 'the audit trail is append-only';
end
$$;
create trigger audit_is_append_only before update on audit
    for each row execute function audit_is_append_only();
