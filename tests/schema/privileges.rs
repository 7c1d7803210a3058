//! Who may read what, and whose transaction the catalogue is read in.

use millpond::{catalog::Catalog, source::schema};

use super::{Database, reason, rule, table, urls};

#[tokio::test]
async fn privileges_are_the_primarys() {
    for url in &urls() {
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
        let may = |catalog: &Catalog, role: &str| {
            [a, b, guarded].map(|table| catalog.privileges.may_read(role, table))
        };
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
}

/// One snapshot: what another session does meanwhile is seen whole or not at all, and the caller's
/// own transaction is left as it was.
#[tokio::test]
async fn a_callers_transaction_is_used() {
    for url in &urls() {
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
}
