-- Whether we may create a publication here, and which of these tables ($1: oid[]) we own; the
-- ordinary columns of each. Rights: any login.
select c.oid,
       pg_catalog.has_database_privilege(current_database(), 'create') as may_create,
       pg_catalog.pg_has_role(c.relowner, 'usage') as owned,
       array(
         select a.attname::text from pg_catalog.pg_attribute a
          where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
          order by a.attnum
       ) as ordinary
  from pg_catalog.pg_class c
 where c.oid = any ($1::oid[])
