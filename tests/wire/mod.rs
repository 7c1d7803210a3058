//! The port against real primaries: what a client gets here is what it gets there.

mod abuse;
mod clients;
mod copy;
mod cursors;
mod differential;
mod encryption;
mod false_primary;
mod hostile;
mod login;
mod pool;
mod raw;
mod sessions;
mod side_by_side;
mod transactions;
mod verifier;

use crate::support::{client, mirror::Mirror, postgres::Database};

/// A primary with a table that is mirrored (`cached`) and one that is not (`plain`), and Millpond
/// before it.
pub(crate) struct Ports {
    pub(crate) mirror: Mirror,
    pub(crate) primary: tokio_postgres::Client,
    pub(crate) database: String,
    primary_url: String,
}

const SETUP: &str = "
    create table cached (id int primary key, name text, at timestamptz, amount numeric(12, 2));
    insert into cached
        select g, 'name ' || g, '2024-01-01 00:00:00+00'::timestamptz + g * interval '1 day', g / 7.0
        from generate_series(1, 1000) g;
    create table plain (id int primary key, name text);
    create table bare (id int, name text);
    create schema other;
    create table other.cached (id int, name text);
    insert into other.cached values (1, 'other');
    insert into plain select id, name from cached where id <= 100";

impl Ports {
    /// `more` is further configuration in TOML.
    pub(crate) async fn start(database: &Database, more: &str) -> Ports {
        let primary = database.connect().await;
        client::execute(&primary, SETUP).await;
        let mirror = Mirror::begin(&database.url, "[\"cached\"]", more);
        mirror.wait_live("cached").await;
        Ports { mirror, primary, database: database.name.clone(), primary_url: database.url.clone() }
    }

    /// Start with writes handed on.
    pub(crate) async fn start_writing(database: &Database) -> Ports {
        Ports::start(database, "[fallthrough]\nwrites = \"forward\"\n[freshness]\nwait_timeout = \"10s\"")
            .await
    }

    pub(crate) fn port(&self) -> u16 {
        self.mirror.daemon.address().port()
    }

    pub(crate) fn primary_port(&self) -> u16 {
        let config: tokio_postgres::Config = self.primary_url.parse().expect("a URL");
        config.get_ports()[0]
    }

    pub(crate) fn url(&self, user: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/{}", self.port(), self.database)
    }

    pub(crate) fn primary_url(&self) -> &str {
        &self.primary_url
    }

    pub(crate) async fn client(&self) -> tokio_postgres::Client {
        client::connect(&self.url("postgres")).await
    }

    /// A client here and one at the primary.
    pub(crate) async fn raw(&self) -> (raw::RawClient, raw::RawClient) {
        let here = raw::RawClient::login(self.port(), "postgres", &self.database).await;
        (here, raw::RawClient::login(self.primary_port(), "postgres", &self.database).await)
    }

    pub(crate) async fn stop(self) {
        drop(self.primary);
        self.mirror.stop().await;
    }
}

/// How the last statement was answered.
pub(crate) async fn route(client: &tokio_postgres::Client) -> String {
    client::value(client, "show millpond.last_route").await
}
