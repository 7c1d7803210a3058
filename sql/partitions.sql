-- What lies under partitioned roots ($1: oid[]): every partition with how its rows are named in the
-- stream, and a stamp that changes when it is attached, detached, truncated or rewritten.
-- Rights: any login.
select r.root,
       t.isleaf as leaf,
       n.nspname::text as schema,
       c.relname::text as name,
       c.relkind as kind,
       c.relpersistence as persistence,
       c.relreplident as identity,
       coalesce(am.amname = 'heap', true) as heap,
       coalesce((
         select array_agg(a.attname::text order by a.attname)
           from pg_catalog.pg_index i
          cross join lateral unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) as k (attnum)
           join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
          where i.indrelid = c.oid and i.indisvalid and i.indimmediate
            and case c.relreplident when 'd' then i.indisprimary when 'i' then i.indisreplident end
       ), '{}') as key,
       c.oid || ':' || t.parentrelid::oid || ':' || c.relfilenode || ':' || coalesce((
         select i.xmin::text from pg_catalog.pg_inherits i
          where i.inhrelid = c.oid and i.inhparent = t.parentrelid
       ), '') as stamp
  from unnest($1::oid[]) as r (root)
 cross join lateral pg_catalog.pg_partition_tree(r.root) t
  join pg_catalog.pg_class c on c.oid = t.relid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  left join pg_catalog.pg_am am on am.oid = c.relam
 where t.relid <> r.root
 order by r.root, c.oid
