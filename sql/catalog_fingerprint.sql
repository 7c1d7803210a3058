-- One text that changes whenever anything that the catalogue is read from may have changed: asked
-- every second, so it hashes and never sorts. Rights: any login.
--
-- User objects only (oids from 16384): nothing else changes without an upgrade. Temporary tables
-- come and go with the application's sessions and are left out. Of pg_class and pg_index the columns
-- that count are hashed and not xmin, so that TRUNCATE, VACUUM FULL and the like are quiet; partitions'
-- filenodes count, because the truncation of a partition is not in the stream.
select jsonb_build_array(
  current_database(), current_setting('server_version_num'), current_setting('lc_monetary'),
  (select bit_xor(pg_catalog.hash_record_extended(row(
            c.oid, c.relname, c.relnamespace, c.relkind, c.relowner, c.relacl, c.relam,
            c.relpersistence, c.relreplident, c.relrowsecurity, c.relforcerowsecurity,
            c.relispartition, case when c.relispartition then c.relfilenode end), 0))
     from pg_catalog.pg_class c
    where c.oid >= 16384 and c.relpersistence <> 't' and c.relkind <> 't'),
  (select bit_xor(pg_catalog.hash_record_extended(row(a.attrelid, a.attnum, a.xmin), 0))
     from pg_catalog.pg_attribute a
    where a.attrelid >= 16384 and a.attnum > 0
      and a.attrelid in (select c.oid from pg_catalog.pg_class c
                          where c.oid >= 16384 and c.relpersistence <> 't'
                            and c.relkind in ('r', 'p', 'f', 'v', 'm', 'c'))),
  (select bit_xor(pg_catalog.hash_record_extended(row(
            i.indexrelid, i.indisprimary, i.indisunique, i.indisreplident, i.indimmediate,
            i.indisvalid, i.indisready, i.indislive, i.indnkeyatts, i.indkey::int2[]), 0))
     from pg_catalog.pg_index i
    where i.indrelid in (select c.oid from pg_catalog.pg_class c
                          where c.oid >= 16384 and c.relpersistence <> 't'
                            and c.relkind in ('r', 'p', 'm'))),
  (select bit_xor(pg_catalog.hash_record_extended(row(t.oid, t.xmin), 0))
     from pg_catalog.pg_type t
    where t.oid >= 16384
      and t.typnamespace not in (select n.oid from pg_catalog.pg_namespace n
                                  where n.nspname ~ '^pg_(toast_)?temp_')),
  (select bit_xor(pg_catalog.hash_record_extended(row(e.oid, e.xmin), 0)) from pg_catalog.pg_enum e),
  (select bit_xor(pg_catalog.hash_record_extended(row(r.rngtypid, r.xmin), 0))
     from pg_catalog.pg_range r where r.rngtypid >= 16384),
  (select bit_xor(pg_catalog.hash_record_extended(row(c.oid, c.xmin), 0))
     from pg_catalog.pg_collation c where c.oid >= 16384),
  (select bit_xor(pg_catalog.hash_record_extended(row(n.oid, n.nspname, n.nspowner, n.nspacl), 0))
     from pg_catalog.pg_namespace n where n.nspname !~ '^pg_(toast_)?temp_'),
  (select bit_xor(pg_catalog.hash_record_extended(row(i.inhrelid, i.inhparent, i.xmin), 0))
     from pg_catalog.pg_inherits i),
  (select bit_xor(pg_catalog.hash_record_extended(row(p.oid, p.xmin), 0)) from pg_catalog.pg_policy p),
  (select bit_xor(pg_catalog.hash_record_extended(row(
            r.oid, r.rolname, r.rolsuper, r.rolinherit, r.rolbypassrls, r.rolreplication), 0))
     from pg_catalog.pg_roles r),
  (select bit_xor(pg_catalog.hash_record_extended(row(m.roleid, m.member, m.grantor, m.xmin), 0))
     from pg_catalog.pg_auth_members m),
  (select bit_xor(pg_catalog.hash_record_extended(row(p.oid, p.xmin), 0))
     from pg_catalog.pg_publication p),
  (select bit_xor(pg_catalog.hash_record_extended(row(r.oid, r.xmin), 0))
     from pg_catalog.pg_publication_rel r),
  (select bit_xor(pg_catalog.hash_record_extended(row(o.oid, o.xmin), 0))
     from pg_catalog.pg_operator o where o.oid >= 16384),
  (select bit_xor(pg_catalog.hash_record_extended(row(p.oid, p.xmin), 0))
     from pg_catalog.pg_proc p
    where p.oid >= 16384 and p.proname in ('count', 'min', 'max', 'sum')),
  (select bit_xor(pg_catalog.hash_record_extended(row(c.oid, c.xmin), 0))
     from pg_catalog.pg_cast c where c.oid >= 16384)
)::text as fingerprint
