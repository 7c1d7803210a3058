//! Drivers and tools as applications use them.

use std::process::Stdio;

use futures_util::{TryStreamExt, future::join_all, pin_mut};
use sqlx::{Connection, Row};

use super::{Ports, route};
use crate::support::{
    client,
    postgres::{newest, on_each_version},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokio_postgres_prepares_and_pipelines() {
    on_each_version(async |database| {
        let ports = Ports::start_writing(&database).await;
        let client = ports.client().await;
        let sql = "select id, name from cached where id = $1";
        let statement = client.prepare(sql).await.unwrap();
        for id in [1, 500, 1000] {
            let row = client.query_one(&statement, &[&id]).await.unwrap();
            assert_eq!((row.get::<_, i32>(0), row.get::<_, String>(1)), (id, format!("name {id}")));
            assert_eq!(route(&client).await, "point");
        }
        assert!(client.query_opt(&statement, &[&-1]).await.unwrap().is_none());

        let writing = client.prepare("insert into plain values ($1, 'new') returning id").await.unwrap();
        let ids: Vec<i32> = (2000..2040).collect();
        let mixed = join_all(ids.iter().map(|id| {
            let (client, statement, writing) = (&client, &statement, &writing);
            async move {
                let cached = *id - 1999;
                let write = async { client.query_one(writing, &[id]).await };
                let read = async { client.query_one(statement, &[&cached]).await };
                let (written, read) = tokio::join!(write, read);
                (written.unwrap().get::<_, i32>(0), read.unwrap().get::<_, i32>(0))
            }
        }));
        let expected: Vec<(i32, i32)> = ids.iter().map(|id| (*id, id - 1999)).collect();
        assert_eq!(mixed.await, expected, "pipelined answers are in order");

        let copied = client.copy_out("copy (select id from plain where id < 4 order by id) to stdout");
        let copied = copied.await.unwrap();
        pin_mut!(copied);
        let mut bytes = Vec::new();
        while let Some(part) = copied.try_next().await.unwrap() {
            bytes.extend_from_slice(&part);
        }
        assert_eq!(bytes, b"1\n2\n3\n");
        ports.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlx_reads_and_writes() {
    let database = newest().database().await;
    let ports = Ports::start_writing(&database).await;
    let mut connection = sqlx::PgConnection::connect(&ports.url("postgres")).await.unwrap();
    for id in 1..=20 {
        let row = sqlx::query("select name from cached where id = $1").bind(id);
        let row = row.fetch_one(&mut connection).await.unwrap();
        assert_eq!(row.get::<String, _>(0), format!("name {id}"));
    }
    let mut transaction = connection.begin().await.unwrap();
    sqlx::query("update cached set name = 'changed' where id = $1")
        .bind(5)
        .execute(&mut *transaction)
        .await
        .unwrap();
    let row = sqlx::query("select name from cached where id = $1").bind(5).fetch_one(&mut *transaction);
    assert_eq!(row.await.unwrap().get::<String, _>(0), "changed", "its own write, within the transaction");
    transaction.commit().await.unwrap();
    let row = sqlx::query("select name from cached where id = $1").bind(5).fetch_one(&mut connection);
    assert_eq!(row.await.unwrap().get::<String, _>(0), "changed", "its own write, afterwards");
    connection.close().await.unwrap();
    ports.stop().await;
}

fn values(row: &tokio_postgres::Row) -> String {
    let value = |i| match row.try_get::<_, Option<String>>(i) {
        Ok(text) => format!("{text:?}"),
        Err(_) => format!("{:?}", row.try_get::<_, Option<i32>>(i).ok()),
    };
    (0..row.len()).map(value).collect::<Vec<_>>().join(", ")
}

/// What tokio-postgres sees of a server: values in binary, types, tags, errors with all their fields.
async fn seen_by_tokio_postgres(url: &str) -> Vec<String> {
    let client = client::connect(url).await;
    let mut seen = Vec::new();
    for (sql, id) in [
        ("select id, name, at::text, amount::text from cached where id = $1", 7),
        ("select id, name from cached where id = $1", 8),
        ("select id, name from cached where id = $1", -1),
        ("select name from plain where id = $1", 3),
        ("select 1 / $1::int", 0),
        ("select nothing from cached where id = $1", 1),
        ("insert into plain values ($1, 'taken')", 1),
        ("update cached set name = name where id = $1", 9),
        ("select $1::int / 0", 1),
    ] {
        let statement = match client.prepare(sql).await {
            Ok(statement) => statement,
            Err(error) => {
                seen.push(format!("{sql}: {:?}", error.as_db_error()));
                continue;
            }
        };
        seen.push(format!("{sql}: {:?} {:?}", statement.params(), statement.columns()));
        match client.query(&statement, &[&id]).await {
            Ok(rows) => seen.extend(rows.iter().map(values)),
            Err(error) => seen.push(format!("{:?}", error.as_db_error())),
        }
    }
    let mut client = client;
    let transaction = client.transaction().await.unwrap();
    seen.push(format!(
        "{:?}",
        transaction.execute("update cached set name = 'x' where id < 4", &[]).await.ok()
    ));
    let statement = transaction.prepare("select id from cached order by id").await.unwrap();
    let portal = transaction.bind(&statement, &[]).await.unwrap();
    for rows in [3, 2] {
        let part = transaction.query_portal(&portal, rows).await.unwrap();
        seen.push(format!("{:?}", part.iter().map(|row| row.get(0)).collect::<Vec<i32>>()));
    }
    transaction.rollback().await.unwrap();
    let token = client.cancel_token();
    let sleeping = client.batch_execute("select pg_sleep(60)");
    let canceling = async {
        // A cancel that comes before its statement is lost.
        loop {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            token.cancel_query(tokio_postgres::NoTls).await.unwrap();
        }
    };
    tokio::select! {
        slept = sleeping => seen.push(format!("{:?}", slept.map_err(|e| e.as_db_error().cloned()))),
        () = canceling => {}
    }
    let mut after = client.query("select name from cached where id = 4", &[]).await;
    while after.is_err() {
        // One cancel may have been late.
        after = client.query("select name from cached where id = 4", &[]).await;
    }
    seen.push(after.unwrap()[0].get(0));
    seen
}

/// What sqlx sees of one: its own reading of types, rows in binary, errors.
async fn seen_by_sqlx(url: &str) -> Vec<String> {
    let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
    let mut seen = Vec::new();
    for sql in [
        "select id, name, at, amount from cached where id = $1",
        "select id, name from plain where id = $1",
        "select array_agg(id) from plain where id <= $1",
        "select 1 / ($1 - 7)",
        "select nothing from cached where id = $1",
        "insert into plain values ($1, 'taken')",
    ] {
        for _ in 0..2 {
            match sqlx::query(sql).bind(7).fetch_all(&mut connection).await {
                Ok(rows) => {
                    let columns = |row: &sqlx::postgres::PgRow| format!("{:?}", row.columns());
                    seen.extend(
                        rows.iter().map(|row| {
                            format!("{sql}: {} {:?}", columns(row), row.try_get::<i32, _>(0).ok())
                        }),
                    );
                }
                Err(error) => seen.push(format!("{sql}: {error:?}")),
            }
        }
    }
    let mut transaction = connection.begin().await.unwrap();
    let changed = sqlx::query("update cached set name = 'y' where id < 4").execute(&mut *transaction).await;
    seen.push(format!("{:?}", changed.map(|done| done.rows_affected()).ok()));
    transaction.rollback().await.unwrap();
    let row = sqlx::query("select name from cached where id = 3").fetch_one(&mut connection).await.unwrap();
    seen.push(row.get(0));
    connection.close().await.unwrap();
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rust_drivers_see_the_same() {
    on_each_version(async |database| {
        let ports = Ports::start_writing(&database).await;
        let url = ports.url("postgres");
        assert_eq!(seen_by_tokio_postgres(&url).await, seen_by_tokio_postgres(ports.primary_url()).await);
        assert_eq!(seen_by_sqlx(&url).await, seen_by_sqlx(ports.primary_url()).await);
        ports.stop().await;
    })
    .await;
}

/// psql's own queries of the catalogue, and its variables, are the primary's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_describes_a_table() {
    let database = newest().database().await;
    let ports = Ports::start_writing(&database).await;
    let psql = async |url: &str| {
        let output = tokio::process::Command::new("psql")
            .args(["-X", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", "\\d cached", "-c", "\\l"])
            .args(["-c", "select id, name from cached where id < 4 order by id"])
            // By a cursor, four rows at a time.
            .args(["-v", "FETCH_COUNT=4", "-c", "select id, name from cached where id < 11 order by id"])
            .args([
                "-c",
                "\\copy (select id, name from cached where id < 4 order by id) to stdout csv header",
            ])
            .stdin(Stdio::null())
            .output()
            .await;
        match output {
            // An older psql's \l may not know a newer server: then both ports say so.
            Ok(output) => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                Some((output.status.code(), text(&output.stdout), text(&output.stderr)))
            }
            // Not on this machine: the protocol is compared elsewhere as well.
            Err(_) => None,
        }
    };
    let (here, there) = (psql(&ports.url("postgres")).await, psql(ports.primary_url()).await);
    assert_eq!(here, there);
    assert!(here.is_none_or(|(_, table, _)| table.contains("Table \"public.cached\"")), "\\d describes it");
    let client = ports.client().await;
    assert_eq!(client::value(&client, "select count(*) from pg_class where relname = 'plain'").await, "1");
    ports.stop().await;
}
