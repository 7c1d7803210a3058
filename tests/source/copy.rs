//! The copy: every row once, under locks that are held and bounded.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use millpond::{
    source::{Copier, CopyConsumer, CopySink, SourceError, SourceErrorKind},
    types::{TableSchema, TypeKind},
};

use super::{Rows, admin, int4, run, table, target};
use crate::support::{postgres::on_each_version, wait::DEADLINE};

/// Ranges by ctid, partitioned roots, opaque columns and NULLs give the rows that the primary has.
#[tokio::test]
async fn a_copy_has_every_row_once() {
    on_each_version(async |database| {
        let url = &database.url;
        let admin = admin(url).await;
        run(
            &admin,
            "create type pair as (a int4, b text); \
         create table wide (id int4, filler pair) with (fillfactor = 10); \
         insert into wide select i, case i % 3 when 0 then null when 1 then row(null, null)::pair \
         else row(i, 'é, \"')::pair end from generate_series(1, 200000) i; \
         create table parts (id int4) partition by range (id); \
         create table parts_a partition of parts for values from (0) to (100); \
         create table parts_b partition of parts default; \
         insert into parts select generate_series(1, 300); analyze wide, parts",
        )
        .await;
        let mut wide = table(&admin, "wide", &[("id", TypeKind::Int4), ("filler", TypeKind::Opaque)]).await;
        assert!(wide.pages > 8_192, "more than one range");
        // The primary's estimate is out of date: the last range has no end.
        wide.pages -= 100;
        let parts = table(&admin, "parts", &[("id", TypeKind::Int4)]).await;
        for copied in [wide, parts] {
            let name = copied.schema.name.clone();
            let columns = copied.schema.columns.len();
            let copier = Copier::prepare(&target(url), vec![copied], 3, DEADLINE).await.unwrap();
            let rows = Rows::default();
            let all = Arc::clone(&rows.0);
            copier.run(Arc::new(rows), Arc::default()).await.unwrap();
            let filler = if columns == 2 { "filler" } else { "null" };
            let expected =
                admin.query(&format!("select id, {filler}::text from public.{name}"), &[]).await.unwrap();
            let expected: BTreeSet<(i64, Option<String>)> =
                expected.iter().map(|r| (r.get::<_, i32>(0).into(), r.get(1))).collect();
            let all = all.lock();
            let text = |f: &Option<Vec<u8>>| f.as_ref().map(|b| String::from_utf8(b.clone()).unwrap());
            let found: BTreeSet<_> = all.iter().map(|r| (int4(&r[0]), r.get(1).and_then(text))).collect();
            assert_eq!(all.len(), expected.len(), "{name}");
            assert!(found == expected, "{name} differs");
        }
    })
    .await;
}

/// While the copy's locks are held a rewrite waits, and a lock that is held by others bounds our wait.
#[tokio::test]
async fn locks_are_held_and_bounded() {
    on_each_version(async |database| {
        let url = &database.url;
        let (admin, other) = (admin(url).await, admin(url).await);
        run(&admin, "create table locked (id int4)").await;
        let copied = table(&admin, "locked", &[("id", TypeKind::Int4)]).await;
        run(&other, "begin; lock table locked").await;
        let refused = Copier::prepare(&target(url), vec![copied.clone()], 2, Duration::from_millis(50)).await;
        let error = refused.map(drop).unwrap_err();
        assert!(matches!(&error, SourceError::Lock(e) if e.sqlstate() == Some("55P03")), "{error}");
        run(&other, "rollback").await;

        let copier = Copier::prepare(&target(url), vec![copied.clone()], 2, DEADLINE).await.unwrap();
        let blocked = other.batch_execute("set lock_timeout = '50ms'; truncate public.locked").await;
        assert_eq!(blocked.unwrap_err().code().unwrap().code(), "55P03");
        drop(copier);
        run(&other, "set lock_timeout = '60s'; truncate locked").await;

        run(&admin, "drop table locked").await;
        let error = Copier::prepare(&target(url), vec![copied], 1, DEADLINE).await.map(drop).unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::Bootstrap, "{error}");
    })
    .await;
}

/// A consumer that refuses ends the copy, with the table's name.
#[tokio::test]
async fn a_refused_row_ends_the_copy() {
    on_each_version(async |database| {
        let url = &database.url;
        struct Refuses;
        impl CopySink for Refuses {
            fn open(&self, _: &Arc<TableSchema>) -> Box<dyn CopyConsumer> {
                Box::new(Refuses)
            }
        }
        impl CopyConsumer for Refuses {
            fn data(&mut self, _: &[u8]) -> Result<u64, String> {
                Err("no room".into())
            }
            fn finish(self: Box<Self>) -> Result<(), String> {
                Ok(())
            }
        }
        let admin = admin(url).await;
        run(&admin, "create table refused as select generate_series(1, 10) id").await;
        let tables = vec![table(&admin, "refused", &[("id", TypeKind::Int4)]).await];
        let copier = Copier::prepare(&target(url), tables, 2, DEADLINE).await.unwrap();
        let error = copier.run(Arc::new(Refuses), Arc::default()).await.unwrap_err();
        assert_eq!(error.to_string(), "copying public.refused: no room");
    })
    .await;
}
