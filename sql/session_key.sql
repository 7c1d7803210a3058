-- Stands for everything that a login took from role and database, so that sessions share a connection
-- only if they would have got the same: two texts, the definitions and what came of them.
-- Runs once on each connection in a client's name, right after its login; needs no right that PUBLIC
-- doesn't have. Names and operators are qualified, so that no search_path can put something else in
-- their place.
--
-- Definitions: the role itself (another one can have its name later) and the rows of ALTER ROLE .. SET and
-- ALTER DATABASE .. SET, with their xmin, as one that was set back is not the same. What came of them:
-- the settings that are not the server's own. Those follow the server's configuration in all sessions at
-- once. Settings of applications, which pg_settings does not show, are read one by one.
select
    pg_catalog.concat_ws(' ', r.oid, (
        select pg_catalog.md5(pg_catalog.string_agg(
            pg_catalog.concat_ws(' ', s.setdatabase, s.setrole, s.xmin, s.setconfig), ' ' order by s.setdatabase, s.setrole))
        from pg_catalog.pg_db_role_setting s
        where s.setdatabase operator(pg_catalog.=) any (array[0::pg_catalog.oid, d.oid])
            and s.setrole operator(pg_catalog.=) any (array[0::pg_catalog.oid, r.oid])
    )),
    pg_catalog.concat_ws(' ', (
        select pg_catalog.md5(pg_catalog.string_agg(pg_catalog.concat_ws('=', s.name, s.setting), ' ' order by s.name))
        from pg_catalog.pg_settings s
        where s.source operator(pg_catalog.=) any (array['database', 'user', 'database user', 'client', 'session'])
    ), (
        select pg_catalog.md5(pg_catalog.string_agg(
            pg_catalog.concat_ws('=', n.name, pg_catalog.current_setting(n.name, true)), ' ' order by n.name))
        from pg_catalog.pg_db_role_setting s
        cross join pg_catalog.unnest(s.setconfig) as c (line)
        cross join pg_catalog.split_part(c.line, '=', 1) as n (name)
        where s.setdatabase operator(pg_catalog.=) any (array[0::pg_catalog.oid, d.oid])
            and s.setrole operator(pg_catalog.=) any (array[0::pg_catalog.oid, r.oid])
            and pg_catalog.strpos(n.name, '.') operator(pg_catalog.>) 0
    ))
from pg_catalog.pg_roles r
join pg_catalog.pg_database d on d.datname operator(pg_catalog.=) pg_catalog.current_database()
where r.rolname operator(pg_catalog.=) session_user
