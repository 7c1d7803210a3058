-- Live columns of tables ($1: oid[]), in order. Rights: any login.
-- A NOT NULL constraint that is not yet validated (18) sets attnotnull over rows that hold NULLs.
select a.attrelid as table,
       a.attnum as number,
       a.attname::text as name,
       a.atttypid as type,
       a.atttypmod as typmod,
       a.attnotnull and not exists (
         select from pg_catalog.pg_constraint k
          where k.conrelid = a.attrelid and k.contype = 'n' and not k.convalidated
            and k.conkey = array[a.attnum]
       ) as not_null,
       a.attcollation as collation,
       a.attgenerated <> '' as generated,
       a.xmin::text as stamp
  from pg_catalog.pg_attribute a
 where a.attrelid = any ($1::oid[])
   and a.attnum > 0
   and not a.attisdropped
 order by a.attrelid, a.attnum
