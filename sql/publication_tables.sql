-- What a publication ($1: name) holds: the tables that it delivers, and those that it names.
-- Rights: any login. On 14 there are neither column lists nor row filters.
with delivered as (
  select c.oid, to_jsonb(t) ->> 'rowfilter' as filter,
         case when to_jsonb(t) ? 'attnames' then array(
           select jsonb_array_elements_text(nullif(to_jsonb(t) -> 'attnames', 'null'))
         ) end as columns
    from pg_catalog.pg_publication_tables t
    join pg_catalog.pg_namespace n on n.nspname = t.schemaname
    join pg_catalog.pg_class c on c.relname = t.tablename and c.relnamespace = n.oid
   where t.pubname = $1
), named as (
  select r.prrelid as oid, r.oid || '.' || r.xmin::text as stamp
    from pg_catalog.pg_publication_rel r
    join pg_catalog.pg_publication p on p.oid = r.prpubid
   where p.pubname = $1
)
select c.oid,
       n.nspname::text as schema,
       c.relname::text as name,
       d.oid is not null as delivered,
       d.filter is not null as filtered,
       d.columns,
       array(
         select a.attname::text from pg_catalog.pg_attribute a
          where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
          order by a.attnum
       ) as ordinary,
       m.oid is not null as named,
       coalesce(m.stamp, '') as stamp
  from delivered d
  full join named m on m.oid = d.oid
  join pg_catalog.pg_class c on c.oid = coalesce(d.oid, m.oid)
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 order by n.nspname, c.relname
