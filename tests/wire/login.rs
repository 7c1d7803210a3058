//! Who gets in: exactly those whom the primary lets in.

use std::time::Duration;

use millpond::{
    cli::demo::server::{Auth, Server, ServerOptions},
    config::Config,
    daemon::Daemon,
    lifecycle::shutdown::Shutdown,
};

use super::raw::{RawClient, startup};
use crate::support::{
    client::{execute, try_connect, value},
    postgres::{Shared, newest},
};

pub(super) struct Guarded {
    pub(super) server: Server,
    daemon: Daemon,
    shutdown: Shutdown,
}

impl Guarded {
    /// A primary that asks for passwords, with a user `app` (password `sesame`).
    pub(super) async fn start(auth: &str) -> Guarded {
        Guarded::start_on(newest(), auth).await
    }

    /// With the function of `sql/verifier.sql`.
    pub(super) async fn start_on(cluster: &Shared, auth: &str) -> Guarded {
        let server = cluster.dedicated(ServerOptions {
            auth: Auth::Scram { password: "secret".into() },
            ..ServerOptions::default()
        });
        let url = server.url("postgres", "postgres");
        let primary = try_connect(&url).await.expect("the superuser gets in");
        execute(
            &primary,
            "create role app login password 'sesame'; create table cached (id int primary key);
             insert into cached values (1); grant select on cached to app",
        )
        .await;
        execute(&primary, "create database other").await;
        let function = include_str!("../../sql/verifier.sql").replace("<role>", "postgres");
        execute(&primary, &function).await;
        let toml = format!(
            "[primary]\nurl = \"{url}\"\n[listen]\naddress = \"127.0.0.1:0\"\n[admin]\nlisten = \"\"\n\
             [[tables]]\nmatch = [\"cached\"]\n{auth}"
        );
        let config = Config::from_toml(&toml).unwrap_or_else(|errors| panic!("{errors}"));
        let shutdown = Shutdown::new();
        let daemon = Daemon::start(config, shutdown.clone()).expect("the daemon starts");
        tokio::time::timeout(Duration::from_secs(60), daemon.ready()).await.expect("ready");
        Guarded { server, daemon, shutdown }
    }

    pub(super) fn url(&self, user: &str, password: &str, database: &str) -> String {
        format!("postgres://{user}:{password}@127.0.0.1:{}/{database}", self.daemon.address().port())
    }

    pub(super) async fn refused(&self, user: &str, password: &str) -> String {
        match try_connect(&self.url(user, password, "postgres")).await {
            Ok(_) => panic!("{user} got in"),
            Err(error) => error.code().unwrap_or_else(|| panic!("{error:?}")).code().to_owned(),
        }
    }

    pub(super) async fn stop(self) {
        self.shutdown.request("the test is done");
        self.daemon.finished().await.expect("a clean end");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_primary_admits_each_client() {
    let guarded = Guarded::start("").await;
    let primary = try_connect(&guarded.server.url("postgres", "postgres")).await.unwrap();
    let client = try_connect(&guarded.url("app", "sesame", "postgres")).await.unwrap();
    assert_eq!(value(&client, "select current_user").await, "app");
    assert_eq!(value(&client, "select id from cached where id = 1").await, "1");
    assert_eq!(value(&client, "show millpond.last_route").await, "point");
    let other = try_connect(&guarded.url("app", "sesame", "other")).await.unwrap();
    assert_eq!(value(&other, "select current_database()").await, "other");

    assert_eq!(guarded.refused("app", "wrong").await, "28P01");
    assert_eq!(guarded.refused("nobody", "sesame").await, "28P01");
    assert_eq!(
        try_connect(&guarded.url("app", "sesame", "nowhere")).await.err().unwrap().code().unwrap().code(),
        "3D000"
    );
    execute(&primary, "alter role app nologin").await;
    assert_eq!(guarded.refused("app", "sesame").await, "28000");
    execute(&primary, "alter role app login valid until '2000-01-01'").await;
    assert_eq!(guarded.refused("app", "sesame").await, "28P01");

    // From our address the primary asks for nothing.
    guarded
        .server
        .set_hba("host all all all trust\nlocal all all trust\nhost replication all all trust")
        .unwrap();
    execute(&primary, "alter role app valid until 'infinity'").await;
    let error = try_connect(&guarded.url("app", "sesame", "postgres")).await.map(drop).expect_err("refused");
    let error = error.as_db_error().expect("an error of the server");
    assert_eq!(error.code().code(), "28000");
    assert!(error.hint().is_some_and(|hint| hint.contains("auth.allow_trust")), "{error:?}");
    guarded.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_own_scram_and_trust() {
    let users = "[auth.users]\napp = \"sesame\"\nwrong = \"other\"\n";
    let guarded = Guarded::start(&format!("[auth]\nmethod = \"scram\"\n{users}")).await;
    let client = try_connect(&guarded.url("app", "sesame", "postgres")).await.unwrap();
    assert_eq!(value(&client, "select current_user").await, "app");
    assert_eq!(guarded.refused("app", "Sesame").await, "28P01");
    assert_eq!(guarded.refused("unknown", "sesame").await, "28P01");
    assert_eq!(guarded.refused("wrong", "other").await, "28P01", "the primary does not know it");
    guarded.stop().await;

    let guarded = Guarded::start(&format!("[auth]\nmethod = \"trust\"\n{users}")).await;
    let client = try_connect(&guarded.url("app", "whatever", "postgres")).await.unwrap();
    assert_eq!(value(&client, "select current_user").await, "app");
    assert!(!value(&client, "show server_version").await.is_empty());
    guarded.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_of_a_role_are_told() {
    let guarded = Guarded::start("[limits]\nmax_connections_per_role = 1\n").await;
    let first = try_connect(&guarded.url("app", "sesame", "postgres")).await.unwrap();
    let error = try_connect(&guarded.url("app", "sesame", "postgres")).await.map(drop).unwrap_err();
    let error = error.as_db_error().expect("an error of the server").clone();
    assert_eq!((error.code().code(), error.message()), ("53300", "too many connections for role \"app\""));
    assert_eq!(guarded.refused("app", "wrong").await, "28P01", "only who could log in is told");
    assert!(try_connect(&guarded.url("postgres", "secret", "postgres")).await.is_ok());
    drop(first);
    guarded.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_clients_are_told() {
    let guarded = Guarded::start("[limits]\nmax_connections = 2\n").await;
    let first = try_connect(&guarded.url("app", "sesame", "postgres")).await.unwrap();
    let second = try_connect(&guarded.url("app", "sesame", "postgres")).await.unwrap();
    assert_eq!(guarded.refused("app", "sesame").await, "53300");
    drop((first, second));
    crate::support::wait::wait_until("there is room again", async || {
        try_connect(&guarded.url("app", "sesame", "postgres")).await.is_ok()
    })
    .await;
    let newer = startup(196_608 + 5, &[("user", "app"), ("_pq_.option", "x")]);
    let mut raw = RawClient::open(guarded.daemon.address().port()).await;
    raw.send(&newer).await;
    let negotiated = raw.next().await.expect("an answer");
    assert_eq!((negotiated.tag, &negotiated.body[..4]), ('v', &196_610_u32.to_be_bytes()[..]));
    assert!(negotiated.body.ends_with(b"_pq_.option\0"));
    guarded.stop().await;
}
