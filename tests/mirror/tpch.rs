//! TPC-H's tables, changed by a random writer: transactions over several tables, savepoints that are
//! rolled back, TRUNCATE, changed keys, TOASTed values.

use std::fmt::Write;

use futures_util::SinkExt;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio_postgres::Client;
use tpchgen::{
    csv::{CustomerCsv, LineItemCsv, NationCsv, OrderCsv, PartCsv, PartSuppCsv, RegionCsv, SupplierCsv},
    generators::{
        CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator,
        PartSuppGenerator, RegionGenerator, SupplierGenerator,
    },
};

use super::{scaled, seed};
use crate::support::{client, mirror::Mirror, postgres::on_each_version};

const SETUP: &str = "
    create table region (r_regionkey int primary key, r_name char(25), r_comment varchar(152));
    create table nation (n_nationkey int primary key, n_name char(25), n_regionkey int, n_comment varchar(152));
    create table part (p_partkey int primary key, p_name varchar(55), p_mfgr char(25), p_brand char(10),
        p_type varchar(25), p_size int, p_container char(10), p_retailprice numeric(15,2), p_comment varchar(23));
    create table supplier (s_suppkey int primary key, s_name char(25), s_address varchar(40), s_nationkey int,
        s_phone char(15), s_acctbal numeric(15,2), s_comment varchar(101));
    create table partsupp (ps_partkey int, ps_suppkey int, ps_availqty int, ps_supplycost numeric(15,2),
        ps_comment varchar(199), primary key (ps_partkey, ps_suppkey));
    create table customer (c_custkey int primary key, c_name varchar(25), c_address varchar(40), c_nationkey int,
        c_phone char(15), c_acctbal numeric(15,2), c_mktsegment char(10), c_comment varchar(117));
    create table orders (o_orderkey bigint primary key, o_custkey int, o_orderstatus char(1),
        o_totalprice numeric(15,2), o_orderdate date, o_orderpriority char(15), o_clerk char(15),
        o_shippriority int, o_comment varchar(79));
    create table lineitem (l_orderkey bigint, l_partkey int, l_suppkey int, l_linenumber int,
        l_quantity numeric(15,2), l_extendedprice numeric(15,2), l_discount numeric(15,2), l_tax numeric(15,2),
        l_returnflag char(1), l_linestatus char(1), l_shipdate date, l_commitdate date, l_receiptdate date,
        l_shipinstruct char(25), l_shipmode char(10), l_comment varchar(44),
        primary key (l_orderkey, l_linenumber));
    create table notes (id int primary key, body text, touched int);
    alter table notes alter body set storage external;
    create index on orders (o_orderdate); create index on lineitem (l_partkey, l_suppkey);";

const TABLES: [&str; 9] =
    ["region", "nation", "part", "supplier", "partsupp", "customer", "orders", "lineitem", "notes"];

/// Loads one table from rows in CSV.
async fn copy_in(client: &Client, table: &str, rows: impl Iterator<Item = String>) {
    let sink = client.copy_in(&format!("copy {table} from stdin (format csv)")).await.expect("COPY");
    futures_util::pin_mut!(sink);
    let mut buffer = String::new();
    for row in rows {
        writeln!(buffer, "{row}").expect("a string");
        if buffer.len() > 1 << 20 {
            sink.send(bytes::Bytes::from(std::mem::take(&mut buffer))).await.expect("rows");
        }
    }
    sink.send(bytes::Bytes::from(buffer)).await.expect("rows");
    sink.finish().await.expect("the end of COPY");
}

async fn load(client: &Client, scale_factor: f64) {
    client::execute(client, SETUP).await;
    macro_rules! load {
        ($table:literal, $generator:ident, $csv:ident) => {
            let generator = $generator::new(scale_factor, 1, 1);
            copy_in(client, $table, generator.iter().map(|row| $csv::new(row).to_string())).await;
        };
    }
    load!("region", RegionGenerator, RegionCsv);
    load!("nation", NationGenerator, NationCsv);
    load!("part", PartGenerator, PartCsv);
    load!("supplier", SupplierGenerator, SupplierCsv);
    load!("partsupp", PartSuppGenerator, PartSuppCsv);
    load!("customer", CustomerGenerator, CustomerCsv);
    load!("orders", OrderGenerator, OrderCsv);
    load!("lineitem", LineItemGenerator, LineItemCsv);
    let notes =
        "insert into notes select g, repeat(chr(65 + g % 26), 5000 + g), 0 from generate_series(1, 50) g";
    client::execute(client, notes).await;
}

/// One random statement of a transaction.
fn statement(rng: &mut StdRng, orders: i64) -> String {
    let order = rng.random_range(1..=orders * 4);
    let note = rng.random_range(1..60);
    let number = rng.random_range(1..1000);
    match rng.random_range(0..12) {
        0 => format!(
            "update orders set o_totalprice = o_totalprice + 0.{number:03}, o_orderstatus = 'P' where o_orderkey between {order} and {}",
            order + 20
        ),
        1 => format!(
            "update lineitem set l_quantity = l_quantity + 1, l_comment = null where l_orderkey = {order}"
        ),
        2 => format!("delete from lineitem where l_orderkey = {order}"),
        3 => format!(
            "insert into orders select {}, {number}, 'O', -0.50, 'infinity', '1-URGENT', 'c', 0, 'new' on conflict do nothing",
            1_000_000 + order
        ),
        4 => format!(
            "insert into lineitem select {}, g, g, g, 1.5, 2.25, 0, 0.00, 'N', 'O', '0044-03-15 BC', null, '-infinity', 'x', 'y', 'z' from generate_series(1, 5) g on conflict do nothing",
            1_000_000 + order
        ),
        5 => format!(
            "update lineitem set l_linenumber = l_linenumber + 100 where l_orderkey = {order} and l_linenumber < 100"
        ),
        6 => format!(
            "update orders set o_orderkey = -o_orderkey where o_orderkey = {order} and not exists (select from orders where o_orderkey = -{order})"
        ),
        7 => format!("update notes set touched = touched + 1 where id <= {note}"),
        8 => format!("update notes set body = repeat('{number}', 3000) where id = {note}"),
        9 => format!(
            "insert into notes values ({note}, repeat('n', 9000), 0) on conflict (id) do update set touched = -1"
        ),
        10 => format!("delete from notes where id = {note}"),
        _ => format!(
            "update partsupp set ps_availqty = ps_availqty - 1, ps_supplycost = ps_supplycost * 1.01 where ps_partkey % 97 = {}",
            number % 97
        ),
    }
}

async fn write(client: &Client, transactions: usize, orders: i64, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    for _ in 0..transactions {
        let mut script = String::from("begin;\n");
        for _ in 0..rng.random_range(1..6) {
            let sql = statement(&mut rng, orders);
            match rng.random_range(0..20) {
                0..4 => writeln!(script, "savepoint s; {sql}; rollback to s;"),
                4 => writeln!(script, "truncate notes; insert into notes select g, repeat('t', 4000), 7 from generate_series(1, 20) g;"),
                5 => writeln!(script, "savepoint s; truncate notes; rollback to s; {sql};"),
                6..8 => writeln!(script, "savepoint s; {sql}; release s;"),
                _ => writeln!(script, "{sql};"),
            }
            .expect("a string");
        }
        let end = if rng.random_bool(0.1) { "rollback" } else { "commit" };
        // Two writers can deadlock or meet the same key: that is a rollback too.
        if client.batch_execute(&format!("{script}{end}")).await.is_err() {
            client::execute(client, "rollback").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_random_writer_on_tpch() {
    let scale_factor = std::env::var("MILLPOND_TEST_TPCH").ok().and_then(|s| s.parse().ok()).unwrap_or(0.01);
    let orders = (1_500_000.0 * scale_factor) as i64;
    on_each_version(async |database| {
        let primary = database.connect().await;
        load(&primary, scale_factor).await;
        let seed = seed();
        let early = tokio::spawn({
            let client = database.connect().await;
            async move { write(&client, scaled(60), orders, seed).await }
        });
        let mirror = Mirror::start(&database.url, "[\"public.*\"]").await;
        // A TRUNCATE can have made the copy begin again; afterwards nothing must.
        let reconnects = mirror.daemon.status.replication().reconnects;
        let mut writers = vec![early];
        for writer in 1..3 {
            let client = database.connect().await;
            writers.push(tokio::spawn(async move {
                write(&client, scaled(120), orders, seed.wrapping_add(writer)).await;
            }));
        }
        for writer in writers {
            writer.await.expect("the writer ends");
        }
        mirror.assert_equal(&primary, &TABLES).await;
        assert_eq!(mirror.daemon.status.replication().reconnects, reconnects, "one stream brought it all");
        mirror.stop().await;
    })
    .await;
}
