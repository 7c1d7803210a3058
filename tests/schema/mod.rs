//! The catalogue, the publication and the preflight, against real servers; each case makes databases
//! of its own.

mod changes;
mod preflight;
mod privileges;
mod publication;
mod tables;
mod types;

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use millpond::{
    catalog::Catalog,
    config::{TableMode, TableRule},
    source::schema,
    types::{IndexKind, TableSchema},
};
use tokio_postgres::{Client, Config as PgConfig, NoTls};

use crate::support::postgres::servers;

/// A database of a test, dropped by [`Database::drop`].
struct Database {
    url: String,
    name: String,
    client: Client,
}

async fn connect(config: &PgConfig) -> Client {
    let (client, connection) = config.connect(NoTls).await.expect("connect");
    tokio::spawn(connection);
    client
}

impl Database {
    async fn create(url: &str, options: &str) -> Database {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("schema_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        // Shown with the panic, if there is one.
        eprintln!("{name} on {url}");
        let config: PgConfig = url.parse().expect("a URL");
        let admin = connect(&config).await;
        admin
            .batch_execute(&format!("create database {name} template template0 {options}"))
            .await
            .expect("create");
        let client = connect(config.clone().dbname(&name)).await;
        Database { url: url.to_string(), name, client }
    }

    async fn connect_as(&self, role: &str) -> Client {
        let mut config: PgConfig = self.url.parse().expect("a URL");
        connect(config.dbname(&self.name).user(role).password("secret")).await
    }

    async fn run(&self, sql: &str) {
        if let Err(error) = self.client.batch_execute(sql).await {
            panic!("{sql}: {error:?}");
        }
    }

    async fn version(&self) -> i32 {
        let row = self.client.query_one("select current_setting('server_version_num')::int4", &[]).await;
        row.expect("version").get(0)
    }

    async fn load(&self, rules: &[TableRule]) -> Catalog {
        schema::load(&self.client, rules, None).await.expect("load")
    }

    async fn drop(self, roles: &[&str]) {
        for role in roles {
            self.run(&format!("drop owned by {role} cascade; drop role {role}")).await;
        }
        let config: PgConfig = self.url.parse().expect("a URL");
        let admin = connect(&config).await;
        admin.batch_execute(&format!("drop database {} with (force)", self.name)).await.expect("drop");
    }
}

fn rule(matches: &[&str]) -> TableRule {
    TableRule {
        matches: matches.iter().map(|s| s.to_string()).collect(),
        exclude: Vec::new(),
        exclude_columns: Vec::new(),
        mode: TableMode::Mirror,
    }
}

fn table<'c>(catalog: &'c Catalog, name: &str) -> &'c Arc<TableSchema> {
    catalog
        .tables
        .values()
        .find(|t| t.display_name() == name)
        .unwrap_or_else(|| panic!("{name} is not mirrored: {:?} {:?}", catalog.unsupported, catalog.warnings))
}

fn reason<'c>(catalog: &'c Catalog, name: &str) -> &'c str {
    match catalog.unsupported.iter().find(|t| format!("{}.{}", t.schema, t.name) == name) {
        Some(table) => &table.reason,
        None => panic!("{name} is not among the unsupported: {:?}", catalog.unsupported),
    }
}

fn indexes(table: &TableSchema) -> Vec<(&str, IndexKind, &[usize], bool)> {
    table.indexes.iter().map(|i| (i.name.as_str(), i.kind, i.columns.as_slice(), i.unique)).collect()
}

/// The shared server of each version, as its superuser.
fn urls() -> Vec<String> {
    servers().iter().map(|shared| shared.server().url("postgres", "postgres")).collect()
}

/// The mirrored tables in order of name.
async fn tables_of(catalog: &Catalog) -> Vec<Arc<TableSchema>> {
    let mut tables: Vec<_> = catalog.tables.values().cloned().collect();
    tables.sort_by_key(|t| t.display_name());
    tables
}
