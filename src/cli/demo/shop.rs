//! The demo's data: a small shop.

use tokio_postgres::Client;

use super::{DemoError, connect, server::Server};

/// The database's name.
pub const DATABASE: &str = "shop";
/// Owns the tables; who the demo's reader is.
pub const OWNER: &str = "shop";
/// Follows the tables; who Millpond is at the primary.
pub const FOLLOWER: &str = "millpond";
/// May read products and orders, but no customers.
pub const ANALYST: &str = "analyst";

/// Creates the roles and the database on a new server, and fills it. Takes a few seconds.
pub async fn load(server: &Server) -> Result<(), DemoError> {
    let superuser = connect(&server.url("postgres", "postgres")).await?;
    execute(&superuser, include_str!("../../../sql/demo/roles.sql")).await?;
    execute(&superuser, include_str!("../../../sql/demo/database.sql")).await?;
    let owner = connect(&server.url(OWNER, DATABASE)).await?;
    fill(&owner).await?;
    execute(&owner, include_str!("../../../sql/demo/grants.sql")).await
}

/// Creates the tables in the client's database and fills them: 20,000 customers, 5,000 products,
/// 60,000 orders of about 180,000 items, 30,000 sessions.
pub async fn fill(client: &Client) -> Result<(), DemoError> {
    execute(client, include_str!("../../../sql/demo/schema.sql")).await?;
    execute(client, include_str!("../../../sql/demo/rows.sql")).await?;
    execute(client, include_str!("../../../sql/demo/indexes.sql")).await
}

async fn execute(client: &Client, sql: &str) -> Result<(), DemoError> {
    client.batch_execute(sql).await.map_err(DemoError::Load)
}
