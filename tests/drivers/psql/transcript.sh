# psql as people use it: what it describes, completes, copies and prints.
set -u
psql="psql -X -q -d $1"
export PAGER=cat PSQL_HISTORY=/dev/null PSQLRC=/dev/null

section() { printf '\n=== %s\n' "$*"; }

section every backslash command
for command in '\d' '\d customer' '\d+ customer' '\d+ purchase' '\d product' '\d every_type' '\d office.ledger' '\d+ office.measure' \
    '\d office.measure_2024' '\d office.good_customers' '\d+ office.totals' '\d customer_name' '\d office.ledger_id_seq' '\d nowhere' \
    '\dt' '\dt+' '\dt office.*' '\dt *.measure*' '\di+' '\dv office.*' '\dm office.*' '\ds *.*_seq' '\dE' '\df office.*' '\df+ office.add' \
    '\dfp' '\dft office.*' '\da sum' '\dn' '\dn+' '\du' '\dg+ app' '\dp' '\dp office.*' '\z customer' '\ddp' '\l' '\l shop' '\dT' '\dT+' \
    '\dT office.*' '\dD office.*' '\dx' '\dx+' '\dy' '\dL' '\dC int4' '\do ||' '\dO office.*' '\dP office.*' '\dPt+ office.*' '\drds' '\dRp' \
    '\dRs' '\des' '\dew' '\deu' '\det' '\dF' '\dFd' '\dFp' '\dFt' '\dA' '\dAc btree int4' '\dAf gin' '\dAo gin jsonb_ops' '\dAp btree integer_ops' '\db' '\dc office.*' '\dd' '\dX' '\dl' \
    '\dconfig work_mem' '\sf office.add' '\sf+ office.shout' '\sv office.good_customers' '\encoding' '\conninfo' '\password nobody_here' \
    '\drg' '\dconfig *isolation*'; do
    section "$command"
    # Sizes on disk may differ between two runs of the same statements.
    $psql -c "$command" 2>&1 </dev/null | sed -E 's/ +[0-9]+ (bytes|kB|MB) +/ <size> /g'
done

section everything psql does with a query
$psql -a --set VERBOSITY=verbose <<'SQL' 2>&1 | sed -E 's/^.*\(every [0-9.]+s\)/<time> (watched)/; s/(process with PID) [0-9]+/\1 <pid>/'
select id, name, balance from customer where id = 7;
\gx
select * from customer where id in (3, 4, 5) order by id;
select id, name from customer order by id limit 5 \gdesc
select $1::int + 1 as n, 'x'::varchar(5) \gdesc
select * from every_type order by id;
\x
select * from every_type order by id;
\x
select id, kind from (select 1) x
;
select * from customer where id = 'seven';
select nothing from customer;
select id from customer where;
select 1/0;
insert into product values ('x', null, 1, null, null, 'book');
insert into purchase values (1, 1, 'sku-001', 1, now(), null);
insert into purchase values (90001, 99999, 'sku-001', 1, now(), null);
insert into product values ('x', 'x', -1, null, null, 'book');
select 'x'::kind;
select office.fails();
select office.shout('hello');
select office.add(1, 2), office.add(40, 2);
call office.book('booked', 12.5);
table office.ledger limit 3;
values (1, 'a'), (2, null);
\pset null '(null)'
select id, email from customer where id in (10, 11) order by id;
select id, email from customer where id = 10 \g (format=csv tuples_only=on)
\set id 12
select name from customer where id = :id;
select name from customer where name = :'HOST' or id = 13;
select id as one, name as two from customer where id = 14 \gset
\echo :one :two
select 'select id, name from customer where id = ' || n from generate_series(20, 22) n \gexec
select kind, active, count(*) from product, customer where id < 20 group by 1, 2 order by 1, 2 \crosstabview
\set FETCH_COUNT 7
select id, name from customer order by id limit 20;
select id from purchase where customer_id = 17 order by at desc;
select 1/(id - 10) from customer order by id;
\unset FETCH_COUNT
select nextval('office.tickets') as ticket, 1 / (103 - nextval('office.tickets')) as left \watch 0.05
\copy (select id, name, email from customer order by id limit 4) to stdout
\copy (select * from product order by sku limit 3) to stdout with (format csv, header)
\copy office.ledger (what, amount) from stdin
copied one	1.5
copied two	2.5
\.
\copy office.ledger (what, amount) from stdin with (format csv)
bad,row,here
\.
select what, amount from office.ledger where id > 40 order by id;
-- Without ORDER BY the rows may come in any order.
copy (select * from customer order by id) to stdout with (format csv);
copy (select id from customer where id < 4) to stdout (format binary) \g binary.out
\! md5sum < binary.out
begin;
update customer set name = 'renamed' where id = 7;
select name from customer where id = 7;
savepoint a;
select 1/0;
select name from customer where id = 7;
rollback to a;
select name from customer where id = 7;
release a;
rollback;
select name from customer where id = 7;
\set ON_ERROR_ROLLBACK on
begin;
insert into office.ledger (what) values ('kept');
select nonsense;
select what from office.ledger where what = 'kept';
commit;
\set ON_ERROR_ROLLBACK off
\set AUTOCOMMIT off
update customer set balance = balance + 1 where id = 8 returning id, balance;
select balance from customer where id = 8;
rollback;
select balance from customer where id = 8;
commit;
\set AUTOCOMMIT on
begin isolation level repeatable read read only;
select count(*) from customer;
select id from customer where id = 9;
update customer set name = 'x';
commit;
prepare by_id(int) as select id, name from customer where id = $1;
execute by_id(40);
execute by_id('x');
deallocate by_id;
execute by_id(41);
declare c cursor for select 1;
begin;
declare c scroll cursor for select id, name from customer order by id;
fetch 3 from c;
move 5 in c;
fetch backward 2 from c;
fetch absolute 100 from c;
close c;
commit;
begin;
declare h cursor with hold for select id from customer order by id;
commit;
fetch 2 from h;
close h;
create temp table mine (a int, b text);
insert into mine select g, 'row ' || g from generate_series(1, 3) g;
select * from mine;
select c.name, m.b from customer c join mine m on c.id = m.a order by 1;
drop table mine;
set search_path = office, public;
select what from ledger where id = 1;
select name from customer where id = 1;
reset search_path;
set datestyle = 'german, dmy';
select born, created from customer where id = 50;
set timezone = 'Asia/Kolkata';
select born, created from customer where id = 50;
set bytea_output = 'escape';
select image from product where sku = 'sku-002';
set intervalstyle = 'iso_8601';
select a_interval from every_type where id = 1;
set extra_float_digits = -4;
select weight from product where sku = 'sku-003';
reset all;
select born, created from customer where id = 50;
show timezone;
set client_encoding = 'latin1';
select title from product where sku = 'sku-001';
reset client_encoding;
listen here;
notify here, 'payload';
unlisten *;
do $$ begin raise warning 'careful'; raise notice 'look'; end $$;
set client_min_messages = error;
do $$ begin raise warning 'careful'; end $$;
reset client_min_messages;
explain (costs off) select * from office.ledger where id = 1;
select 1; select 2\; select id from customer where id = 3;
select id from customer where id = 3\; select 1/0\; select 4;
;
select pg_advisory_lock(7), pg_advisory_unlock(7);
begin;
lock table customer in share mode;
select count(*) from customer;
rollback;
prepare transaction 'nothing';
begin;
insert into office.ledger (what) values ('two phases');
prepare transaction 'p1';
select what from office.ledger where what = 'two phases';
commit prepared 'p1';
select what from office.ledger where what = 'two phases';
create table office.made (a int primary key, b text default 'x');
alter table office.made add c date;
insert into office.made (a) values (1), (2) returning *;
create index on office.made (b);
truncate office.made;
drop table office.made, office.nowhere;
drop table office.made;
update customer set name = 'written' where id = 60 returning name;
select name from customer where id = 60;
delete from purchase where id = 1 returning sku;
select count(*) from purchase where id = 1;
\errverbose
select 1/0;
\errverbose
\set VERBOSITY sqlstate
select 1/0;
\set SHOW_CONTEXT always
select office.shout(null);
\pset format html
select id, name from customer where id < 3 order by id;
\pset format latex
select id, name from customer where id < 3 order by id;
\pset format aligned
\timing off
\if :{?FETCH_COUNT}
select 'set';
\else
select id from customer where id = 5;
\endif
\c
select id from customer where id = 6;
\c postgres
select current_database();
SQL
section watched until it is interrupted
printf '%s\n' 'select id, name from customer where id = 30 \watch 0.05' | timeout -s INT 1 $psql 2>&1 | grep '^ 30 ' | sort -u

if [ "$(psql --version | sed -E 's/[^0-9]*([0-9]+).*/\1/')" -ge 16 ]; then
    section bind
    $psql -a <<'SQL' 2>&1
select id, name from customer where id = $1 \bind 5 \g
select $1::int / $2::int \bind 1 0 \g
select id, name from customer where id = $1 \bind x \g
SQL
fi

section one transaction
printf '%s\n' "insert into office.ledger (what) values ('single');" 'select 1/0;' | $psql -1 -v ON_ERROR_STOP=1 -f - 2>&1
echo "exit $?"
$psql -Atc "select count(*) from office.ledger where what = 'single'" -c 'select name from customer where id = 2' -c '\d office.totals' 2>&1
section from a file
printf 'select id, nothing\nfrom customer;\n' >script.sql
$psql -f script.sql 2>&1

section tab completion
cat >tab.py <<'PY'
import os, pty, re, select, sys, time

def ask(line):
    pid, fd = pty.fork()
    if pid == 0:
        os.environ.update(TERM="dumb", INPUTRC="/dev/null")
        os.execvp("psql", ["psql", "-X", "-q", "-d", sys.argv[1], "-v", "PROMPT1=ready> ", "-v", "PROMPT2=more> "])
    out = b""
    def until(pattern):
        nonlocal out
        end = time.monotonic() + 30
        while not re.search(pattern, out):
            if time.monotonic() > end or not select.select([fd], [], [], 30)[0]:
                break
            try:
                part = os.read(fd, 4096)
            except OSError:
                break
            if not part:
                break
            out += part
    until(rb"ready> ")
    out = b""
    # The second tab lists what there is; the marker comes when all is done.
    os.write(fd, line.encode() + b"\t\t")
    os.write(fd, b"\x01\x0b\\echo do''ne\n")
    until(rb"\ndone")
    os.write(fd, b"\\q\n")
    try:
        while os.read(fd, 4096):
            pass
    except OSError:
        pass
    os.waitpid(pid, 0)
    text = out.decode(errors="replace").split("\\echo")[0]
    print("tab:", line, "->", re.sub(r"\s+", " ", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|[\x07\x08]", "", text)).strip())

for line in ("select * from cust", "select * from office.", "insert into pu", "update office.le", "alter table customer alter column ba",
             "drop table office.me", "set datest", "\\d pro", "\\df office.", "create index on customer (", "grant select on customer to re",
             "alter table office.ledger drop constraint ", "select * from every_type where a_b", "set timezone to UT", "\\c sh",
             "alter type kind rename value ", "execute ", "listen ", "drop function office.add", "refresh materialized view office."):
    ask(line)
PY
python3 tab.py "$1"
