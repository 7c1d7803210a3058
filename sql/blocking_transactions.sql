-- Which transactions a waiting slot creation ($1, its process id) waits for, and which sessions wait for
-- the locks of our copy ($2, process ids). Rights: none; pg_read_all_stats shows state and query too.
select 'transaction' as kind,
       a.pid::text as id,
       coalesce(a.usename::text, '') as role,
       coalesce(a.state, 'unknown') as state,
       coalesce(extract(epoch from now() - a.xact_start), 0)::int8 as age_s,
       coalesce(left(a.query, 120), '') as query
from pg_locks w
join pg_locks h on h.locktype = 'transactionid' and h.transactionid = w.transactionid and h.granted
join pg_stat_activity a on a.pid = h.pid
where w.pid = $1 and w.locktype = 'transactionid' and not w.granted
union all
select 'prepared transaction',
       p.gid,
       p.owner::text,
       'prepared',
       coalesce(extract(epoch from now() - p.prepared), 0)::int8,
       ''
from pg_locks w
join pg_prepared_xacts p on p.transaction = w.transactionid
where w.pid = $1 and w.locktype = 'transactionid' and not w.granted
union all
select 'waiting for us',
       w.pid::text,
       '',
       'waiting',
       0,
       ''
from pg_locks w
where not w.granted and w.locktype = 'relation' and pg_blocking_pids(w.pid) && $2
