//! The shop's rows, and what its writer keeps true.

use millpond::cli::demo::{shop, writer};
use tokio::sync::watch;
use tokio_postgres::Client;

use crate::support::{
    client::{assert_same_rows, assert_same_table, rows, value},
    postgres::{Database, newest, on_each_version},
    wait::wait_until,
};

const TABLES: [&str; 5] = ["customers", "products", "orders", "order_items", "sessions"];

#[tokio::test]
async fn loads_and_is_written_to_on_each_version() {
    on_each_version(async |database: Database| {
        let client = database.connect().await;
        shop::fill(&client).await.expect("the shop loads");
        for (table, expected) in
            [("customers", 20_000), ("products", 5_000), ("orders", 60_000), ("sessions", 30_000)]
        {
            assert_eq!(count(&client, table).await, expected, "{table}");
        }
        assert!((170_000..190_000).contains(&count(&client, "order_items").await));
        assert_is_sound(&client).await;

        let wal_before = value(&client, "select pg_current_wal_lsn()").await;
        let (shutdown, shutdown_seen) = watch::channel(false);
        let writing = tokio::spawn(writer::run(database.url.clone(), 1_000, shutdown_seen));
        wait_until("all tables were written to", async || {
            let changed = value(
                &client,
                "select count(*) from pg_stat_user_tables \
                 where n_tup_upd > 0 and relname in ('customers', 'products', 'orders', 'sessions')",
            )
            .await;
            let deleted =
                value(&client, "select n_tup_del from pg_stat_user_tables where relname = 'sessions'").await;
            changed == "4" && deleted != "0" && count(&client, "orders").await > 60_000
        })
        .await;
        // While it writes: each transaction is whole or not there.
        assert_is_sound(&client).await;
        shutdown.send_replace(true);
        let written = writing.await.expect("the writer ends");
        assert!(written.committed > 0);
        assert_eq!(written.failed, 0, "no transaction is refused");
        assert_ne!(value(&client, "select pg_current_wal_lsn()").await, wal_before);
        assert_is_sound(&client).await;
    })
    .await;
}

#[tokio::test]
async fn is_the_same_shop_each_time() {
    let (first, second) = (newest().database().await, newest().database().await);
    let (first, second) = (first.connect().await, second.connect().await);
    shop::fill(&first).await.expect("the shop loads");
    shop::fill(&second).await.expect("the shop loads");
    // All but the dates, which end at the time of loading.
    for sql in [
        "select customer_id, email, full_name, country, city, newsletter, credit, tags from customers order by 1",
        "select product_id, sku, name, category, price, weight_kg, stock, active, tags from products order by 1",
        "select order_id, customer_id, status, total, note from orders order by 1",
    ] {
        assert_same_rows(&first, &second, sql).await;
    }
    assert_same_table(&first, &second, "order_items").await;
}

#[tokio::test]
async fn the_roles_may_do_what_they_are_for() {
    let server = newest().dedicated(Default::default());
    shop::load(&server).await.expect("the shop loads");
    let connect = async |role| crate::support::client::connect(&server.url(role, shop::DATABASE)).await;
    let follower = connect(shop::FOLLOWER).await;
    let publication = format!("create publication by_follower for table {}", TABLES.join(", "));
    follower.batch_execute(&publication).await.expect("it may publish the tables");
    let slot = "select slot_name from pg_create_logical_replication_slot('by_follower', 'pgoutput', true)";
    assert_eq!(value(&follower, slot).await, "by_follower");
    for table in TABLES {
        assert!(count(&follower, table).await > 0, "{table}");
    }
    let analyst = connect(shop::ANALYST).await;
    assert!(count(&analyst, "order_totals").await > 0);
    assert_eq!(crate::support::client::sqlstate(&analyst, "select from customers").await, "42501");
    assert_eq!(crate::support::client::sqlstate(&analyst, "delete from products").await, "42501");
}

/// At one snapshot: nothing points nowhere, and every order is the sum of its items.
async fn assert_is_sound(client: &Client) {
    for sql in [
        "select order_id, total, item_total from order_totals where total is distinct from item_total",
        "select order_id from orders where not exists (select from order_items i where i.order_id = orders.order_id)",
        "select order_id from orders left join customers using (customer_id) where customers.email is null",
        "select order_id, line_no from order_items left join orders using (order_id) where orders.status is null",
        "select order_id, line_no from order_items left join products using (product_id) where products.sku is null",
        "select session_id from sessions left join customers using (customer_id) where customers.email is null",
        "select product_id, price, stock from products where price <= 0 or stock < 0",
    ] {
        assert_eq!(rows(client, sql).await, Vec::<Vec<Option<String>>>::new(), "{sql}");
    }
}

async fn count(client: &Client, table: &str) -> u64 {
    value(client, &format!("select count(*) from {table}")).await.parse().expect("a count")
}
