-- The server and the database as a whole. Rights: any login.
-- Columns that not every version has are read through to_jsonb.
select current_setting('server_version_num')::int4 as version_num,
       d.datname::text as database,
       current_user::text as role,
       pg_catalog.pg_encoding_to_char(d.encoding)::text as encoding,
       current_setting('lc_monetary') as lc_monetary,
       coalesce(to_jsonb(d) ->> 'datlocprovider', 'c') as provider,
       d.datcollate::text as collate,
       coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale') as locale
  from pg_catalog.pg_database d
 where d.datname = current_database()
