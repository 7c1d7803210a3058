//! COPY TO STDOUT of rows in memory: byte for byte the primary's.

use super::{
    Ports,
    differential::{compare, same_settings},
    raw::{bind, describe, execute, parse, query, sync},
};
use crate::support::{client::execute as run, postgres::on_each_version};

const ODD: &str = r#"
    create table odd (id int primary key, "Te xt" text, bytes bytea, amount numeric, flag bool, at timestamptz, part date);
    insert into odd values
        (1, 'plain', '\x00ff', 1.50, true, '2024-01-01 00:00:00+00', '2024-02-29'),
        (2, '', '', 'NaN', false, 'infinity', '-infinity'),
        (3, null, null, null, null, null, null),
        (4, E'tab\there, back\\slash, new\nline, return\r, bell\x07, feed\f, vertical\v, back\b', '\x5c', -0.001, true, null, null),
        (5, 'comma, "quoted" ''single'' | bar ; semi', null, 12345678901234567890, null, null, null),
        (6, '\N', null, null, null, null, null),
        (7, '\.', null, null, null, null, null),
        (8, 'NULL', null, null, null, null, null),
        (9, 'ünïcödé 日本', null, null, null, null, null);
    create table parts (id int primary key) partition by range (id);
    create table parts_1 partition of parts for values from (0) to (100);
    insert into parts select generate_series(1, 5);
    create table made (id int primary key, twice int generated always as (id * 2) stored);
    insert into made values (1), (2);
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_form() {
    let options = [
        "",
        "csv",
        "binary",
        "csv header",
        "with csv header quote '''' escape '\\'",
        "csv force quote *",
        "(format csv, force_quote (\"Te xt\"), null 'NULL')",
        "(format csv, delimiter ';', header true)",
        "(format csv, delimiter E'\\t', null '\\N')",
        "(format text, delimiter '|', null 'NULL')",
        "(delimiter ',', null '')",
        "delimiter as '|' null as '-'",
        "(format binary)",
        "(header)",
        "(format csv, encoding 'utf8')",
        "(format csv, encoding 'latin1', force_quote (id))",
        // Refused by PostgreSQL.
        "(format csv, quote ',')",
        "(delimiter 'ab')",
        "(delimiter 'a')",
        "(format binary, delimiter ',')",
        "(format csv, force_quote (nothing))",
        "(force_quote *)",
        "(format nonsense)",
        "(format csv, format csv)",
        "(nonsense)",
    ];
    let sources = [
        ("(select id, \"Te xt\", bytes, amount, flag, at, part from odd order by id)", true),
        ("(select \"Te xt\" from odd order by id)", true),
        ("(select id, \"Te xt\" from odd where id < 0)", true),
        ("odd", true),
        ("public.odd (\"Te xt\", id)", true),
        ("odd (id, id)", false),
        ("odd (nothing)", false),
        ("parts", false),
        ("(select id from parts order by id)", true),
        ("made", false),
        ("made (id)", true),
        ("made (twice)", false),
        ("(select id, 1/0 from plain)", false),
        ("nowhere", false),
        ("plain (id)", false),
    ];
    on_each_version(async |database| {
        let primary = database.connect().await;
        run(&primary, ODD).await;
        let more = "[fallthrough]\nwrites = \"forward\"\n[[tables]]\nmatch = [\"odd\", \"parts\", \"made\"]";
        let ports = Ports::start(&database, more).await;
        for table in ["odd", "parts", "made"] {
            ports.mirror.wait_live(table).await;
        }
        let (mut here, mut there) = ports.raw().await;
        same_settings(&mut here, &mut there).await;
        for (source, local) in sources {
            for option in options {
                let sql = format!("copy {source} to stdout {option}");
                compare(&mut here, &mut there, &sql, &[query(&sql)]).await;
                let plain =
                    matches!(option, "" | "csv" | "binary" | "csv header" | "(delimiter ',', null '')");
                if local && plain {
                    let route = here.value("show millpond.last_route").await;
                    assert!(!route.starts_with("primary"), "{sql}: {route}");
                }
            }
        }
        let ext =
            |sql: &str| vec![parse("", sql, &[]), describe('S', ""), bind("", "", &[], &[]), execute("", 0)];
        let script = [
            vec![query("begin")],
            ext("copy odd to stdout"),
            ext("copy (select id from odd order by id) to stdout csv"),
            vec![sync(), query("copy odd (id) to stdout binary"), query("commit")],
            ext("copy odd to stdout"),
            ext("copy nowhere to stdout"),
            vec![
                sync(),
                query("begin"),
                query("copy nowhere to stdout"),
                query("copy odd to stdout"),
                query("commit"),
            ],
            vec![query("copy (select id from odd where id = 1) to stdout; copy odd to stdout; select 1")],
        ]
        .concat();
        compare(&mut here, &mut there, "in transactions", &script).await;
        ports.stop().await;
    })
    .await;
}

/// A role gets by COPY what it gets by SELECT.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn privileges() {
    on_each_version(async |database| {
        let ports = Ports::start_writing(&database).await;
        let role = format!("copier_{}", database.name);
        run(&ports.primary, &format!("create role {role}; grant select (id) on cached to {role}")).await;
        ports.mirror.catch_up(&ports.primary).await;
        let (mut here, mut there) = ports.raw().await;
        same_settings(&mut here, &mut there).await;
        let script = [
            format!("set role {role}"),
            "copy cached (id) to stdout".into(),
            "copy cached to stdout".into(),
            "copy cached (name) to stdout".into(),
            "copy (select name from cached) to stdout".into(),
            "reset role".into(),
        ]
        .map(|sql| query(&sql));
        compare(&mut here, &mut there, "as another role", &script).await;
        run(
            &ports.primary,
            &format!(
                "grant select on cached to {role}; alter table cached enable row level security;
                 create policy few on cached using (id < 3)"
            ),
        )
        .await;
        compare(&mut here, &mut there, "with policies", &script).await;
        run(&ports.primary, &format!("drop owned by {role}; drop role {role}")).await;
        ports.stop().await;
    })
    .await;
}
