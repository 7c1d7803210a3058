-- The chosen relations ($1: oid[]), one row each. Rights: any login; the privileges asked for are
-- those of the role that asks.
select c.oid,
       n.nspname::text as schema,
       c.relname::text as name,
       c.relkind as kind,
       c.relpersistence as persistence,
       c.relreplident as identity,
       c.relfilenode as filenode,
       coalesce(am.amname = 'heap', true) as heap,
       case when c.relispartition then pg_catalog.pg_partition_root(c.oid)::oid end as root,
       not c.relispartition and c.relkind = 'r' and exists (
         select from pg_catalog.pg_inherits i where i.inhparent = c.oid or i.inhrelid = c.oid
       ) as inherits,
       pg_catalog.row_security_active(c.oid) as filtered,
       pg_catalog.has_schema_privilege(n.oid, 'usage') as usage,
       pg_catalog.has_table_privilege(c.oid, 'select') as readable
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  left join pg_catalog.pg_am am on am.oid = c.relam
 where c.oid = any ($1::oid[])
