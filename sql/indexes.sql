-- Indexes of tables ($1: oid[]); the primary key first. Rights: any login.
select i.indrelid as table,
       c.relname::text as name,
       am.amname::text as method,
       i.indisprimary as "primary",
       i.indisunique as "unique",
       i.indisreplident as chosen,
       i.indimmediate as immediate,
       i.indisvalid and i.indislive and i.indisready as usable,
       i.indpred is not null or i.indexprs is not null as partial,
       (i.indkey::int2[])[0:i.indnkeyatts - 1] as keys
  from pg_catalog.pg_index i
  join pg_catalog.pg_class c on c.oid = i.indexrelid
  join pg_catalog.pg_am am on am.oid = c.relam
 where i.indrelid = any ($1::oid[])
 order by i.indrelid, i.indisprimary desc, c.relname
