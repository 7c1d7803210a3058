-- Where the primary's log is, and how much of it slot $1 keeps from being removed.
-- Rights: none beyond connecting.
select
    pg_catalog.pg_current_wal_flush_lsn()::text,
    (
        select pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_flush_lsn(), s.restart_lsn)::bigint
        from pg_catalog.pg_replication_slots as s
        where s.slot_name = $1::text
    );
