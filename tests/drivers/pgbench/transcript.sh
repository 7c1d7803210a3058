# pgbench: each protocol, pipelines, its own initialization, and errors.
set -u
PATH=$PATH:$(ls -d /usr/lib/postgresql/*/bin | tail -1)
url=$1
section() { printf '\n=== %s\n' "$*"; }
# Times and versions are no part of what is compared.
result() { sed -E '/^(latency|tps|initial connection|done in|progress|pgbench \()|vacuuming|creating|generating|dropping|^[0-9]+ of [0-9]+ tuples/d; s/[0-9.]+ s\b/<s>/g'; }
cat >read.sql <<'SQL'
\set id random(1, 300)
select name, balance from customer where id = :id;
select id, at from purchase where customer_id = :id order by at desc;
SQL
cat >pipeline.sql <<'SQL'
\set id random(1, 300)
\startpipeline
select name from customer where id = :id;
insert into office.ledger (what, amount) values ('bench ' || gen_random_uuid(), :id);
select title from product where sku = 'sku-001';
select name from customer where id = :id;
\endpipeline
SQL
cat >failing.sql <<'SQL'
\startpipeline
select name from customer where id = 1;
select 1 / 0;
select name from customer where id = 2;
\endpipeline
SQL
cat >got.sql <<'SQL'
select id, balance from customer where id = 42 \gset
select :id + 1 as next \gset
begin;
update customer set balance = balance + 1 where id = :next;
select balance from customer where id = :next \gset now_
end;
SQL
for mode in simple extended prepared; do
    section $mode
    pgbench -n -M $mode -c 2 -t 20 -f read.sql "$url" 2>&1 | result
    pgbench -n -M $mode -c 1 -t 10 -f got.sql "$url" 2>&1 | result
done
for mode in extended prepared; do
    section pipelines, $mode
    pgbench -n -M $mode -c 2 -t 15 -f pipeline.sql "$url" 2>&1 | result
    pgbench -n -M $mode -c 1 -t 1 -f failing.sql "$url" 2>&1 | result
done
section tables of its own
export PGOPTIONS='-c search_path=bench'
psql -XqAtd "$url" -c 'create schema bench' 2>&1
pgbench -i -s 1 -I dtgGvpf -q "$url" 2>&1 | result
pgbench -i -s 1 -I dtgvp -q "$url" 2>&1 | result
for mode in simple extended prepared; do
    pgbench -n -M $mode -c 2 -j 2 -t 25 "$url" 2>&1 | result
    pgbench -n -S -M $mode -c 2 -t 25 "$url" 2>&1 | result
    pgbench -n -N -M $mode -c 2 -t 10 "$url" 2>&1 | result
done
psql -XAtd "$url" -c 'select count(*), count(distinct bid) from pgbench_history' \
    -c 'select (select sum(abalance) from pgbench_accounts) = (select sum(bbalance) from pgbench_branches)' -c 'drop schema bench cascade' 2>&1
unset PGOPTIONS
psql -XAtd "$url" -c "select count(*) from office.ledger where what like 'bench %'" -c 'select balance from customer where id = 43' 2>&1
