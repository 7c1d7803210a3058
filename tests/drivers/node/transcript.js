// node-postgres with its cursor and its stream, and sequelize on top of it.
"use strict";
const { Client, Pool, types } = require("pg");
const Cursor = require("pg-cursor");
const QueryStream = require("pg-query-stream");
const { Sequelize, DataTypes, Op } = require("sequelize");

const url = process.argv[2];
const show = (...parts) => console.log(...parts.map((p) => (typeof p === "string" ? p : JSON.stringify(p))));
const section = (name) => console.log(`\n=== ${name}`);
// A table that a script makes has another OID each time.
const known = (oid) => (oid < 30000 ? oid : "a new one");

const fields = ["name", "severity", "code", "message", "detail", "hint", "position", "internalPosition", "internalQuery", "where",
    "schema", "table", "column", "dataType", "constraint", "file", "line", "routine"];
const told = (e) => Object.fromEntries(fields.filter((f) => e[f] !== undefined).map((f) => [f, e[f]]));
const columns = (r) => r.fields && r.fields.map((f) => [f.name, f.dataTypeID, f.dataTypeSize, f.dataTypeModifier, f.columnID, f.format]);

async function attempt(client, query) {
    try {
        const results = [].concat(await client.query(query));
        for (const r of results) show(query.text || query, query.values, "->", r.command, r.rowCount, columns(r), r.rows);
    } catch (e) {
        show(query.text || query, query.values, "->", told(e));
    }
}

const queries = [
    ["select * from customer where id = $1", [7]],
    ["select * from customer where id = $1", ["8"]],
    ["select * from customer where id = any($1) order by id", [[3, 5]]],
    ["select id, name from customer where name = $1", ["customer 9"]],
    ["select * from product where sku = $1", ["sku-004"]],
    ["select id, at, note from purchase where customer_id = $1 order by at desc limit 3", [18]],
    ["select * from every_type where id = $1", [1]],
    ["select * from every_type where id = $1", [3]],
    ["select * from every_type where id = $1", [4]],
    ["select count(*) from customer"],
    ["select id from customer where created > $1 order by id limit 2", [new Date("2024-03-01T00:00:00Z")]],
    ["select what from office.ledger where id = $1", [2]],
    ["select id from customer where id = $1", ["x"]],
    ["select nothing from customer"],
    ["select 1 / $1::int", [0]],
    ["insert into purchase values (90000, 99999, 'sku-001', 1, now(), null)"],
    ["select office.fails()"],
    ["select $1::jsonb", [{ a: [1, null] }]],
    ["select $1::bytea", [Buffer.from([0, 255])]],
    [""],
];

async function main() {
    const client = new Client(url);
    client.on("notice", (n) => show("notice", n.severity, n.code, n.message, n.detail, n.hint));
    await client.connect();
    section("queries");
    for (const [text, values] of queries) {
        await attempt(client, text);
        await attempt(client, { text, values });
        await attempt(client, { text, values, rowMode: "array" });
        // Its own reader of binary values does not know all of these.
        if (!text.includes("every_type")) await attempt(client, { text, values, binary: true });
        for (let i = 0; i < 2; i++) await attempt(client, { name: "named " + text, text, values });
    }
    await attempt(client, "select id from customer where id = 1; select what from office.ledger where id = 1; select id from customer where id = 2");
    await attempt(client, "select count(*) from pg_prepared_statements");
    section("queued without waiting");
    const queued = [];
    for (let i = 0; i < 30; i++) {
        queued.push(client.query("select name from customer where id = $1", [i]));
        if (i % 5 === 0) queued.push(client.query("select what from office.ledger where id = $1", [i]));
        if (i % 7 === 0) queued.push(client.query("select 1 / $1::int", [0]).catch((e) => ({ rows: [e.code] })));
    }
    show((await Promise.all(queued)).map((r) => r.rows));
    section("cursors and streams");
    const cursor = client.query(new Cursor("select id, name from customer where id > $1 order by id", [10]));
    show(await cursor.read(3), await cursor.read(2));
    await cursor.close();
    const short = client.query(new Cursor("select id from customer where id < $1", [3]));
    show((await short.read(100)).length, await short.read(100));
    const wrong = client.query(new Cursor("select 1 / (id - 3) from customer order by id"));
    try { await wrong.read(10); } catch (e) { show(told(e)); }
    let count = 0;
    for await (const row of client.query(new QueryStream("select id from purchase", [], { batchSize: 100 }))) count += row.id > 0;
    show("streamed", count);
    await client.query("begin");
    const mixed = client.query(new Cursor("select id from office.ledger order by id"));
    show(await mixed.read(2), await mixed.read(2));
    await mixed.close();
    await client.query("commit");
    section("transactions");
    for (const text of ["begin", "update customer set name = 'changed' where id = 20", "select name from customer where id = 20", "savepoint a",
        "select 1 / 0", "select 1", "rollback to a", "select name from customer where id = 20", "rollback", "select name from customer where id = 20",
        "begin isolation level serializable", "select name from customer where id = 20", "commit",
        "update customer set name = 'written' where id = 21 returning id, name", "select name from customer where id = 21"]) await attempt(client, text);
    section("notices, notifications");
    await attempt(client, "select office.shout('node')");
    await client.query("listen channel");
    const heard = new Promise((resolve) => client.once("notification", (n) => resolve([n.channel, n.payload])));
    const other = new Client(url);
    await other.connect();
    await other.query("notify channel, 'from another'");
    show(await heard);
    section("cancel");
    const pid = (await client.query("select pg_backend_pid() as pid")).rows[0].pid;
    const running = client.query("select pg_sleep(20)").catch(told);
    await new Promise((resolve) => setTimeout(resolve, 300));
    const canceled = (await other.query("select pg_cancel_backend($1)", [pid])).rows;
    // Which of the two is known first is chance.
    show(canceled, await running);
    await attempt(client, "select id from customer where id = 1");
    const slow = new Client({ connectionString: url, statement_timeout: 200, query_timeout: 5000, application_name: "slow" });
    await slow.connect();
    await attempt(slow, "select pg_sleep(20)");
    await attempt(slow, "select id from customer where id = 1");
    await attempt(slow, "show application_name");
    await slow.end();
    await other.end();
    await client.end();
    section("a pool");
    const pool = new Pool({ connectionString: url, max: 4 });
    show((await Promise.all([...Array(40).keys()].map((i) => pool.query("select name from customer where id = $1", [i])))).map((r) => r.rows));
    await pool.end();
    section("refused");
    for (const broken of [url.replace("secret", "wrong"), url.replace("/shop", "/nowhere"), url.replace("app:", "nobody:")]) {
        const c = new Client(broken);
        try { await c.connect(); show("connected"); await c.end(); } catch (e) { show(told(e)); }
    }

    section("sequelize");
    const sequelize = new Sequelize(url, { logging: false });
    const q = sequelize.getQueryInterface();
    show((await q.showAllTables()).map((t) => t.tableName || t).sort());
    show(await q.describeTable("customer"));
    show((await q.showIndex("purchase")).map((i) => [i.name, i.unique, i.fields.map((f) => f.attribute)]));
    show(await q.getForeignKeyReferencesForTable("purchase"));
    const Customer = sequelize.define("customer", { name: DataTypes.TEXT, email: DataTypes.STRING, balance: DataTypes.DECIMAL, active: DataTypes.BOOLEAN,
        tags: DataTypes.ARRAY(DataTypes.TEXT), profile: DataTypes.JSONB, created: DataTypes.DATE }, { tableName: "customer", timestamps: false });
    const Purchase = sequelize.define("purchase", { amount: DataTypes.SMALLINT, sku: DataTypes.STRING, customerId: { type: DataTypes.INTEGER, field: "customer_id" } },
        { tableName: "purchase", timestamps: false });
    Customer.hasMany(Purchase, { foreignKey: "customerId" });
    show(await Customer.findByPk(5), await Customer.findOne({ where: { name: "customer 6" } }), await Customer.count());
    show(await Customer.findAll({ where: { id: { [Op.in]: [1, 2, 3] } }, order: ["id"], include: [{ model: Purchase, separate: true, order: ["id"] }] }));
    show(await Customer.findAll({ where: { balance: { [Op.gt]: 98 } }, order: [["id", "desc"]], limit: 2, attributes: ["id", "balance"] }));
    show(await Customer.findAll({ where: { tags: { [Op.contains]: ["vip"] } }, order: ["id"], limit: 2, attributes: ["id", "tags"] }));
    const Made = sequelize.define("made", { title: { type: DataTypes.STRING, unique: true }, level: DataTypes.ENUM("low", "high") }, { schema: "office" });
    await Made.sync({ force: true });
    const made = await Made.create({ title: "one", level: "low" });
    await made.update({ level: "high" });
    await Made.bulkCreate([{ title: "two", level: "low" }, { title: "three", level: "low" }]);
    show((await Made.findAll({ order: ["id"] })).map((m) => [m.id, m.title, m.level]));
    try { await Made.create({ title: "one" }); } catch (e) { show(e.name, told(e.parent)); }
    try {
        await sequelize.transaction(async (t) => {
            await Customer.update({ name: "in sequelize" }, { where: { id: 50 }, transaction: t });
            show((await Customer.findByPk(50, { transaction: t })).name);
            throw new Error("undone");
        });
    } catch (e) { show(e.message, (await Customer.findByPk(50)).name); }
    show(await Customer.findOrCreate({ where: { id: 51 } }), await Customer.increment("balance", { by: 1, where: { id: 52 } }), (await Customer.findByPk(52)).balance);
    await Made.drop();
    await sequelize.query('drop type office."enum_mades_level"').catch((e) => show(told(e.parent)));
    await sequelize.close();
}

main().then(() => process.exit(0), (e) => { console.log(e); process.exit(1); });
