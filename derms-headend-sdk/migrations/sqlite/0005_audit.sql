-- Who did what. Rows are added and, when their time is over, forgotten; none is ever changed.
create table audit (
    id blob primary key,
    at integer not null,
    principal text,
    peer text,
    action text not null,
    target text,
    status integer,
    code text,
    detail text
) strict, without rowid;
create index audit_at on audit (at, id);

create trigger audit_is_append_only before update on audit begin
    select raise(abort, 'the audit trail is append-only');
end;
