//! The demo's application: changes the shop all the time, as its customers and its staff would.

use std::time::Duration;

use rand::Rng;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_postgres::{Client, Error, Statement};

use super::{DemoError, connect};

const RECONNECT_INTERVAL: Duration = Duration::from_secs(1);
/// Customers and products that the shop began with; they are never deleted here.
const CUSTOMERS: i32 = 20_000;
const PRODUCTS: i32 = 5_000;
/// Of the shop's first sessions, some come back.
const SESSIONS: i32 = 30_000;
const CITIES: [(&str, &str); 8] = [
    ("DE", "Berlin"),
    ("FR", "Lyon"),
    ("GB", "Leeds"),
    ("NL", "Utrecht"),
    ("ES", "Sevilla"),
    ("SE", "Malmö"),
    ("PL", "Kraków"),
    ("US", "Portland"),
];

/// What a run of the writer did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    pub committed: u64,
    /// Refused by the primary, and rolled back.
    pub failed: u64,
}

/// Writes about `rate` transactions a second (at least one) over a connection to `url`, until
/// `shutdown` is true or its sender gone. A refused transaction is given up; a lost connection
/// is made again.
pub async fn run(url: String, rate: u32, mut shutdown: watch::Receiver<bool>) -> Written {
    let mut written = Written::default();
    loop {
        tokio::select! {
            biased;
            _ = shutdown.wait_for(|stop| *stop) => return written,
            error = write(&url, rate, &mut written) => {
                tracing::warn!("the demo's writer lost the primary, and tries again: {error}");
            }
        }
        tokio::select! {
            biased;
            _ = shutdown.wait_for(|stop| *stop) => return written,
            () = sleep(RECONNECT_INTERVAL) => {}
        }
    }
}

/// Writes until the connection is lost. Dropped in the midst of a transaction, it leaves that to
/// the primary, which rolls it back.
async fn write(url: &str, rate: u32, written: &mut Written) -> DemoError {
    let client = match connect(url).await {
        Ok(client) => client,
        Err(error) => return error,
    };
    let statements = match Statements::prepare(&client).await {
        Ok(statements) => statements,
        Err(error) => return DemoError::Connect(error),
    };
    let mut ticks = interval(Duration::from_secs(1) / rate.max(1));
    // A primary that was slow is not flooded afterwards.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match transaction(&client, &statements).await {
            Ok(()) => written.committed += 1,
            Err(error) if client.is_closed() => return DemoError::Connect(error),
            Err(error) => {
                written.failed += 1;
                tracing::warn!("the demo's writer gave up a transaction: {error}");
                // Where the error came before the end, the block is still open.
                let _ = client.batch_execute("rollback").await;
            }
        }
    }
}

/// One transaction of a kind chosen by chance.
async fn transaction(client: &Client, statements: &Statements) -> Result<(), Error> {
    let dice = rand::rng().random_range(0..100);
    client.batch_execute("begin").await?;
    match dice {
        0..30 => place_order(client, statements).await?,
        30..55 => {
            let which = rand::rng().random_range(0..50_i64);
            client.execute(&statements.advance_order, &[&which]).await?;
        }
        55..60 => {
            let order = rand::rng().random_range(55_000..65_000_i64);
            client.execute(&statements.cancel_order, &[&order]).await?;
        }
        60..75 => {
            let change = rand::rng().random_range(-8..=9_i32);
            client.execute(&statements.update_price, &[&product(), &change]).await?;
        }
        75..93 => {
            client.execute(&statements.upsert_session, &[&session(), &customer(), &product()]).await?;
        }
        93..97 => {
            client.execute(&statements.delete_sessions, &[]).await?;
        }
        97..99 => {
            let (country, city) = CITIES[rand::rng().random_range(0..CITIES.len())];
            client.execute(&statements.move_customer, &[&customer(), &country, &city]).await?;
        }
        _ => {
            let message = format!("stock-taking of product {}", product());
            client.execute(&statements.insert_audit, &[&message]).await?;
        }
    }
    client.batch_execute("commit").await
}

/// An order, its items, the stock they are taken from and the order's total: visible together or
/// not at all.
async fn place_order(client: &Client, statements: &Statements) -> Result<(), Error> {
    let order: i64 = client.query_one(&statements.insert_order, &[&customer()]).await?.try_get(0)?;
    let lines = rand::rng().random_range(1..=5_i16);
    // In one order, so that two writers never wait for each other's products.
    let mut products: Vec<i32> = (0..lines).map(|_| product()).collect();
    products.sort_unstable();
    for (line, product) in (1_i16..).zip(products) {
        let quantity = rand::rng().random_range(1..=4_i32);
        client.execute(&statements.insert_order_item, &[&order, &line, &product, &quantity]).await?;
        client.execute(&statements.update_stock, &[&product, &quantity]).await?;
    }
    client.execute(&statements.update_order_total, &[&order]).await?;
    Ok(())
}

fn customer() -> i32 {
    rand::rng().random_range(1..=CUSTOMERS)
}

fn product() -> i32 {
    rand::rng().random_range(1..=PRODUCTS)
}

/// One of the first, or a new one.
fn session() -> i32 {
    let mut rng = rand::rng();
    if rng.random_bool(0.5) { rng.random_range(1..=SESSIONS) } else { rng.random_range(SESSIONS..i32::MAX) }
}

struct Statements {
    insert_order: Statement,
    insert_order_item: Statement,
    update_order_total: Statement,
    update_stock: Statement,
    advance_order: Statement,
    cancel_order: Statement,
    update_price: Statement,
    upsert_session: Statement,
    delete_sessions: Statement,
    move_customer: Statement,
    insert_audit: Statement,
}

impl Statements {
    async fn prepare(client: &Client) -> Result<Statements, Error> {
        Ok(Statements {
            insert_order: client.prepare(include_str!("../../../sql/demo/writer/insert_order.sql")).await?,
            insert_order_item: client
                .prepare(include_str!("../../../sql/demo/writer/insert_order_item.sql"))
                .await?,
            update_order_total: client
                .prepare(include_str!("../../../sql/demo/writer/update_order_total.sql"))
                .await?,
            update_stock: client.prepare(include_str!("../../../sql/demo/writer/update_stock.sql")).await?,
            advance_order: client.prepare(include_str!("../../../sql/demo/writer/advance_order.sql")).await?,
            cancel_order: client.prepare(include_str!("../../../sql/demo/writer/cancel_order.sql")).await?,
            update_price: client.prepare(include_str!("../../../sql/demo/writer/update_price.sql")).await?,
            upsert_session: client
                .prepare(include_str!("../../../sql/demo/writer/upsert_session.sql"))
                .await?,
            delete_sessions: client
                .prepare(include_str!("../../../sql/demo/writer/delete_sessions.sql"))
                .await?,
            move_customer: client.prepare(include_str!("../../../sql/demo/writer/move_customer.sql")).await?,
            insert_audit: client.prepare(include_str!("../../../sql/demo/writer/insert_audit.sql")).await?,
        })
    }
}
