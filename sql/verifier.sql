-- For auth.method = "verifier": what Millpond needs to admit clients as the primary would, by a function,
-- as only superusers can read the verifiers of passwords themselves. Rights: a superuser, in the
-- database that is cached.
--
-- Replace <role> by the role of primary.url:
--
--   psql -d app -f verifier.sql

create schema if not exists millpond;
revoke all on schema millpond from public;

-- One row for a role that exists. `verifier` is null where the password is none that SCRAM can check or
-- has expired; `refusal` says what the primary would refuse after the password: nologin, database,
-- closed (to connections) or connect (no privilege). Where connections are limited in number, only the primary can count them.
-- `definitions` is what sql/session_key.sql of Millpond reads in its first column.
create or replace function millpond.verifier(
    in role_name text, in database_name text,
    out verifier text, out refusal text, out limited boolean, out definitions text, out flushed pg_lsn)
returns setof record
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
    select
        case when a.rolpassword like 'SCRAM-SHA-256$%' and (a.rolvaliduntil is null or a.rolvaliduntil > clock_timestamp())
            then a.rolpassword end,
        case
            when not a.rolcanlogin then 'nologin'
            when d.oid is null then 'database'
            when not d.datallowconn then 'closed'
            when not has_database_privilege(a.oid, d.oid, 'connect') then 'connect'
        end,
        not a.rolsuper and (a.rolconnlimit >= 0 or d.datconnlimit >= 0),
        concat_ws(' ', a.oid, (
            select md5(string_agg(concat_ws(' ', s.setdatabase, s.setrole, s.xmin, s.setconfig), ' ' order by s.setdatabase, s.setrole))
            from pg_db_role_setting s
            where s.setdatabase in (0, d.oid) and s.setrole in (0, a.oid))),
        pg_current_wal_flush_lsn()
    from pg_authid a
    left join pg_database d on d.datname = database_name
    where a.rolname = role_name
$$;

revoke all on function millpond.verifier(text, text) from public;
grant usage on schema millpond to <role>;
grant execute on function millpond.verifier(text, text) to <role>;
