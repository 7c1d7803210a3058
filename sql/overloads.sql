-- Whether anybody has defined an operator, aggregate or cast that could be meant where we mean
-- pg_catalog's: of a name that we compute, over a built-in type, an enum or a domain. (citext's `=` is
-- over its own type alone and is none of them.) Rights: any login.
select
  exists (
    select
      from pg_catalog.pg_operator as o
      join pg_catalog.pg_type as t on t.oid in (o.oprleft, o.oprright)
     where o.oid >= 16384 and o.oprname in ('=', '<>', '<', '<=', '>', '>=')
       and (t.oid < 16384 or t.typtype in ('e', 'd')))
  or exists (
    select
      from pg_catalog.pg_proc as p
     where p.oid >= 16384 and p.proname in ('count', 'min', 'max', 'sum')
       and (p.pronargs = 0
            or exists (select
                         from pg_catalog.pg_type as t
                        where t.oid = any (p.proargtypes) and (t.oid < 16384 or t.typtype in ('e', 'd')))))
  or exists (
    select
      from pg_catalog.pg_cast as c
     where c.oid >= 16384 and c.castcontext = 'i'
       and c.castsource < 16384 and c.casttarget < 16384) as overloaded
