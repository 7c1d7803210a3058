-- Types ($1: oid[]), the types they are made of, and the array types of all these.
-- Rights: any login.
with recursive part (oid) as (
  select unnest($1::oid[])
  union
  select p.oid
    from part
    join pg_catalog.pg_type t on t.oid = part.oid
   cross join lateral (
     select t.typbasetype where t.typtype = 'd'
     union all
     select t.typelem where t.typsubscript = 'pg_catalog.array_subscript_handler'::regproc
     union all
     select r.rngsubtype from pg_catalog.pg_range r where t.oid in (r.rngtypid, r.rngmultitypid)
     union all
     select a.atttypid from pg_catalog.pg_attribute a
      where t.typtype = 'c' and a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
   ) as p (oid)
), needed (oid) as (
  select oid from part
  union
  select t.typarray from pg_catalog.pg_type t join part on part.oid = t.oid where t.typarray <> 0
)
select t.oid,
       t.typname::text as name,
       t.typlen as len,
       t.typtype as kind,
       t.typbasetype as base,
       t.typtypmod as typmod,
       case when t.typsubscript = 'pg_catalog.array_subscript_handler'::regproc
            then t.typelem else 0::oid end as element,
       coalesce(e.typdelim, ',') as delimiter,
       coalesce(r.rngsubtype, 0::oid) as subtype,
       case when t.typtype = 'c' then array(
         select a.atttypid from pg_catalog.pg_attribute a
          where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped order by a.attnum
       ) else '{}' end as field_types,
       case when t.typtype = 'c' then array(
         select a.attnum from pg_catalog.pg_attribute a
          where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped order by a.attnum
       ) else '{}' end as field_numbers,
       case when t.typtype = 'e' then array(
         select l.enumlabel::text from pg_catalog.pg_enum l
          where l.enumtypid = t.oid order by l.enumsortorder
       ) else '{}' end as labels,
       case when t.typtype = 'e' then array(
         select l.oid from pg_catalog.pg_enum l
          where l.enumtypid = t.oid order by l.enumsortorder
       ) else '{}' end as label_oids
  from needed
  join pg_catalog.pg_type t on t.oid = needed.oid
  left join pg_catalog.pg_type e on e.oid = t.typelem
  left join pg_catalog.pg_range r on t.oid in (r.rngtypid, r.rngmultitypid)
