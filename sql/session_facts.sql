-- What answers depend on besides their SQL, and how far the log is: one row for each schema of the effective search path, in its order.
-- Runs on each client's own connection, as the client's role, also within its READ COMMITTED transactions; needs no right that PUBLIC doesn't have.
-- Every name is qualified, so that no search_path can put something else in its place.
select
    current_user,
    pg_catalog.current_setting('TimeZone'),
    pg_catalog.current_setting('DateStyle'),
    pg_catalog.current_setting('IntervalStyle'),
    pg_catalog.current_setting('extra_float_digits'),
    pg_catalog.current_setting('bytea_output'),
    pg_catalog.current_setting('lc_monetary'),
    pg_catalog.current_setting('client_encoding'),
    pg_catalog.current_setting('default_transaction_isolation'),
    pg_catalog.current_setting('standard_conforming_strings'),
    pg_catalog.current_setting('transform_null_equals'),
    coalesce(pg_catalog.current_setting('millpond.route', true), ''),
    pg_catalog.current_setting('synchronous_commit'),
    pg_catalog.pg_current_wal_flush_lsn(),
    pg_catalog.pg_current_wal_insert_lsn(),
    pg_catalog.current_setting('transaction_isolation'),
    pg_catalog.pg_current_xact_id_if_assigned() is not null,
    pg_catalog.current_setting('statement_timeout'),
    pg_catalog.current_setting('idle_in_transaction_session_timeout'),
    coalesce(pg_catalog.current_setting('transaction_timeout', true), '0'),
    path.name
from pg_catalog.unnest(pg_catalog.current_schemas(true)) with ordinality as path (name, position)
order by path.position
