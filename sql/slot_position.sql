-- From where slot $1 will send; NULL or no row when it can't send any more. Rights: none beyond connecting.
select s.confirmed_flush_lsn::text
  from pg_catalog.pg_replication_slots as s
 where s.slot_name = $1::text
   and coalesce(s.wal_status, 'lost') <> 'lost';
