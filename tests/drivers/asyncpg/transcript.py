"""asyncpg: binary everywhere, its own introspection of types, prepared statements, cursors, COPY, LISTEN."""

import asyncio
import datetime
import decimal
import io
import sys

import asyncpg

URL = sys.argv[1]


def told(error):
    fields = ("severity", "sqlstate", "message", "detail", "hint", "position", "internal_position", "internal_query", "context",
              "schema_name", "table_name", "column_name", "data_type_name", "constraint_name")
    return type(error).__name__, str(error), {f: getattr(error, f) for f in fields if getattr(error, f, None)}


def section(name):
    print(f"\n=== {name}")


async def attempt(conn, query, *args):
    try:
        print(query, args, "->", [tuple(r.items()) for r in await conn.fetch(query, *args)])
    except Exception as error:
        print(query, args, "->", *told(error))


async def main():
    conn = await asyncpg.connect(URL)
    section("about the server")
    settings = conn.get_settings()
    print(conn.get_server_version(), settings.server_encoding, settings.TimeZone, settings.is_superuser)
    section("queries")
    for i in (1, 2, 3, 4):
        for column in ("a_int2, a_int8, a_float4, a_numeric, a_numeric_5_2", "a_text, a_varchar, a_bpchar, a_name, a_char, a_bytea, a_bool",
                       "a_date, a_time, a_time_3, a_timetz, a_timestamp, a_interval", "a_uuid, a_json, a_jsonb, a_inet, a_cidr, a_macaddr",
                       "a_bit, a_varbit, an_int4_array, a_text_array, an_int4range", "a_point, a_box, a_money, an_oid, a_kind, a_tsvector", "a_timestamptz", "*"):
            await attempt(conn, f"select {column} from every_type where id = $1", i)
    for query, *args in (
        ("select * from customer where id = $1", 7),
        ("select * from customer where id = any($1::int[]) order by id", [4, 8]),
        ("select name from customer where name = $1", "customer 3"),
        ("select * from product where sku = $1", "sku-002"),
        ("select * from purchase where customer_id = $1 order by at desc limit 2", 6),
        ("select name from customer where balance = $1", decimal.Decimal("5.00")),
        ("select name from customer where born = $1", datetime.date(1950, 2, 7)),
        ("select count(*) from customer where active",),
        ("select $1::office.address", ("Main St", "Town")),
        ("select array[row('a', 'b')::office.address]",),
        ("select $1::office.positive", 5),
        ("select $1::office.positive", -5),
        ("select what from office.ledger where id = $1", 2),
        ("select id from customer where id = $1", "x"),
        ("select id from customer where id = $1", 2**40),
        ("select nothing from customer",),
        ("select 1 / $1::int", 0),
        ("insert into purchase values (90000, 99999, 'sku-001', 1, now(), null)",),
        ("insert into product (sku, title, price, kind) values ('sku-001', 'x', 1, 'book')",),
        ("select office.fails()",),
        ("select",), ("",),
    ):
        for _ in range(2):
            await attempt(conn, query, *args)
    section("prepared")
    statement = await conn.prepare("select id, name, balance, tags from customer where id = $1")
    print(statement.get_parameters(), statement.get_attributes(), statement.get_statusmsg())
    for i in (1, 8, -1):
        print(await statement.fetch(i), statement.get_statusmsg())
    print(await statement.fetchval(5, column=1), await statement.fetchrow(6))
    print(await conn.fetchval("select count(*) from pg_prepared_statements where statement like 'select id, name, balance, tags%'"))
    section("prepared, and then changed")
    await conn.execute("create table changing (a int primary key, b text); insert into changing values (1, 'x')")
    changing = await conn.prepare("select * from changing where a = 1")
    print(await changing.fetch())
    await conn.execute("alter table changing add c int default 7")
    for _ in range(2):
        try:
            print(await changing.fetch())
        except asyncpg.PostgresError as error:
            print(*told(error))
        await attempt(conn, "select * from changing where a = 1")
    await conn.execute("drop table changing")
    await attempt(conn, "select * from changing where a = 1")
    section("cursors and transactions")
    async with conn.transaction():
        print([r["id"] async for r in conn.cursor("select id from customer where id < $1 order by id", 9, prefetch=3)])
        cur = await conn.cursor("select id, name from customer order by id")
        print(await cur.fetch(2), await cur.forward(5), await cur.fetchrow(), await cur.fetch(3))
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        await attempt(conn, "select name from customer where id = 10")
        print(conn.is_in_transaction())
    try:
        async with conn.transaction():
            await conn.execute("update customer set name = 'x' where id = 10")
            try:
                async with conn.transaction():
                    await conn.execute("select 1 / 0")
            except asyncpg.DivisionByZeroError as error:
                print(*told(error))
            await attempt(conn, "select name from customer where id = 10")
            raise KeyError
    except KeyError:
        await attempt(conn, "select name from customer where id = 10")
    for level in ("serializable", "repeatable_read", "read_committed"):
        async with conn.transaction(isolation=level):
            print(await conn.fetchval("show transaction_isolation"), await conn.fetchval("select name from customer where id = 11"))
    print(await conn.execute("update customer set name = 'written' where id = 12"), await conn.fetchval("select name from customer where id = 12"))
    print(await conn.execute("select 1; update customer set active = active where id < 4; select id from customer where id = 1"))
    section("many")
    await conn.executemany("insert into office.ledger (what, amount) values ($1, $2)", [(f"many {i}", i) for i in range(50)])
    print(await conn.fetchmany("select name from customer where id = $1", [(1,), (2,), (3,)]) if hasattr(conn, "fetchmany") else None)
    try:
        await conn.executemany("insert into office.ledger (what, amount) values ($1, $2)", [("one", 1), ("one", 1)])
    except asyncpg.PostgresError as error:
        print(*told(error))
    await attempt(conn, "select count(*) from office.ledger")
    section("copy")
    out = io.BytesIO()
    print(await conn.copy_from_table("customer", output=out, columns=["id", "name"], format="csv", header=True), len(out.getvalue()))
    out = io.BytesIO()
    print(await conn.copy_from_query("select id, name from customer where id < $1 order by id", 4, output=out), out.getvalue())
    out = io.BytesIO()
    print(await conn.copy_from_query("select id, name from customer where id < 3 order by id", output=out, format="binary"), out.getvalue())
    print(await conn.copy_to_table("ledger", schema_name="office", source=io.BytesIO(b"a\t1\nb\t2\n"), columns=["what", "amount"]))
    print(await conn.copy_records_to_table("ledger", schema_name="office", records=[("r", decimal.Decimal(3)), ("s", decimal.Decimal(4))], columns=["what", "amount"]))
    try:
        await conn.copy_to_table("ledger", schema_name="office", source=io.BytesIO(b"a\tb\n"), columns=["what", "amount"])
    except asyncpg.PostgresError as error:
        print(*told(error))
    await attempt(conn, "select count(*) from office.ledger")
    section("notices and notifications")
    logged = asyncio.Queue()
    heard = asyncio.Queue()
    conn.add_log_listener(lambda _, m: logged.put_nowait((m.severity, m.sqlstate, m.message, m.detail, m.hint)))
    await attempt(conn, "select office.shout('asyncpg')")
    print(await asyncio.wait_for(logged.get(), 20))
    await conn.add_listener("channel", lambda c, pid, channel, payload: heard.put_nowait((channel, payload)))
    other = await asyncpg.connect(URL)
    await other.execute("notify channel, 'one'")
    await conn.fetch("select name from customer where id = 1")
    print(await asyncio.wait_for(heard.get(), 20))
    await other.execute("select pg_notify('channel', 'two')")
    print(await asyncio.wait_for(heard.get(), 20))
    section("cancel")
    for query in ("select pg_sleep(20)", "select count(*) from generate_series(1, 1000000000)"):
        try:
            await conn.fetch(query, timeout=0.3)
        except asyncio.TimeoutError:
            print("timed out")
        await attempt(conn, "select id from customer where id = 2")
    section("settings, reset")
    await conn.execute("set timezone = 'Asia/Tokyo'")
    print(conn.get_settings().TimeZone)
    await attempt(conn, "select created from customer where id = 1")
    await conn.reset()
    print(conn.get_settings().TimeZone)
    await attempt(conn, "select created from customer where id = 1")
    await conn.set_type_codec("jsonb", encoder=str, decoder=lambda v: ("decoded", v), schema="pg_catalog")
    await conn.set_type_codec("numeric", encoder=str, decoder=lambda v: ("text", v), schema="pg_catalog", format="text")
    await attempt(conn, "select id, profile, balance from customer where id = 3")
    await other.close()
    await conn.close()
    section("a pool")
    async with asyncpg.create_pool(URL, min_size=3, max_size=3) as pool:
        async def read(i):
            async with pool.acquire() as conn:
                return await conn.fetchval("select name from customer where id = $1", i)
        print(await asyncio.gather(*(read(i) for i in range(1, 31))))
    section("refused")
    for broken in (URL.replace("secret", "wrong"), URL.replace("/shop", "/nowhere"), URL.replace("app:", "nobody:"), URL + "?sslmode=require"):
        try:
            await (await asyncpg.connect(broken)).close()
        except (asyncpg.PostgresError, OSError) as error:
            print(*told(error))
    conn = await asyncpg.connect(URL, server_settings={"application_name": "a b", "timezone": "Europe/Paris"}, statement_cache_size=0)
    await attempt(conn, "select created from customer where id = 1")
    await attempt(conn, "show application_name")
    await conn.close()


asyncio.run(asyncio.wait_for(main(), 100))
