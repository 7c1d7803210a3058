//! The publication, ours and others'.

use millpond::source::{
    publication::{self, PublicationError},
    schema,
};

use super::{Database, reason, rule, table, tables_of, urls};

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

#[tokio::test]
async fn the_publication_is_kept_in_line() {
    for url in &urls() {
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
}
