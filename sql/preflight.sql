-- What the server must offer, in one row ($1: name of our slot). Rights: any login.
select current_setting('server_version_num')::int4 as version_num,
       current_setting('server_version') as version,
       current_user::text as role,
       pg_catalog.pg_is_in_recovery() as in_recovery,
       current_setting('wal_level') as wal_level,
       current_setting('max_replication_slots')::int4 as max_slots,
       (select count(*)::int4 from pg_catalog.pg_replication_slots s where s.slot_name <> $1) as used_slots,
       current_setting('max_wal_senders')::int4 as max_senders,
       (select count(*)::int4 from pg_catalog.pg_stat_activity a where a.backend_type = 'walsender') as used_senders,
       r.rolsuper or r.rolreplication or exists (
         -- Amazon RDS grants replication through a role instead of the attribute.
         select from pg_catalog.pg_roles g
          where g.rolname = 'rds_replication' and pg_catalog.pg_has_role(g.oid, 'member')
       ) as may_replicate,
       -- Since 14.24, 15.19, 16.15, 17.11 and 18.6, and for pg_read_all_settings only: current_setting()
       -- would refuse everybody else. Unknown to us, the creation of the slot says what is wrong.
       (select s.setting from pg_catalog.pg_settings s where s.name = 'output_plugin_libraries') as output_plugins,
       current_setting('max_slot_wal_keep_size') as slot_limit,
       pg_catalog.pg_encoding_to_char(d.encoding)::text as encoding
  from pg_catalog.pg_roles r, pg_catalog.pg_database d
 where r.rolname = current_user
   and d.datname = current_database()
