//! The catalogue, the publication and the preflight, against real servers.
//!
//! Each case makes databases of its own. The servers are named by `MILLPOND_TEST_URLS`: superuser
//! URLs with commas between them, each of a server with `wal_level = logical`.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use millpond::{
    catalog::Catalog,
    config::*,
    source::{
        preflight::{self, Level},
        publication::{self, PublicationError},
        schema::{self, SchemaError, TableChangeKind},
    },
    types::{CollationOrder, IndexKind, PgType, ReplicaIdentity, TableOid, TableSchema, TypeKind, TypeOid},
};
use tokio_postgres::{Client, Config as PgConfig, NoTls};

fn urls() -> Vec<String> {
    let urls = std::env::var("MILLPOND_TEST_URLS").expect("MILLPOND_TEST_URLS names the servers");
    urls.split(',').map(str::to_string).collect()
}

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

// ---------------------------------------------------------------------------------------------
// The catalogue
// ---------------------------------------------------------------------------------------------

async fn every_kind_of_table(url: &str) {
    let db = Database::create(url, "encoding 'UTF8' locale 'C.UTF-8'").await;
    let version = db.version().await;
    db.run(
        r#"
        create schema app;
        create table plain (id int primary key, name text collate "C", note text, n numeric(10,2) not null);
        create index plain_name on plain (name, id);
        create index plain_note on plain using btree (note) include (n);
        create index plain_half on plain (n) where n > 0;
        create index plain_lower on plain (lower(note));
        create index plain_again on plain (name, id);
        create index plain_hash on plain using hash (n);
        create table app."Order" (a int, b text, primary key (b, a));
        create table no_key (a int);
        create table deferred (a int primary key deferrable);
        create table nothing (a int primary key);
        alter table nothing replica identity nothing;
        create table whole (a int, b json);
        alter table whole replica identity full;
        create table chosen (a int primary key, b int not null unique);
        alter table chosen replica identity using index chosen_b_key;
        create table bereft (a int primary key, b int not null unique);
        alter table bereft replica identity using index bereft_b_key;
        alter table bereft drop constraint bereft_b_key;
        create unlogged table unlogged (a int primary key);
        create view v as select * from plain;
        create materialized view m as select * from plain;
        create table parent (a int primary key);
        create table child () inherits (parent);
        create table empty ();
        create sequence counter;
        create table parts (a int, b text, primary key (a)) partition by range (a);
        create table parts_1 partition of parts for values from (0) to (10);
        create table parts_2 partition of parts for values from (10) to (20) partition by range (a);
        create table parts_2a (b text, a int not null, primary key (a));
        alter table parts_2 attach partition parts_2a for values from (10) to (15);
        create table uneven (a int primary key, b int) partition by range (a);
        create table uneven_1 partition of uneven for values from (0) to (10);
        alter table uneven_1 replica identity full;
        create table guarded (a int primary key);
        alter table guarded enable row level security;
        create table named (a regclass, b int primary key);
        create table computed (a int primary key, b int generated always as (a + 1) stored, c int);
        create table dropped (a int, b int, c int primary key);
        alter table dropped drop column a;
        "#,
    )
    .await;
    let catalog = db.load(&[rule(&["*.*"])]).await;
    assert_eq!(catalog.database, db.name);
    assert_eq!(catalog.server_version_num as i32, version);
    assert_eq!(catalog.warnings, Vec::<String>::new());
    let mut names: Vec<String> = catalog.tables.values().map(|t| t.display_name()).collect();
    names.sort();
    assert_eq!(
        names,
        [
            "app.Order",
            "public.chosen",
            "public.computed",
            "public.dropped",
            "public.guarded",
            "public.parts",
            "public.plain",
            "public.whole"
        ]
    );
    assert_eq!(catalog.stamps.len(), names.len());

    let plain = table(&catalog, "public.plain");
    let columns: Vec<_> = plain
        .columns
        .iter()
        .map(|c| (c.name.as_str(), c.attnum.0, c.pg_type.oid.0, c.typmod, c.not_null, c.collation.order))
        .collect();
    assert_eq!(
        columns,
        [
            ("id", 1, 23, -1, true, CollationOrder::None),
            ("name", 2, 25, -1, false, CollationOrder::Bytes),
            ("note", 3, 25, -1, false, CollationOrder::Deterministic),
            ("n", 4, 1700, ((10 << 16) | 2) + 4, true, CollationOrder::None),
        ]
    );
    assert_eq!(plain.identity, ReplicaIdentity::Key(vec![0]));
    assert_eq!(
        indexes(plain),
        [
            ("identity", IndexKind::Identity, &[0][..], true),
            ("plain_pkey", IndexKind::Ordered, &[0], true),
            ("plain_pkey", IndexKind::Hash, &[0], true),
            ("plain_again", IndexKind::Ordered, &[1, 0], false),
            ("plain_hash", IndexKind::Hash, &[3], false),
            ("plain_note", IndexKind::Hash, &[2], false),
        ]
    );
    let order = table(&catalog, "app.Order");
    assert_eq!(order.identity, ReplicaIdentity::Key(vec![1, 0]));
    assert_eq!(
        indexes(order),
        [
            ("identity", IndexKind::Identity, &[1, 0][..], true),
            ("Order_pkey", IndexKind::Hash, &[1, 0], true)
        ]
    );
    let whole = table(&catalog, "public.whole");
    assert_eq!(whole.identity, ReplicaIdentity::Full);
    assert_eq!(indexes(whole), [("identity", IndexKind::Identity, &[0, 1][..], false)]);
    let chosen = table(&catalog, "public.chosen");
    assert_eq!(chosen.identity, ReplicaIdentity::Key(vec![1]));
    let parts = table(&catalog, "public.parts");
    assert!(parts.partitioned && !plain.partitioned);
    assert_eq!(parts.identity, ReplicaIdentity::Key(vec![0]));
    let computed = table(&catalog, "public.computed");
    assert_eq!(computed.unmirrored, ["b"]);
    assert_eq!(computed.columns.iter().map(|c| c.attnum.0).collect::<Vec<_>>(), [1, 3]);
    let dropped = table(&catalog, "public.dropped");
    assert_eq!(dropped.columns.iter().map(|c| c.attnum.0).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(dropped.identity, ReplicaIdentity::Key(vec![1]));

    for (name, part) in [
        (
            "public.no_key",
            "no primary key; remedy: add a primary key, or alter table public.no_key replica identity full",
        ),
        ("public.deferred", "deferrable"),
        ("public.nothing", "NOTHING"),
        ("public.bereft", "index is gone"),
        ("public.unlogged", "alter table public.unlogged set logged"),
        ("public.v", "a view"),
        ("public.m", "materialized"),
        ("public.parent", "inheritance"),
        ("public.child", "inheritance"),
        ("public.empty", "without columns"),
        ("public.uneven", "partition public.uneven_1 has another replica identity"),
        ("public.named", "column a depends"),
    ] {
        assert!(reason(&catalog, name).contains(part), "{name}: {}", reason(&catalog, name));
    }
    assert_eq!(catalog.unsupported.len(), 12, "{:?}", catalog.unsupported);

    // The same identity remedy is one that works.
    db.run("alter table uneven_1 replica identity default; alter table no_key replica identity full").await;
    let catalog = db.load(&[rule(&["uneven", "no_key"])]).await;
    assert_eq!(catalog.tables.len(), 2);

    // Names as the primary resolves them.
    assert_eq!(catalog.resolve(["app", "public"], "plain").map(|r| r.kind), Some(b'r'));
    assert_eq!(catalog.resolve(["app", "public"], "plain_pkey").map(|r| r.kind), Some(b'i'));
    assert_eq!(catalog.relation("pg_catalog", "pg_class").map(|r| r.oid), Some(TableOid(1259)));
    assert!(catalog.relation("information_schema", "tables").is_some());
    assert_eq!(catalog.relation("app", "plain"), None);

    // What is named outright and cannot be.
    let catalog = db
        .load(&[rule(&["counter", "parts_1", "pg_catalog.pg_class", "nowhere", "app.x*", "plain_pkey"])])
        .await;
    assert!(catalog.tables.is_empty());
    assert!(reason(&catalog, "public.counter").contains("a sequence"));
    assert!(reason(&catalog, "public.parts_1").contains("choose the partitioned table itself"));
    assert!(reason(&catalog, "pg_catalog.pg_class").contains("system catalogue"));
    assert_eq!(
        catalog.warnings,
        [
            "table public.nowhere does not exist",
            "pattern \"app.x*\" matches no table",
            "table public.plain_pkey does not exist",
        ]
    );

    // Excluded columns.
    let mut secret = rule(&["plain", "app.Order", "whole", "computed"]);
    secret.exclude_columns =
        ["plain.note", "app.Order.a", "whole.b", "computed.b", "plain.nothing"].map(String::from).to_vec();
    let catalog = db.load(&[secret]).await;
    assert_eq!(catalog.warnings, ["exclude_columns: \"plain.nothing\" is no column of a chosen table"]);
    if version < 150_000 {
        // The stream can't leave columns out.
        assert!(reason(&catalog, "public.plain").contains("from PostgreSQL 15 on"));
    } else {
        assert_eq!(table(&catalog, "public.plain").unmirrored, ["note"]);
        assert_eq!(table(&catalog, "public.plain").columns.len(), 3);
        assert!(reason(&catalog, "app.Order").contains("not published"));
        assert!(reason(&catalog, "public.whole").contains("FULL publishes every column"));
    }

    // From 18 on the primary refuses updates where FULL meets a generated column.
    db.run("alter table computed replica identity full").await;
    let catalog = db.load(&[rule(&["computed"])]).await;
    assert_eq!(catalog.tables.is_empty(), version >= 180_000);
    db.run("create publication trial for table computed; insert into computed values (1)").await;
    let updated = db.client.batch_execute("update computed set c = 1").await;
    assert_eq!(updated.is_err(), version >= 180_000, "{updated:?}");

    if version >= 180_000 {
        // NOT NULL that old rows may break.
        db.run("create table late (a int primary key, b int); alter table late add not null b not valid")
            .await;
        db.run("create table virtual (a int primary key, b int generated always as (a + 1))").await;
        let catalog = db.load(&[rule(&["late", "virtual"])]).await;
        assert!(!table(&catalog, "public.late").columns[1].not_null);
        assert_eq!(table(&catalog, "public.virtual").unmirrored, ["b"]);
    }
    db.drop(&[]).await;
}

async fn every_kind_of_type(url: &str) {
    let db = Database::create(url, "encoding 'UTF8' locale 'C'").await;
    db.run(
        r#"
        set lc_monetary = 'C';
        create type mood as enum ('sad', 'glad');
        alter type mood add value 'so-so' before 'glad';
        create domain positive as int check (value > 0);
        create domain moods as mood[];
        create type pair as (a int, b text, c mood);
        alter type pair drop attribute a;
        create type span as range (subtype = float8);
        create domain paths as jsonpath[];
        create type path_pair as (a int, b jsonpath);
        create collation loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        create collation english (provider = icu, locale = 'en');
        create table t (
          id int primary key, b bool, c "char", n name, v varchar(5), ch char(3), m mood, p positive,
          ms moods, pr pair, prs pair[], sp span, r int4range, mr int4multirange, arr int[][], bx box[],
          o jsonpath, oa jsonpath[], od paths, op path_pair, cash money, vec oidvector,
          d text, l text collate loose, e text collate english, u text collate ucs_basic, x xml, ts tsvector
        );
        create index t_d on t (d); create index t_l on t (l); create index t_m on t (m);
        "#,
    )
    .await;
    let catalog = db.load(&[rule(&["t"])]).await;
    let t = table(&catalog, "public.t");
    let column = |name: &str| &t.columns[t.column_position(name).expect(name)];
    let kind = |name: &str| &column(name).pg_type.kind;
    let text = Arc::clone(&catalog.types[&TypeOid(25)]);
    let int4 = Arc::clone(&catalog.types[&TypeOid(23)]);
    assert_eq!((text.name.as_str(), text.len, &text.kind), ("text", -1, &TypeKind::Text));
    assert_eq!(kind("b"), &TypeKind::Bool);
    assert_eq!(kind("c"), &TypeKind::Char);
    assert_eq!((kind("n"), column("n").collation.order), (&TypeKind::Text, CollationOrder::Bytes));
    assert_eq!((kind("v"), column("v").typmod), (&TypeKind::Text, 9));
    assert_eq!((kind("ch"), column("ch").typmod), (&TypeKind::BpChar, 7));
    let mood = Arc::clone(&column("m").pg_type);
    assert_eq!(mood.kind, TypeKind::Enum(["sad", "so-so", "glad"].map(String::from).to_vec()));
    assert_eq!(kind("p"), &TypeKind::Domain(Arc::clone(&int4)));
    let TypeKind::Domain(moods) = kind("ms") else { panic!("{:?}", kind("ms")) };
    assert_eq!(moods.kind, TypeKind::Array { element: Arc::clone(&mood), delimiter: b',' });
    assert_eq!(kind("pr"), &TypeKind::Composite(vec![Arc::clone(&text), Arc::clone(&mood)]));
    let TypeKind::Array { element, .. } = kind("prs") else { panic!("{:?}", kind("prs")) };
    assert_eq!(element.name, "pair");
    assert_eq!(kind("sp"), &TypeKind::Range(Arc::clone(&catalog.types[&TypeOid(701)])));
    assert_eq!(kind("r"), &TypeKind::Range(Arc::clone(&int4)));
    assert_eq!(kind("mr"), &TypeKind::Multirange(Arc::clone(&int4)));
    assert_eq!(kind("arr"), &TypeKind::Array { element: Arc::clone(&int4), delimiter: b',' });
    assert!(matches!(kind("bx"), TypeKind::Array { delimiter: b';', .. }));
    for opaque in ["o", "oa", "od", "op", "vec"] {
        assert_eq!(kind(opaque), &TypeKind::Opaque, "{opaque}");
    }
    assert_eq!(kind("cash"), &TypeKind::Money);
    assert_eq!(kind("x"), &TypeKind::Xml);
    assert_eq!(kind("ts"), &TypeKind::TsVector);
    assert_eq!(column("d").collation.order, CollationOrder::Bytes);
    assert_eq!(column("l").collation.order, CollationOrder::Nondeterministic);
    assert_eq!(column("e").collation.order, CollationOrder::Deterministic);
    assert_eq!(column("u").collation.order, CollationOrder::Bytes);
    let kinds: Vec<_> = indexes(t).into_iter().map(|i| (i.0, i.1)).collect();
    assert_eq!(
        kinds,
        [
            ("identity", IndexKind::Identity),
            ("t_pkey", IndexKind::Ordered),
            ("t_pkey", IndexKind::Hash),
            ("t_d", IndexKind::Ordered),
        ]
    );

    // Every type that we say we know is the one that the server means by that OID, and the binder
    // finds all of them and their arrays.
    let rows = db
        .client
        .query("select oid, typname::text, typlen, typarray from pg_type where oid < 10000 and typtype in ('b', 'r', 'm')", &[])
        .await
        .expect("pg_type");
    let mut known = BTreeMap::new();
    for row in &rows {
        let ty: Option<&Arc<PgType>> = catalog.types.get(&TypeOid(row.get(0)));
        if let Some(ty) = ty {
            assert_eq!((ty.name.as_str(), ty.len), (row.get(1), row.get(2)));
            if !ty.is_opaque() && row.get::<_, u32>(3) != 0 {
                assert!(catalog.types.contains_key(&TypeOid(row.get(3))), "the array of {}", ty.name);
            }
            known.insert(ty.name.clone(), format!("{:?}", ty.kind).to_lowercase());
        }
    }
    for name in [
        "bool",
        "bytea",
        "int2",
        "int4",
        "int8",
        "oid",
        "tid",
        "xid",
        "cid",
        "xid8",
        "json",
        "xml",
        "point",
        "lseg",
        "path",
        "box",
        "polygon",
        "line",
        "cidr",
        "float4",
        "float8",
        "circle",
        "macaddr8",
        "money",
        "macaddr",
        "inet",
        "bpchar",
        "date",
        "time",
        "timestamp",
        "timestamptz",
        "interval",
        "timetz",
        "bit",
        "varbit",
        "numeric",
        "uuid",
        "tsvector",
        "tsquery",
        "jsonb",
    ] {
        assert_eq!(known.get(name).map(String::as_str), Some(name), "{name}");
    }
    assert_eq!(known.get("pg_lsn").map(String::as_str), Some("pglsn"));

    // Another locale's money is text to us.
    db.run("set lc_monetary = 'POSIX'").await;
    assert!(!db.load(&[rule(&["t"])]).await.types[&TypeOid(790)].is_opaque());
    db.drop(&[]).await;

    if db_has_locale(url, "C.UTF-8").await {
        let db = Database::create(url, "encoding 'UTF8' locale 'C.UTF-8'").await;
        db.run("create table t (a text primary key)").await;
        let catalog = db.load(&[rule(&["t"])]).await;
        let t = table(&catalog, "public.t");
        assert_eq!(t.columns[0].collation.order, CollationOrder::Deterministic);
        assert_eq!(indexes(t)[1].1, IndexKind::Hash);
        let version = db.version().await;
        db.drop(&[]).await;
        if version >= 170_000 {
            let db = Database::create(
                url,
                "encoding 'UTF8' locale_provider builtin builtin_locale 'C.UTF-8' locale 'C'",
            )
            .await;
            db.run("create table t (a text primary key)").await;
            let catalog = db.load(&[rule(&["t"])]).await;
            assert_eq!(table(&catalog, "public.t").columns[0].collation.order, CollationOrder::Bytes);
            db.drop(&[]).await;
        }
    }

    let db = Database::create(url, "encoding 'LATIN1' locale 'C'").await;
    match schema::load(&db.client, &[rule(&["*"])], None).await {
        Err(SchemaError::Encoding { encoding, .. }) => assert_eq!(encoding, "LATIN1"),
        other => panic!("{other:?}"),
    }
    db.drop(&[]).await;
}

async fn db_has_locale(url: &str, name: &str) -> bool {
    let config: PgConfig = url.parse().expect("a URL");
    let client = connect(&config).await;
    let row =
        client.query_one("select exists (select from pg_database where datcollate = $1)", &[&name]).await;
    row.expect("pg_database").get(0)
}

async fn privileges(url: &str) {
    let db = Database::create(url, "encoding 'UTF8'").await;
    let role = |name: &str| format!("{}_{name}", db.name);
    let (reader, member, column, owner, bypass) =
        (role("reader"), role("member"), role("column"), role("owner"), role("bypass"));
    db.run(&format!(
        "create role {reader}; create role {member} in role {reader}; create role {column};
         create role {owner}; create role {bypass} bypassrls;
         create schema hidden;
         create table a (x int primary key, y int);
         create table hidden.b (x int primary key);
         create table guarded (x int primary key);
         alter table a owner to {owner};
         grant select on a, hidden.b, guarded to {reader}, {bypass};
         grant select (x) on a to {column};
         alter table guarded enable row level security;"
    ))
    .await;
    let rules = [rule(&["*.*"])];
    let catalog = db.load(&rules).await;
    let (a, b, guarded) = (
        table(&catalog, "public.a").oid,
        table(&catalog, "hidden.b").oid,
        table(&catalog, "public.guarded").oid,
    );
    let may =
        |catalog: &Catalog, role: &str| [a, b, guarded].map(|table| catalog.privileges.may_read(role, table));
    assert_eq!(may(&catalog, "postgres"), [true, true, false]);
    assert_eq!(may(&catalog, &reader), [true, false, false]);
    assert_eq!(may(&catalog, &member), [true, false, false]);
    assert_eq!(may(&catalog, &column), [false, false, false]);
    assert_eq!(may(&catalog, &owner), [true, false, false]);
    assert_eq!(may(&catalog, &bypass), [true, false, false]);
    assert_eq!(may(&catalog, "pg_read_all_data"), [true, true, false]);
    assert_eq!(may(&catalog, "nobody"), [false, false, false]);
    db.run(&format!("grant usage on schema hidden to {reader}; revoke select on a from {reader}")).await;
    assert_eq!(may(&db.load(&rules).await, &member), [false, true, false]);

    // What we ourselves may not read cannot be mirrored.
    let us = role("us");
    db.run(&format!(
        "create role {us} login password 'secret'; create policy p on guarded using (x > 1);
         grant select on guarded to {us}; grant select (x) on a to {us}; grant select on hidden.b to {us}"
    ))
    .await;
    let client = db.connect_as(&us).await;
    let catalog = schema::load(&client, &rules, None).await.expect("load");
    assert!(catalog.tables.is_empty());
    assert!(reason(&catalog, "public.a").ends_with(&format!("grant select on table public.a to {us}")));
    assert!(reason(&catalog, "hidden.b").ends_with(&format!("grant usage on schema hidden to {us}")));
    assert!(reason(&catalog, "public.guarded").ends_with(&format!("alter role {us} bypassrls")));
    drop(client);
    db.drop(&[&us, &member, &reader, &column, &owner, &bypass]).await;
}

/// One snapshot: what another session does meanwhile is seen whole or not at all, and the caller's
/// own transaction is left as it was.
async fn reads_in_the_callers_transaction(url: &str) {
    let db = Database::create(url, "encoding 'UTF8'").await;
    db.run("create table a (x int primary key)").await;
    let other = db.connect_as("postgres").await;
    db.run("begin isolation level repeatable read read only; select 1").await;
    other.batch_execute("create table b (x int primary key)").await.expect("create");
    assert_eq!(db.load(&[rule(&["*"])]).await.tables.len(), 1);
    let isolation = db.client.query_one("show transaction_isolation", &[]).await.expect("show");
    assert_eq!(isolation.get::<_, &str>(0), "repeatable read");
    db.run("commit").await;
    assert_eq!(db.load(&[rule(&["*"])]).await.tables.len(), 2);
    db.run("create table c (x int primary key)").await;
    drop(other);
    db.drop(&[]).await;
}

// ---------------------------------------------------------------------------------------------
// Changes
// ---------------------------------------------------------------------------------------------

/// A fingerprint without its entries for roles and memberships, which other tests on the same server
/// change meanwhile.
fn without_roles(fingerprint: &str) -> Vec<&str> {
    let mut entries: Vec<&str> = fingerprint.split(", ").collect();
    assert_eq!(entries.len(), 17, "{fingerprint}");
    entries.drain(13..15);
    entries
}

async fn what_ddl_means(url: &str) {
    use TableChangeKind::*;
    let db = Database::create(url, "encoding 'UTF8'").await;
    let reader = format!("{}_reader", db.name);
    db.run(
        &"create role <reader>;
         create schema other;
         create type mood as enum ('sad', 'glad');
         create type pair as (a int, b int);
         create table t (id int primary key, v int, w varchar(10), m mood, p pair);
         insert into t select i, i, 'w', 'sad', row(i, i)::pair from generate_series(1, 100) i;
         grant select on t to <reader>;
         create table parts (a int primary key, b int) partition by range (a);
         create table parts_1 partition of parts for values from (0) to (10);
         create table parts_2 (a int primary key, b int);
         insert into parts values (1, 1);
         create publication p for table only t, parts with (publish_via_partition_root = true)"
            .replace("<reader>", &reader),
    )
    .await;
    // The statement, whether the fingerprint must change (None: may), and what it means for t and
    // for parts.
    let cases: &[(&str, Option<bool>, TableChangeKind, TableChangeKind)] = &[
        ("select 1", Some(false), Unchanged, Unchanged),
        (
            "insert into t values (1000, 1); update t set v = v + 1; delete from t where id > 50",
            Some(false),
            Unchanged,
            Unchanged,
        ),
        ("analyze", Some(false), Unchanged, Unchanged),
        ("vacuum", Some(false), Unchanged, Unchanged),
        ("vacuum full t", Some(false), Unchanged, Unchanged),
        ("cluster t using t_pkey", None, Unchanged, Unchanged),
        ("reindex table t", Some(false), Unchanged, Unchanged),
        (
            "create temp table temporary (a int primary key); drop table temporary",
            Some(false),
            Unchanged,
            Unchanged,
        ),
        ("truncate t", Some(false), Unchanged, Unchanged),
        ("insert into t values (1, 1)", Some(false), Unchanged, Unchanged),
        ("alter table t add column x int", Some(true), Reshaped, Unchanged),
        ("alter table t rename column x to y", Some(true), Renamed, Unchanged),
        ("alter table t drop column y", Some(true), Reshaped, Unchanged),
        ("alter table t add column y int default 7", Some(true), Reshaped, Unchanged),
        ("alter table t drop column y, add column z int", Some(true), Reshaped, Unchanged),
        ("alter table t alter column v set default 5", Some(true), Unchanged, Unchanged),
        ("alter table t alter column v set statistics 50", Some(true), Unchanged, Unchanged),
        ("alter table t alter column v set not null", Some(true), Renamed, Unchanged),
        ("alter table t alter column v type int using v * 100", Some(true), Reshaped, Unchanged),
        ("alter table t alter column v type bigint", Some(true), Reshaped, Unchanged),
        ("alter table t alter column w type varchar(20)", Some(true), Reshaped, Unchanged),
        ("alter table t alter column w type varchar(20) collate \"POSIX\"", Some(true), Reshaped, Unchanged),
        ("create index t_v on t (v)", Some(true), Reindexed, Unchanged),
        ("alter index t_v rename to t_w", Some(true), Reindexed, Unchanged),
        ("drop index t_w", Some(true), Reindexed, Unchanged),
        ("alter type mood add value 'so-so' before 'glad'", Some(true), Renamed, Unchanged),
        ("alter type mood rename value 'sad' to 'blue'", Some(true), Reshaped, Unchanged),
        ("alter type pair add attribute c int", Some(true), Reshaped, Unchanged),
        ("alter type pair drop attribute c, add attribute c int", Some(true), Reshaped, Unchanged),
        ("alter type mood rename to humour", Some(true), Renamed, Unchanged),
        ("alter table t rename to u", Some(true), Renamed, Unchanged),
        ("alter table u set schema other", Some(true), Renamed, Unchanged),
        ("alter table other.u set schema public; alter table u rename to t", Some(true), Renamed, Unchanged),
        ("alter schema other rename to another", Some(true), Unchanged, Unchanged),
        ("alter table t replica identity full", Some(true), Reshaped, Unchanged),
        ("alter table t replica identity default", Some(true), Reshaped, Unchanged),
        ("alter table t enable row level security", Some(true), Unchanged, Unchanged),
        ("create policy p on t using (id > 1)", Some(true), Unchanged, Unchanged),
        ("alter table t disable row level security; drop policy p on t", Some(true), Unchanged, Unchanged),
        ("revoke select on t from <reader>", Some(true), Unchanged, Unchanged),
        ("alter role <reader> bypassrls", Some(true), Unchanged, Unchanged),
        ("grant pg_read_all_data to <reader>", Some(true), Unchanged, Unchanged),
        ("revoke pg_read_all_data from <reader>", Some(true), Unchanged, Unchanged),
        (
            "alter publication p drop table t; alter publication p add table t",
            Some(true),
            Reshaped,
            Unchanged,
        ),
        ("alter publication p set (publish = 'insert')", Some(true), Reshaped, Reshaped),
        (
            "drop publication p; create publication p for table only t, parts with (publish_via_partition_root = true)",
            Some(true),
            Reshaped,
            Reshaped,
        ),
        (
            "alter table parts attach partition parts_2 for values from (10) to (20)",
            Some(true),
            Unchanged,
            Reshaped,
        ),
        (
            "alter table parts detach partition parts_2; insert into parts_2 values (11, 1); alter table parts attach partition parts_2 for values from (10) to (20)",
            Some(true),
            Unchanged,
            Reshaped,
        ),
        ("alter table parts detach partition parts_2", Some(true), Unchanged, Reshaped),
        ("truncate parts_1", Some(true), Unchanged, Reshaped),
        ("alter table parts alter column b type int using b * 100", Some(true), Unchanged, Reshaped),
        ("alter table parts add column c int default 1", Some(true), Unchanged, Reshaped),
        ("drop table parts_1", Some(true), Unchanged, Reshaped),
        (
            "create table parts_3 partition of parts for values from (30) to (40)",
            Some(true),
            Unchanged,
            Reshaped,
        ),
        ("create table elsewhere (a int)", Some(true), Unchanged, Unchanged),
        ("create view seen as select 1 as a", Some(true), Unchanged, Unchanged),
    ];
    let rules = [rule(&["t", "u", "*.u", "parts"])];
    let load = async || schema::load(&db.client, &rules, Some("p")).await.expect("load");
    let mut old = load().await;
    let mut fingerprint = schema::fingerprint(&db.client).await.expect("fingerprint");
    let (t, parts) = (table(&old, "public.t").oid, table(&old, "public.parts").oid);
    for (sql, fingerprint_changes, of_t, of_parts) in cases {
        for statement in sql.split(';') {
            db.run(&statement.replace("<reader>", &reader)).await;
        }
        let new = load().await;
        let now = schema::fingerprint(&db.client).await.expect("fingerprint");
        let changes: BTreeMap<TableOid, TableChangeKind> =
            schema::changes(&old, &new).iter().map(|c| (c.table, c.kind)).collect();
        assert_eq!(
            (changes.len(), changes.get(&t), changes.get(&parts)),
            (2, Some(of_t), Some(of_parts)),
            "{sql}: {:?} {:?}",
            old.stamps.get(&t),
            new.stamps.get(&t)
        );
        match fingerprint_changes {
            Some(true) => assert_ne!(now, fingerprint, "{sql}"),
            Some(false) => assert_eq!(without_roles(&now), without_roles(&fingerprint), "{sql}"),
            None => {}
        }
        (old, fingerprint) = (new, now);
    }
    // The same name, another table.
    db.run("drop table t; create table t (id int primary key, v bigint)").await;
    let new = load().await;
    let again = new.relation("public", "t").map(|r| r.oid);
    let changes = schema::changes(&old, &new);
    let kind = |oid| changes.iter().find(|c| c.table == oid).map(|c| c.kind);
    assert_eq!(kind(t), Some(Dropped));
    assert_eq!(again.and_then(kind), Some(Added));
    db.drop(&[&reader]).await;
}

// ---------------------------------------------------------------------------------------------
// The publication
// ---------------------------------------------------------------------------------------------

async fn tables_of(catalog: &Catalog) -> Vec<Arc<TableSchema>> {
    let mut tables: Vec<_> = catalog.tables.values().cloned().collect();
    tables.sort_by_key(|t| t.display_name());
    tables
}

/// The tables of a publication with their published columns, generated ones left out (15 lists them,
/// though it does not publish them).
async fn published(db: &Database, name: &str) -> Vec<String> {
    let sql = "select format('%I.%I {%s}', t.schemaname, t.tablename, (
                 select string_agg(a.attname, ',' order by a.attnum) from pg_attribute a
                  where a.attrelid = format('%I.%I', t.schemaname, t.tablename)::regclass
                    and a.attname = any (t.attnames) and a.attnum > 0 and a.attgenerated = ''))
                 from pg_publication_tables t where t.pubname = $1 order by 1";
    // 14 publishes whole rows.
    let attnames = "a.attname = any (t.attnames)";
    let sql = if db.version().await < 150_000 { sql.replace(attnames, "true") } else { sql.to_string() };
    db.client.query(&sql, &[&name]).await.expect("tables").iter().map(|r| r.get(0)).collect()
}

async fn publications(url: &str) {
    let db = Database::create(url, "encoding 'UTF8'").await;
    let us = format!("{}_us", db.name);
    db.run(&format!(
        "create role {us} login password 'secret';
         create table a (x int primary key, y int);
         create table \"Order\" (\"user\" int primary key, secret text);
         create table g (x int primary key, y int generated always as (x) stored);
         create table parts (x int primary key) partition by range (x);
         create table parts_1 partition of parts for values from (0) to (10);
         create table unwanted (x int);
         grant select on all tables in schema public to {us}"
    ))
    .await;
    let mut rules = [rule(&["a", "Order", "g", "parts"])];
    // Column lists and row filters are there from 15 on.
    let lists = db.version().await >= 150_000;
    let mut order = ("public.\"Order\" {user,secret}", "public.\"Order\"");
    if lists {
        rules[0].exclude_columns = vec!["Order.secret".to_string()];
        order = ("public.\"Order\" {user}", "public.\"Order\" (\"user\")");
    }
    let wanted = [order.0, "public.a {x,y}", "public.g {x}", "public.parts {x}"];
    let tables = tables_of(&db.load(&rules).await).await;
    assert_eq!(tables.len(), 4);

    // Created, and left alone the second time.
    publication::ensure(&db.client, "p", &tables).await.expect("ensure");
    assert_eq!(published(&db, "p").await, wanted);
    let stamp = async || {
        let row = db
            .client
            .query_one(
                "select string_agg(oid || ' ' || xmin::text, ',' order by oid) from pg_publication_rel",
                &[],
            )
            .await;
        row.expect("stamp").get::<_, String>(0)
    };
    let before = stamp().await;
    publication::ensure(&db.client, "p", &tables).await.expect("ensure");
    assert_eq!(stamp().await, before);

    // Brought back from everything that others may do to it.
    let every = [
        "alter publication p drop table a",
        "alter publication p add table unwanted",
        "alter publication p set (publish = 'insert', publish_via_partition_root = false)",
        "drop publication p",
    ];
    let from_15 = [
        "alter publication p drop table \"Order\"; alter publication p add table \"Order\"",
        "alter publication p set table a where (x > 1)",
        "alter publication p set table a (x)",
    ];
    for sql in every.iter().chain(if lists { &from_15[..] } else { &[] }) {
        db.run(sql).await;
        let plan = publication::plan(&db.client, "p", &tables).await.expect("plan");
        assert!(plan.permitted && !plan.foreign && !plan.problems.is_empty(), "{sql}: {plan:?}");
        publication::ensure(&db.client, "p", &tables).await.expect("ensure");
        assert_eq!(published(&db, "p").await, wanted, "{sql}");
        let options = db
            .client
            .query_one("select pubinsert and pubupdate and pubdelete and pubtruncate and pubviaroot, puballtables from pg_publication", &[])
            .await
            .expect("options");
        assert_eq!((options.get(0), options.get(1)), (true, false), "{sql}");
    }
    // The application's own writes go through, the unwanted table's too.
    db.run("insert into unwanted values (1); update unwanted set x = 2; insert into a values (1, 1); update a set y = 2").await;

    // Somebody else's: used when it is enough, and a clear error when it isn't.
    let client = db.connect_as(&us).await;
    publication::ensure(&client, "p", &tables).await.expect("it is enough");
    db.run("alter publication p drop table a").await;
    match publication::ensure(&client, "p", &tables).await {
        Err(error @ PublicationError::Incomplete { .. }) => {
            let text = error.to_string();
            assert!(text.contains("lacks table public.a"), "{text}");
            assert!(text.contains("alter publication p add table only public.a"), "{text}");
        }
        other => panic!("{other:?}"),
    }
    let catalog = schema::load(&client, &rules, Some("p")).await.expect("load");
    assert!(reason(&catalog, "public.a").contains("alter publication p add table only public.a"));
    assert_eq!(catalog.tables.len(), 3);
    if lists {
        db.run("alter publication p add table a (x)").await;
        let catalog = schema::load(&client, &rules, Some("p")).await.expect("load");
        assert_eq!(table(&catalog, "public.a").unmirrored, ["y"]);
        publication::ensure(&client, "p", &tables_of(&catalog).await).await.expect("as delivered");
        db.run("alter publication p drop table a; alter publication p add table a where (x > 1)").await;
        let catalog = schema::load(&client, &rules, Some("p")).await.expect("load");
        assert!(reason(&catalog, "public.a").contains("its rows are filtered"));
        // A secret that it would let out.
        db.run("alter publication p set table a, g, parts, \"Order\"").await;
        match publication::ensure(&client, "p", &tables).await {
            Err(PublicationError::Incomplete { problems, .. }) => {
                assert_eq!(problems, ["publishes other columns of public.Order than are mirrored"]);
            }
            other => panic!("{other:?}"),
        }
    }
    // All tables: enough for the one who does not own it, as long as no column is kept back.
    db.run("drop publication p; alter table unwanted replica identity full; create publication p for all tables with (publish_via_partition_root = true)").await;
    let all = tables_of(&db.load(&[rule(&["a", "Order", "parts"])]).await).await;
    publication::ensure(&client, "p", &all).await.expect("it is enough");
    if lists {
        db.run("drop publication p; create publication p for tables in schema public with (publish_via_partition_root = true)").await;
        match publication::ensure(&client, "p", &all).await {
            Err(PublicationError::Incomplete { problems, .. }) => assert_eq!(problems.len(), 3),
            other => panic!("{other:?}"),
        }
    }

    // Not ours to create: CREATE on the database is missing, then the tables' ownership.
    db.run("drop publication p").await;
    for grant in ["select 1".to_string(), format!("grant create on database {} to {us}", db.name)] {
        db.run(&grant).await;
        match publication::ensure(&client, "p", &tables).await {
            Err(error @ PublicationError::NotPermitted { .. }) => {
                let text = error.to_string();
                assert!(text.contains("sql/setup.sql"), "{text}");
                let sql = format!("create publication p for table only {}, only public.a", order.1);
                assert!(text.contains(&sql), "{text}");
            }
            other => panic!("{other:?}"),
        }
    }
    // The connection is as good as before.
    client.batch_execute("begin; select 1; commit").await.expect("a clean connection");
    db.run(&format!("alter table a owner to {us}")).await;
    let own = tables_of(&schema::load(&client, &[rule(&["a"])], Some("p")).await.expect("load")).await;
    publication::ensure(&client, "p", &own).await.expect("ours");
    drop(client);
    db.drop(&[&us]).await;
}

// ---------------------------------------------------------------------------------------------
// The preflight
// ---------------------------------------------------------------------------------------------

fn config(tables: Vec<TableRule>) -> Config {
    Config {
        primary: Primary {
            url: String::new(),
            password: None,
            passfile: None,
            start_timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(1),
        },
        listen: Listen { address: ([127, 0, 0, 1], 0).into(), unix_socket_dir: None, tls: None, threads: 1 },
        tables,
        replication: Replication {
            mode: ReplicationMode::Auto,
            slot: "millpond_test".to_string(),
            publication: "p".to_string(),
            checkpoint_dir: None,
            copy_workers: 1,
            slot_timeout: Duration::from_secs(1),
            lock_timeout: Duration::from_secs(1),
            status_interval: Duration::from_secs(1),
            catalog_interval: Duration::from_secs(1),
            max_transaction_bytes: 1 << 20,
        },
        fallthrough: Fallthrough { reads: Forwarding::Forward, writes: Forwarding::Reject },
        freshness: Freshness { wait_timeout: Duration::from_secs(1) },
        memory: Memory { max_bytes: 1 << 20 },
        auth: Auth { method: AuthMethod::Relay, allow_trust: false, users: Vec::new() },
        limits: Limits {
            max_connections: 1,
            login_timeout: Duration::from_secs(1),
            max_message_bytes: 1 << 20,
            max_statements: 1,
        },
        admin: Admin { listen: None },
        log: Log { filter: "info".to_string(), json: false },
        cache: Cache { enabled: true },
    }
}

/// Held by the cases that take up replication slots or need one to be free.
static SLOTS: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

async fn preflights(url: &str) {
    let _slots = SLOTS.lock().await;
    let db = Database::create(url, "encoding 'UTF8'").await;
    let us = format!("{}_us", db.name);
    db.run(&format!(
        "create role {us} login password 'secret';
         create table good (x int primary key);
         create table unread (x int primary key);
         create table no_key (x int);
         create table guarded (x int primary key);
         alter table guarded enable row level security;
         grant select on good, no_key, guarded to {us}"
    ))
    .await;
    // Everything well: for a superuser and good tables.
    let report = preflight::check(&db.client, &config(vec![rule(&["good", "unread"])])).await;
    assert!(report.is_complete() && !report.is_fatal(), "{report}");
    assert!(
        report
            .findings
            .iter()
            .any(|f| f.level == Level::Ok && f.what == "publication p can be brought into line")
    );

    // One line and one remedy for each thing that is missing.
    let client = db.connect_as(&us).await;
    let report =
        preflight::check(&client, &config(vec![rule(&["good", "unread", "no_key", "guarded", "nowhere"])]))
            .await;
    assert!(report.is_fatal() && !report.is_complete());
    let missing: Vec<(Level, String, String)> = report
        .findings
        .iter()
        .filter(|f| !f.ok())
        .map(|f| (f.level, f.what.clone(), f.remedy.clone().unwrap_or_default()))
        .collect();
    let expected = [
        (Level::Fatal, format!("role {us} may not replicate"), format!("alter role {us} replication")),
        (Level::Missing, format!("public.guarded: row security hides rows from role {us}"), format!("alter role {us} bypassrls")),
        (Level::Missing, "public.no_key: no primary key".to_string(), "add a primary key, or alter table public.no_key replica identity full".to_string()),
        (Level::Missing, format!("public.unread: role {us} may not SELECT from it"), format!("grant select on table public.unread to {us}")),
        (Level::Missing, "table public.nowhere does not exist".to_string(), "correct the [[tables]] rules, or create what they name".to_string()),
        (
            Level::Fatal,
            "publication p does not exist, and we may not change that".to_string(),
            "let its owner run sql/setup.sql, or: create publication p for table only public.good with (publish = 'insert, update, delete, truncate', publish_via_partition_root = true)".to_string(),
        ),
    ];
    assert_eq!(missing, expected);
    assert!(
        report.to_string().contains(&format!(
            "error: role {us} may not replicate\n  remedy: alter role {us} replication\n"
        ))
    );

    // Mended as it says, by the very commands.
    for (_, _, remedy) in &missing {
        if let Some(sql) = remedy.strip_prefix("let its owner run sql/setup.sql, or: ") {
            db.run(sql).await;
        } else if let Some(sql) = remedy.strip_prefix("add a primary key, or ") {
            db.run(sql).await;
        } else if !remedy.starts_with("correct") {
            db.run(remedy).await;
        }
    }
    db.run("alter publication p add table unread, no_key, guarded").await;
    let report =
        preflight::check(&client, &config(vec![rule(&["good", "unread", "no_key", "guarded"])])).await;
    assert!(report.is_complete(), "{report}");

    // Slots: all in use by others, or one of them by us.
    let free: i64 = db
        .client
        .query_one(
            "select current_setting('max_replication_slots')::int8 - count(*) from pg_replication_slots",
            &[],
        )
        .await
        .expect("slots")
        .get(0);
    for i in 0..free {
        db.run(&format!("select pg_create_logical_replication_slot('{}_{i}', 'pgoutput')", db.name)).await;
    }
    let mut with_slot = config(vec![rule(&["good"])]);
    let report = preflight::check(&client, &with_slot).await;
    assert!(report.is_fatal() && report.to_string().contains("replication slots are in use"), "{report}");
    with_slot.replication.slot = format!("{}_0", db.name);
    assert!(!preflight::check(&client, &with_slot).await.is_fatal());
    db.run("select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = current_database()").await;
    drop(client);
    db.drop(&[&us]).await;

    let latin = Database::create(url, "encoding 'LATIN1' locale 'C'").await;
    let report = preflight::check(&latin.client, &config(vec![rule(&["*"])])).await;
    assert!(report.is_fatal() && report.to_string().contains("encoded in LATIN1"), "{report}");
    latin.drop(&[]).await;
}

/// The script for administrators does what it promises.
async fn setup_script(url: &str) {
    let _slots = SLOTS.lock().await;
    let db = Database::create(url, "encoding 'UTF8'").await;
    db.run("create table a (x int primary key); create table b (x int primary key, y text)").await;
    let role = format!("{}_us", db.name);
    let script = include_str!("../sql/setup.sql")
        .replace("<role>", &role)
        .replace("<password>", "secret")
        .replace("<publication>", "p")
        .replace("<tables>", "a, b");
    db.run(&script).await;
    let client = db.connect_as(&role).await;
    let report = preflight::check(&client, &config(vec![rule(&["*"])])).await;
    assert!(report.is_complete(), "{report}");
    let catalog = schema::load(&client, &[rule(&["*"])], Some("p")).await.expect("load");
    publication::ensure(&client, "p", &tables_of(&catalog).await).await.expect("it is enough");
    drop(client);
    db.drop(&[&role]).await;
}

macro_rules! on_every_server {
    ($($test:ident: $case:ident;)*) => {$(
        #[tokio::test]
        async fn $test() {
            for url in urls() {
                $case(&url).await;
            }
        }
    )*};
}

on_every_server! {
    tables_are_read_as_they_are: every_kind_of_table;
    types_are_read_as_they_are: every_kind_of_type;
    privileges_are_the_primarys: privileges;
    a_callers_transaction_is_used: reads_in_the_callers_transaction;
    ddl_is_noticed: what_ddl_means;
    the_publication_is_kept_in_line: publications;
    preflight_names_what_is_missing: preflights;
    the_setup_script_suffices: setup_script;
}
