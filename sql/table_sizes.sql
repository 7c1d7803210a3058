-- Sizes of the tables $1 (their partitions added), for cutting the copy into ranges and for progress.
-- Rights: none beyond connecting.
select
    t.oid as table_oid,
    coalesce(sum(c.relpages::bigint), 0)::bigint as pages,
    coalesce(sum(pg_catalog.pg_table_size(c.oid)), 0)::bigint as bytes
from unnest($1::oid[]) as t (oid)
left join lateral (
    select p.relid from pg_catalog.pg_partition_tree(t.oid) as p where p.isleaf
    union
    select t.oid
) as part on true
left join pg_catalog.pg_class as c on c.oid = part.relid
group by t.oid;
