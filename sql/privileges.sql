-- For every role, which of these tables ($1: oid[]) it may read whole: USAGE on the schema, SELECT
-- on the table, and no row security, whose outcome depends on more than the role. Column grants do
-- not count. Rights: any login.
select r.rolname::text as role, array_agg(c.oid) as tables
  from pg_catalog.pg_class c
 cross join pg_catalog.pg_roles r
 where c.oid = any ($1::oid[])
   and not c.relrowsecurity
   and pg_catalog.has_schema_privilege(r.oid, c.relnamespace, 'usage')
   and pg_catalog.has_table_privilege(r.oid, c.oid, 'select')
 group by r.rolname
