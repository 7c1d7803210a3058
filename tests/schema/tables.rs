//! Every kind of table, as it is read from the catalogue or refused.

use millpond::types::{CollationOrder, IndexKind, ReplicaIdentity, TableOid};

use super::{Database, indexes, reason, rule, table, urls};

#[tokio::test]
async fn tables_are_read_as_they_are() {
    for url in &urls() {
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
        db.run("alter table uneven_1 replica identity default; alter table no_key replica identity full")
            .await;
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
        secret.exclude_columns = ["plain.note", "app.Order.a", "whole.b", "computed.b", "plain.nothing"]
            .map(String::from)
            .to_vec();
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
}
