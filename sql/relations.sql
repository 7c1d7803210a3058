-- Every relation that a name could mean, temporary and TOAST tables excepted. Rights: any login.
select n.nspname::text as schema, c.relname::text as name, c.oid, c.relkind as kind
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where c.relpersistence <> 't'
   and c.relkind <> 't'
   and n.nspname !~ '^pg_(toast_)?temp_'
