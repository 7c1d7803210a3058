-- Collations ($1: oid[]). Rights: any login.
-- The name of the locale has been in three columns: collcollate, colliculocale (15), colllocale (17).
select c.oid,
       c.collprovider as provider,
       c.collcollate::text as collate,
       coalesce(to_jsonb(c) ->> 'colllocale', to_jsonb(c) ->> 'colliculocale') as locale,
       c.collisdeterministic as deterministic
  from pg_catalog.pg_collation c
 where c.oid = any ($1::oid[])
