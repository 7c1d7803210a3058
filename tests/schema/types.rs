//! Every kind of type, and the orders of text.

use std::{collections::BTreeMap, sync::Arc};

use millpond::{
    source::schema::{self, SchemaError},
    types::{CollationOrder, IndexKind, PgType, TypeKind, TypeOid},
};

use tokio_postgres::Config as PgConfig;

use super::{Database, connect, indexes, rule, table, urls};

#[tokio::test]
async fn types_are_read_as_they_are() {
    for url in &urls() {
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
          d text, l text collate loose, e text collate english, u text collate ucs_basic, x xml, ts tsvector, tq tsquery, tqs tsquery[]
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
        // Before, bytes that are not ASCII are printed as they are.
        let char = if db.version().await < 160_000 { TypeKind::Opaque } else { TypeKind::Char };
        assert_eq!(kind("c"), &char);
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
        for opaque in ["o", "oa", "od", "op", "vec", "tq", "tqs"] {
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
}

async fn db_has_locale(url: &str, name: &str) -> bool {
    let config: PgConfig = url.parse().expect("a URL");
    let client = connect(&config).await;
    let row =
        client.query_one("select exists (select from pg_database where datcollate = $1)", &[&name]).await;
    row.expect("pg_database").get(0)
}
