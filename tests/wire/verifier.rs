//! `auth.method = "verifier"`: the primary's verifiers, and nobody whom the primary would refuse.

use super::{login::Guarded, route};
use crate::support::{
    client::{execute, rows, try_connect, value},
    postgres::{newest, servers},
    wait::wait_until,
};

const VERIFIER: &str = "[auth]\nmethod = \"verifier\"\n[limits]\nmax_upstream = 4\nmax_connections = 5000\n";

const CACHED: &str = "select id from cached where id = 1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_the_primary_refuses_is_refused() {
    for cluster in servers() {
        for auth in [VERIFIER, "[limits]\nmax_upstream = 4\n"] {
            let guarded = Guarded::start_on(cluster, auth).await;
            let direct = guarded.server.url("postgres", "postgres");
            let primary = try_connect(&direct).await.unwrap();
            let there = |user: &str, password: &str, database: &str| {
                format!("postgres://{user}:{password}@127.0.0.1:{}/{database}", guarded.server.port())
            };
            execute(&primary, "revoke connect on database other from public").await;
            let first = try_connect(&guarded.url("app", "sesame", "postgres")).await.unwrap();
            assert_eq!(value(&first, CACHED).await, "1");
            for (sql, password, database) in [
                ("select 1", "sesame", "postgres"),
                ("select 1", "wrong", "postgres"),
                ("select 1", "sesame", "nowhere"),
                ("select 1", "sesame", "other"),
                ("grant connect on database other to app", "sesame", "other"),
                ("alter role app nologin", "sesame", "postgres"),
                ("alter role app nologin", "wrong", "postgres"),
                ("alter role app login valid until '2000-01-01'", "sesame", "postgres"),
                ("alter role app valid until 'infinity' password 'new'", "sesame", "postgres"),
                ("select 1", "new", "postgres"),
                ("alter role app password null", "new", "postgres"),
                (
                    "set password_encryption = 'md5'; alter role app password 'md5'; reset password_encryption",
                    "other",
                    "postgres",
                ),
                ("alter role app password 'sesame' connection limit 0", "sesame", "postgres"),
                ("alter role app connection limit -1", "sesame", "postgres"),
                ("alter database other allow_connections false", "sesame", "other"),
                ("alter database other allow_connections true", "sesame", "other"),
                (
                    "alter role app rename to renamed; alter role renamed password 'sesame'",
                    "sesame",
                    "postgres",
                ),
                ("alter role renamed rename to app; alter role app password 'sesame'", "sesame", "postgres"),
            ] {
                execute(&primary, sql).await;
                let code = async |url: String| match try_connect(&url).await {
                    Ok(client) => value(&client, "select current_user").await,
                    Err(error) => error.code().map_or_else(|| format!("{error:?}"), |c| c.code().to_owned()),
                };
                let here = code(guarded.url("app", password, database)).await;
                assert_eq!(here, code(there("app", password, database)).await, "{auth}{sql} {database}");
            }
            drop(first);
            guarded.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_share_few_connections() {
    for cluster in servers() {
        let guarded = Guarded::start_on(cluster, VERIFIER).await;
        let primary = try_connect(&guarded.server.url("postgres", "postgres")).await.unwrap();
        execute(&primary, "create role peer login password 'other'; grant select on cached to peer").await;
        execute(&primary, "create table kept (a int); grant all on kept to app").await;
        let mut clients = Vec::new();
        for _ in 0..60 {
            for (user, password) in [("app", "sesame"), ("peer", "other")] {
                let client = try_connect(&guarded.url(user, password, "postgres")).await.unwrap();
                clients.push((user, client));
            }
        }
        let count = "select count(*) from pg_stat_activity where usename in ('app', 'peer')";
        assert!(value(&primary, count).await.parse::<usize>().unwrap() <= 4);
        wait_until("the grant is known here", async || {
            let (_, client) = &clients[1];
            value(client, CACHED).await == "1" && route(client).await == "point"
        })
        .await;
        for (user, client) in &clients {
            assert_eq!(value(client, "select session_user").await, *user);
            assert_eq!(value(client, CACHED).await, "1");
            assert_eq!(route(client).await, "point");
        }
        // Settings of the role are those of the login, also where it had no connection.
        execute(
            &primary,
            "alter role app set timezone = 'Asia/Tokyo'; alter role app set app.tenant = 'two'",
        )
        .await;
        let later = try_connect(&guarded.url("app", "sesame", "postgres")).await.unwrap();
        assert_eq!(
            value(&later, "select current_setting('app.tenant') || current_setting('timezone')").await,
            "twoAsia/Tokyo"
        );
        let at = |client| rows(client, "show timezone");
        assert_ne!(at(&clients[0].1).await, at(&later).await);
        assert!(value(&primary, count).await.parse::<usize>().unwrap() <= 4);
        drop((clients, later));
        guarded.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn startup_parameters_reach_no_query_of_ours() {
    let guarded = Guarded::start_on(newest(), VERIFIER).await;
    let primary = try_connect(&guarded.server.url("postgres", "postgres")).await.unwrap();
    execute(
        &primary,
        "create schema evil; grant usage on schema evil to public;
         create table evil.seen (who text);
         create function evil.verifier(text, text) returns setof record language sql
             as $$insert into evil.seen values (current_user); select null::record$$;
         create function evil.concat_ws(text, variadic \"any\") returns text language internal as 'text_concat_ws';
         create function evil.eq(text, text) returns boolean language sql
             as $$select true$$;
         create operator evil.= (leftarg = text, rightarg = text, function = evil.eq)",
    )
    .await;
    let mut config: tokio_postgres::Config = guarded.url("app", "sesame", "postgres").parse().unwrap();
    config.options("-c search_path=evil,pg_catalog");
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(value(&client, "select current_setting('search_path')").await, "evil,pg_catalog");
    assert_eq!(guarded.refused("nobody", "sesame").await, "28P01");
    assert_eq!(value(&primary, "select count(*) from evil.seen").await, "0");
    // Without the function nobody gets in, and the log says why.
    execute(&primary, "drop function millpond.verifier(text, text)").await;
    assert_eq!(guarded.refused("app", "sesame").await, "28000");
    execute(&primary, &include_str!("../../sql/verifier.sql").replace("<role>", "postgres")).await;
    wait_until("logins work again", async || {
        try_connect(&guarded.url("app", "sesame", "postgres")).await.is_ok()
    })
    .await;
    guarded.stop().await;
}
