"""psycopg 3: synchronous and asynchronous, text and binary, prepared, pipelined, copied, cancelled."""

import asyncio
import datetime
import decimal
import sys
import threading

import psycopg
from psycopg import pq, sql
from psycopg.rows import class_row, dict_row, namedtuple_row
from psycopg.types.json import Jsonb

URL = sys.argv[1]


def section(name):
    print(f"\n=== {name}")


def described(cursor):
    return [
        (c.name, c.type_code, c.type_display, c.internal_size, c.precision, c.scale) for c in cursor.description or ()
    ]


def tables(cursor):
    """What libpq tells of each column."""
    result = cursor.pgresult
    # A table that a script makes has another OID each time.
    return [(KNOWN.get(result.ftable(i), "a new one"), result.ftablecol(i), result.fmod(i), result.fsize(i), result.fformat(i)) for i in range(result.nfields)]


def told(error):
    d = error.diag
    fields = ("severity", "severity_nonlocalized", "sqlstate", "message_primary", "message_detail", "message_hint", "statement_position",
              "internal_position", "internal_query", "context", "schema_name", "table_name", "column_name", "datatype_name",
              "constraint_name", "source_file", "source_function", "source_line")
    return type(error).__name__, str(error), {f: getattr(d, f) for f in fields if getattr(d, f)}


def attempt(conn, query, params=None, **options):
    try:
        cur = conn.execute(query, params, **options)
        rows = cur.fetchall() if cur.description else None
        print(query, params, options, "->", cur.statusmessage, cur.rowcount, described(cur), tables(cur), rows)
    except psycopg.Error as error:
        print(query, params, options, "->", *told(error))


with psycopg.connect(URL) as conn:
    KNOWN = {oid: oid for oid, in conn.execute("select oid from pg_class").fetchall()} | {0: 0}

QUERIES = [
    ("select * from customer where id = %s", (7,)),
    ("select * from customer where id = %s", ("7",)),
    ("select * from customer where id = any(%s) order by id", ([3, 5, 8],)),
    ("select id, name from customer where name = %s", ("customer 9",)),
    ("select * from product where sku = %s", ("sku-004",)),
    ("select * from purchase where id = %s", (17,)),
    ("select id, at, note from purchase where customer_id = %s order by at desc limit 3", (18,)),
    ("select * from every_type where id = %s", (1,)),
    ("select * from every_type where id = %s", (3,)),
    ("select id, a_numeric, a_interval, an_int4range, a_kind, a_timestamptz from every_type where id = %s", (4,)),
    ("select a_bytea, a_uuid, a_jsonb, a_text_array, an_int4_array, a_inet from every_type where id = %s", (1,)),
    ("select count(*) from customer", None),
    ("select id from customer where id = -1", None),
    ("select name from customer where id = %s and active = %s", (8, True)),
    ("select name from customer where born = %s", (datetime.date(1950, 2, 7),)),
    ("select name from customer where balance = %s", (decimal.Decimal("3.00"),)),
    ("select id from customer where created > %s order by id limit 2", (datetime.datetime(2024, 3, 1, tzinfo=datetime.timezone.utc),)),
    ("select id from customer where profile = %s order by id limit 1", (Jsonb({"level": 3, "nested": [3, None, "x"]}),)),
    ("select c.name, p.amount from customer c join purchase p on p.customer_id = c.id where p.id = %s", (5,)),
    ("select what, amount from office.ledger where id = %s", (3,)),
    ("select nothing from customer", None),
    ("select 1 / %s::int", (0,)),
    ("select id from customer where id = %s", ("x",)),
    ("select id from customer where id = %s", (2**40,)),
    ("select id from customer where id = %s", (2**70,)),
    ("insert into product (sku, title, price, kind) values (%s, %s, %s, %s)", ("sku-001", "again", 1, "book")),
    ("insert into purchase values (%s, 99999, 'sku-001', 1, now(), null)", (50000,)),
    ("insert into product (sku, title, price, kind) values (%s, %s, %s, %s)", ("sku-x", "x", -1, "book")),
    ("select office.fails()", None),
    ("select %s::kind", ("nonsense",)),
    ("", None),
    ("select from customer where id = 4", None),
]

section("queries, in text, binary and prepared")
with psycopg.connect(URL, autocommit=True) as conn:
    info = conn.info
    print(info.dbname, info.user, info.encoding, info.timezone, info.transaction_status, info.server_version)
    print({name: info.parameter_status(name) for name in
           ("server_version", "server_encoding", "client_encoding", "is_superuser", "session_authorization", "DateStyle",
            "IntervalStyle", "TimeZone", "integer_datetimes", "standard_conforming_strings", "application_name",
            "default_transaction_read_only", "in_hot_standby", "search_path", "scram_iterations")})
    for options in ({}, {"binary": True}, {"prepare": True}, {"prepare": True, "binary": True}):
        for query, params in QUERIES:
            attempt(conn, query, params, **options)
    section("prepared by itself, after some uses")
    conn.prepare_threshold = 2
    for i in range(6):
        attempt(conn, "select id, name from customer where id = %s", (i,))
        attempt(conn, "select what from office.ledger where id = %s", (i,))
    print([(s, t) for s, t in conn.execute("select name, statement from pg_prepared_statements order by name").fetchall()])
    section("prepared statements outlive changes of their tables")
    conn.execute("create table if not exists changing (a int primary key, b text)")
    conn.execute("insert into changing values (1, 'x')")
    for change in (None, "alter table changing add c int default 5", "alter table changing alter b type varchar(9)", "alter table changing drop c"):
        if change:
            conn.execute(change)
        for _ in range(3):
            attempt(conn, "select a, b from changing where a = %s", (1,))
            attempt(conn, "select a, b from changing where a = %s", (1,), prepare=True)
    conn.execute("drop table changing")
    attempt(conn, "select a, b from changing where a = %s", (1,))
    section("rows of other kinds")
    print(conn.cursor(row_factory=dict_row).execute("select id, name from customer where id = 5").fetchone())
    print(conn.cursor(row_factory=namedtuple_row).execute("select id, name from customer where id = 5").fetchone())

    class Customer:
        def __init__(self, id, name):
            self.it = (id, name)

    print(conn.cursor(row_factory=class_row(Customer)).execute("select id, name from customer where id = 5").fetchone().it)
    section("client-side and raw cursors")
    cur = psycopg.ClientCursor(conn)
    print(cur.mogrify("select %s, %s", ("it's", [1, 2])))
    print(cur.execute("select id, name from customer where id = %s", (6,)).fetchall())
    print(psycopg.RawCursor(conn).execute("select id, name from customer where id = $1", (6,)).fetchall())
    cur.execute("select id from customer where id = 1; select what from office.ledger where id = 1; update customer set active = active where id < 4")
    while True:
        print(cur.statusmessage, cur.rowcount, cur.fetchall() if cur.description else None)
        if not cur.nextset():
            break
    section("many at once")
    cur = conn.cursor()
    cur.executemany("select id, name from customer where id = %s", [(1,), (2,), (-1,), (3,)], returning=True)
    while True:
        print(cur.fetchall())
        if not cur.nextset():
            break
    cur.executemany("insert into office.ledger (what) values (%s)", [("many 1",), ("many 2",)])
    print(cur.rowcount, conn.execute("select what from office.ledger where what like 'many%' order by 1").fetchall())
    section("stream and server cursors")
    print([row for row in cur.stream("select id from customer where id < %s order by id", (6,))])
    with conn.transaction():
        named = conn.cursor("named", scrollable=True)
        named.execute("select id, name from customer order by id")
        print(described(named), named.fetchmany(3), named.fetchone())
        named.scroll(10)
        print(named.fetchone())
        named.scroll(0, mode="absolute")
        print(named.fetchone(), len(named.fetchall()))
        named.close()
    held = conn.cursor("held", withhold=True)
    held.execute("select id from customer where id < 10 order by id")
    print(held.fetchmany(2), held.fetchall())
    held.close()
    section("copy")
    for statement in ("copy customer (id, name) to stdout", "copy (select id, name from customer where id < 4 order by id) to stdout (format csv, header)",
                      "copy nowhere to stdout"):
        try:
            with cur.copy(statement) as copy:
                data = b"".join(bytes(part) for part in copy)
            print(statement, len(data), data[:80], cur.statusmessage, cur.rowcount)
        except psycopg.Error as error:
            print(statement, *told(error))
    with cur.copy("copy (select id, a_numeric, a_timestamptz from every_type where id in (1, 3) order by id) to stdout (format binary)") as copy:
        copy.set_types(["int4", "numeric", "timestamptz"])
        try:
            for row in copy.rows():
                print(row)
        except psycopg.Error as error:
            print(type(error).__name__, error)
    with cur.copy("copy office.ledger (what, amount) from stdin") as copy:
        for i in range(500):
            copy.write_row((f"copied {i}", i))
    print(cur.statusmessage, cur.rowcount)
    with cur.copy("copy product (sku, title, price, kind) from stdin (format binary)") as copy:
        copy.set_types(["text", "text", "numeric", "text"])
        copy.write_row(("sku-900", "nine hundred", decimal.Decimal("9.99"), "toy"))
    attempt(conn, "select * from product where sku = 'sku-900'")
    for rows in ([("bad", "row", "here")], [("short",)]):
        try:
            with cur.copy("copy office.ledger (what, amount) from stdin") as copy:
                for row in rows:
                    copy.write_row(row)
        except psycopg.Error as error:
            print(*told(error))
    try:
        with cur.copy("copy office.ledger (what, amount) from stdin") as copy:
            copy.write_row(("given up", 1))
            raise ZeroDivisionError
    except ZeroDivisionError:
        print("given up", conn.info.transaction_status)
    print(conn.execute("select count(*) from office.ledger").fetchone())
    section("notices and notifications")
    conn.add_notice_handler(lambda d: print("notice", d.severity, d.sqlstate, d.message_primary, d.message_detail, d.message_hint))
    attempt(conn, "select office.shout('psycopg')")
    attempt(conn, "drop table if exists never_there")
    conn.execute("listen channel")
    with psycopg.connect(URL, autocommit=True) as other:
        other.execute("notify channel, 'from another'")
        for n in conn.notifies(timeout=20, stop_after=1):
            print(n.channel, n.payload, n.pid == other.info.backend_pid)
    # A notification that comes between answers from memory.
    heard = []
    conn.add_notify_handler(lambda n: heard.append((n.channel, n.payload)))
    conn.execute("notify channel, 'own'")
    for i in range(3):
        attempt(conn, "select id from customer where id = %s", (i,))
    print(heard)
    section("cancel")
    for cancel in (conn.cancel, conn.cancel_safe):
        timer = threading.Timer(0.3, cancel)
        timer.start()
        attempt(conn, "select pg_sleep(20)")
        timer.join()
        attempt(conn, "select id from customer where id = 1")

section("transactions")
with psycopg.connect(URL) as conn:
    attempt(conn, "select name from customer where id = 20")
    print(conn.info.transaction_status)
    attempt(conn, "update customer set name = 'changed' where id = 20")
    attempt(conn, "select name from customer where id = 20")
    attempt(conn, "select 1 / 0")
    attempt(conn, "select name from customer where id = 20")
    conn.rollback()
    attempt(conn, "select name from customer where id = 20")
    conn.rollback()
    try:
        with conn.transaction():
            conn.execute("update customer set name = 'outer' where id = 21")
            try:
                with conn.transaction():
                    conn.execute("update customer set name = 'inner' where id = 21")
                    raise KeyError
            except KeyError:
                pass
            attempt(conn, "select name from customer where id = 21")
            raise psycopg.Rollback
    except psycopg.Error as error:
        print(*told(error))
    attempt(conn, "select name from customer where id = 21")
    conn.commit()
    conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    conn.read_only = True
    attempt(conn, "select name from customer where id = 21")
    attempt(conn, "delete from customer where id = 21")
    conn.rollback()
    conn.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    conn.deferrable = True
    attempt(conn, "select name from customer where id = 21")
    attempt(conn, "show transaction_isolation")
    conn.rollback()
    conn.isolation_level = conn.read_only = conn.deferrable = None
    conn.execute("update customer set name = 'written' where id = 22")
    conn.commit()
    attempt(conn, "select name from customer where id = 22")
    conn.rollback()
    section("two phases")
    xid = conn.xid(1, "gtrid", "bqual")
    conn.tpc_begin(xid)
    conn.execute("update customer set name = 'prepared' where id = 23")
    conn.tpc_prepare()
    conn.tpc_commit()
    attempt(conn, "select name from customer where id = 23")
    conn.rollback()
    conn.tpc_begin("plain")
    conn.execute("update customer set name = 'undone' where id = 23")
    conn.tpc_prepare()
    with psycopg.connect(URL) as other:
        print([(x.gtrid, x.owner, x.database) for x in other.tpc_recover()])
    conn.tpc_rollback()
    attempt(conn, "select name from customer where id = 23")
    conn.rollback()

section("pipelines")
with psycopg.connect(URL, autocommit=True) as conn:
    with conn.pipeline() as pipeline:
        cursors = []
        for i in range(12):
            cursors.append(conn.execute("select id, name from customer where id = %s", (i,)))
            cursors.append(conn.execute("select what from office.ledger where id = %s", (i,)))
            if i % 4 == 3:
                cursors.append(conn.execute("insert into office.ledger (what) values (%s) returning what", (f"piped {i}",)))
                pipeline.sync()
        for cur in cursors:
            print(cur.fetchall())
    try:
        with conn.pipeline() as pipeline:
            first = conn.execute("select id from customer where id = 1")
            wrong = conn.execute("select 1 / (id - 1) from customer where id = 1")
            after = conn.execute("select id from customer where id = 2")
            pipeline.sync()
    except psycopg.Error as error:
        print(*told(error))
    try:
        with conn.pipeline():
            conn.execute("insert into office.ledger (what) values ('lost')")
            conn.execute("select id from customer where id = 1")
            conn.execute("select nonsense")
    except psycopg.Error as error:
        print(*told(error))
    attempt(conn, "select count(*) from office.ledger where what = 'lost'")
    with conn.pipeline(), conn.transaction():
        conn.execute("update customer set name = 'in a pipeline' where id = 30")
        print(conn.execute("select name from customer where id = 30").fetchone())
    attempt(conn, "select name from customer where id = 30")

section("settings")
with psycopg.connect(URL, autocommit=True, options="-c timezone=Asia/Tokyo -c extra_float_digits=-3", application_name="settings") as conn:
    attempt(conn, "select created from customer where id = 40")
    attempt(conn, "select weight from product where sku = 'sku-003'")
    attempt(conn, "show application_name")
    attempt(conn, "select application_name from pg_stat_activity where pid = pg_backend_pid()")
    print(conn.info.parameter_status("TimeZone"))
    conn.execute("set timezone to 'Europe/Berlin'")
    print(conn.info.parameter_status("TimeZone"))
    attempt(conn, "select created from customer where id = 40")
    conn.execute("select set_config('timezone', 'America/Lima', false)")
    attempt(conn, "select created from customer where id = 40")
    conn.execute("begin")
    conn.execute("set local timezone to 'UTC'")
    attempt(conn, "select created from customer where id = 40")
    conn.execute("rollback")
    attempt(conn, "select created from customer where id = 40")
    conn.execute("set client_encoding to 'latin1'")
    attempt(conn, "select title from product where sku = 'sku-001'")
    conn.execute("set role reader")
    attempt(conn, "select name from customer where id = 1")
    attempt(conn, "select sku from product where sku = 'sku-001'")
    attempt(conn, "select price from product where sku = 'sku-001'")
    attempt(conn, "select * from purchase where id = 1")
    conn.execute("reset role")
    conn.execute("discard all")
    attempt(conn, "select created from customer where id = 40")

section("connections that are refused")
for broken in (URL.replace("secret", "wrong"), URL.replace("app:", "nobody_here:"), URL.replace("/shop", "/nowhere"), URL + "?options=-c%20nonsense%3D1",
               URL + "?client_encoding=nonsense", URL + "?sslmode=require", URL + "?gssencmode=require"):
    try:
        psycopg.connect(broken).close()
        print("connected")
    except psycopg.Error as error:
        print(type(error).__name__, str(error).replace("127.0.0.1", "<host>"))

section("libpq itself")
pgconn = pq.PGconn.connect(URL.encode())
print(pgconn.status, pgconn.protocol_version, pgconn.transaction_status)
result = pgconn.prepare(b"s", b"select id, name, balance from customer where id = $1")
print(result.status)
result = pgconn.describe_prepared(b"s")
print(result.nparams, result.param_type(0), [(result.fname(i), result.ftype(i), result.fmod(i)) for i in range(result.nfields)])
for fmt in (0, 1):
    result = pgconn.exec_prepared(b"s", [b"5" if not fmt else b"\0\0\0\5"], [fmt], fmt)
    print(result.status, result.command_status, [result.get_value(0, i) for i in range(result.nfields)])
result = pgconn.exec_prepared(b"s", [b"\0\0\5"], [1], 0)
print(result.status, result.error_message)
result = pgconn.exec_params(b"select $1::int[], $2::text", [b"{1,2}", None])
print(result.status, result.get_value(0, 0), result.get_value(0, 1), result.ftype(0))
pgconn.send_query_params(b"select id, name from customer where id < $1 order by id", [b"6"])
pgconn.set_single_row_mode()
while result := pgconn.get_result():
    print(result.status, result.ntuples, result.get_value(0, 0) if result.ntuples else None)
print(pgconn.close_prepared(b"s").status if hasattr(pgconn, "close_prepared") and pq.version() >= 170000 else None)
print(pgconn.exec_prepared(b"s", [b"5"]).error_message)
pgconn.finish()


async def asynchronous():
    section("asynchronous")
    async with await psycopg.AsyncConnection.connect(URL, autocommit=True) as conn:
        for query, params in QUERIES[:14]:
            try:
                cur = await conn.execute(query, params, binary=True)
                print(cur.statusmessage, await cur.fetchall())
            except psycopg.Error as error:
                print(*told(error))
        async with conn.pipeline():
            cursors = [await conn.execute("select name from customer where id = %s", (i,)) for i in range(5)]
            print([await cur.fetchone() for cur in cursors])
        async with conn.cursor().copy("copy (select id from customer where id < 5 order by id) to stdout") as copy:
            print([row async for row in copy.rows()])
        task = asyncio.create_task(conn.execute("select pg_sleep(20)"))
        await asyncio.sleep(0.3)
        await conn.cancel_safe()
        try:
            await task
        except psycopg.Error as error:
            print(*told(error))
        cur = await conn.execute("select id from customer where id = 3")
        print(await cur.fetchone())
    conns = await asyncio.gather(*(psycopg.AsyncConnection.connect(URL, autocommit=True) for _ in range(8)))

    async def read(conn, i):
        cur = await conn.execute("select name from customer where id = %s", (i,))
        return await cur.fetchone()

    print(await asyncio.gather(*(read(conns[i % 8], i) for i in range(24))))
    for conn in conns:
        await conn.close()


asyncio.run(asynchronous())
