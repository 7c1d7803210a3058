//! Plans and answers over a catalogue made by hand.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    Engine, Plan, Planned, Reason, RouteSetting, SessionFacts,
    scalar::{Scalar, oid},
};
use crate::{
    catalog::{Catalog, CatalogHandle, Privileges, Relation},
    store::Store,
    telemetry::status::{Status, TableState},
    types::{
        AttNum, Collation, CollationOrder, ColumnSchema, Datum, IndexKind, IndexSchema, PgType,
        ReplicaIdentity, TableOid, TableSchema, TypeKind, TypeOid,
    },
};

const USERS: TableOid = TableOid(100);
const SECRETS: TableOid = TableOid(101);
const LOADING: TableOid = TableOid(102);

fn column(name: &str, attnum: i16, pg_type: Arc<PgType>) -> ColumnSchema {
    let is_text = matches!(pg_type.base().kind, TypeKind::Text | TypeKind::BpChar);
    ColumnSchema {
        name: name.into(),
        attnum: AttNum(attnum),
        pg_type,
        typmod: -1,
        not_null: attnum == 1,
        collation: match is_text {
            true => Collation { oid: 100, order: CollationOrder::Deterministic },
            false => Collation::NONE,
        },
    }
}

fn table(oid: TableOid, name: &str, columns: Vec<ColumnSchema>) -> TableSchema {
    TableSchema {
        oid,
        schema: "public".into(),
        name: name.into(),
        columns,
        unmirrored: Vec::new(),
        identity: ReplicaIdentity::Key(vec![0]),
        indexes: vec![
            IndexSchema { name: "i".into(), columns: vec![0], unique: true, kind: IndexKind::Identity },
            IndexSchema { name: "h".into(), columns: vec![0], unique: true, kind: IndexKind::Hash },
            IndexSchema { name: "o".into(), columns: vec![0], unique: true, kind: IndexKind::Ordered },
        ],
        partitioned: false,
    }
}

struct Fixture {
    engine: Engine,
    store: Arc<Store>,
    status: Arc<Status>,
    session: SessionFacts,
}

impl Fixture {
    fn new() -> Fixture {
        let point =
            Arc::new(PgType { oid: TypeOid(600), name: "point".into(), len: 16, kind: TypeKind::Point });
        let zip = Arc::new(PgType {
            oid: TypeOid(9000),
            name: "zip".into(),
            len: -1,
            kind: TypeKind::Domain(Scalar::Varchar.pg_type()),
        });
        let mut users = table(
            USERS,
            "users",
            vec![
                column("id", 1, Scalar::Int4.pg_type()),
                column("name", 2, Scalar::Text.pg_type()),
                column("Age", 3, Scalar::Int2.pg_type()),
                column("active", 5, Scalar::Bool.pg_type()),
                column("seen", 6, Scalar::TimestampTz.pg_type()),
                column("place", 7, point),
                column("zip", 8, zip),
                column("user", 9, Scalar::Varchar.pg_type()),
            ],
        );
        users.indexes.push(IndexSchema {
            name: "n".into(),
            columns: vec![1],
            unique: false,
            kind: IndexKind::Hash,
        });
        let mut secrets = table(SECRETS, "secrets", vec![column("id", 1, Scalar::Int4.pg_type())]);
        secrets.unmirrored.push("password".into());
        let loading = table(LOADING, "loading", vec![column("id", 1, Scalar::Int4.pg_type())]);

        let relation = |oid| Relation { oid, kind: b'r' };
        let (store, mut writer) = Store::new();
        for schema in [&users, &secrets] {
            let mut schema_rows = Vec::new();
            for id in 1..=3 {
                let mut row = vec![Datum::Null; schema.columns.len()];
                row[0] = Datum::Int4(id);
                if schema.oid == USERS {
                    row[1] = Datum::Bytes([b"ann", b"bob", b"cyd"][id as usize - 1]);
                    row[3] = Datum::Bool(id != 2);
                }
                schema_rows.push(row);
            }
            test_load(&mut writer, schema, &schema_rows);
        }
        let tables = [users, secrets, loading];
        let catalog = Catalog {
            version: 7,
            server_version_num: 150_000,
            lc_monetary: "C".into(),
            relations: HashMap::from([(
                "public".into(),
                [("users", USERS), ("secrets", SECRETS), ("loading", LOADING), ("other", TableOid(200))]
                    .into_iter()
                    .map(|(name, oid)| (name.to_owned(), relation(oid)))
                    .collect(),
            )]),
            tables: tables.into_iter().map(|t| (t.oid, Arc::new(t))).collect(),
            privileges: Privileges {
                readable: HashMap::from([
                    ("app".into(), HashSet::from([USERS, SECRETS, LOADING])),
                    ("guest".into(), HashSet::new()),
                ]),
            },
            ..Catalog::default()
        };
        let status = Arc::new(Status::default());
        let engine =
            Engine::new(Arc::clone(&store), Arc::new(CatalogHandle::new(catalog)), Arc::clone(&status), true);
        let session = SessionFacts {
            role: "app".into(),
            search_path: vec!["pg_catalog".into(), "public".into()],
            time_zone: "UTC".into(),
            date_style: "ISO, MDY".into(),
            interval_style: "postgres".into(),
            extra_float_digits: 1,
            bytea_output: "hex".into(),
            lc_monetary: "C".into(),
            client_encoding: "UTF8".into(),
            default_isolation: "read committed".into(),
            standard_conforming_strings: true,
            transform_null_equals: false,
            route: RouteSetting::Auto,
        };
        Fixture { engine, store, status, session }
    }

    fn plan(&self, sql: &str, types: &[u32]) -> Result<Arc<Plan>, Reason> {
        let types: Vec<TypeOid> = types.iter().copied().map(TypeOid).collect();
        let statements = self.engine.parse(sql);
        match self.engine.plan(&statements[0], &types, &self.session) {
            Planned::Local(plan) => Ok(plan),
            Planned::Primary(reason) => Err(reason),
        }
    }

    fn route(&self, sql: &str) -> String {
        match self.plan(sql, &[]) {
            Ok(plan) => plan.route().to_string(),
            Err(reason) => reason.to_string(),
        }
    }

    /// The first column of every row.
    fn answer(&self, sql: &str, params: &[Option<&str>]) -> Result<Vec<String>, Reason> {
        let plan = self.plan(sql, &[])?;
        let params: Vec<Option<&[u8]>> = params.iter().map(|p| p.map(str::as_bytes)).collect();
        let mut cursor = plan.open(self.store.snapshot(), &params, &[])?;
        let mut rows = Vec::new();
        while let Some(row) = cursor.next() {
            rows.push(match row.datum(0) {
                Datum::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                Datum::Int4(v) => v.to_string(),
                Datum::Int8(v) => v.to_string(),
                other => format!("{other:?}"),
            });
        }
        Ok(rows)
    }
}

/// The one place that knows how rows get into the store.
fn test_load(writer: &mut crate::store::Writer, schema: &TableSchema, rows: &[Vec<Datum<'_>>]) {
    let schema = Arc::new(TableSchema {
        schema: schema.schema.clone(),
        name: schema.name.clone(),
        columns: schema
            .columns
            .iter()
            .map(|c| ColumnSchema { name: c.name.clone(), pg_type: Arc::clone(&c.pg_type), ..*c })
            .collect(),
        unmirrored: schema.unmirrored.clone(),
        identity: schema.identity.clone(),
        indexes: schema.indexes.clone(),
        ..*schema
    });
    let mut chunk = crate::store::ChunkBuilder::new(&schema);
    rows.iter().for_each(|row| chunk.push(row));
    let oid = schema.oid;
    writer.load(crate::store::TableImage::build(schema, vec![chunk.finish()]));
    writer.set_live(oid, true);
    writer.publish(crate::types::Lsn(1));
}

#[test]
fn routes_and_reasons() {
    let fixture = Fixture::new();
    let mut wrong = Vec::new();
    for (sql, expected) in [
        ("select name from users where id = 1", "point"),
        ("SELECT u.name FROM public.users u WHERE u.id = $1 AND active", "point"),
        ("select name from users where id in (1, 2)", "index"),
        ("select name from users where id in (1)", "point"),
        ("select name from users where id = '1'", "point"),
        ("select id from users where name = 'bob'", "index"),
        ("select id from users order by id limit 2", "index"),
        ("select id from users where id > 1 order by id desc limit 2", "index"),
        ("select id from users where id between 1 and 2", "index"),
        ("select id from users", "engine"),
        ("select id from users order by active, id", "engine"),
        ("select count(*), min(id), max(id), sum(id) from users", "engine"),
        ("select \"Age\" from users where \"Age\" = 3", "engine"),
        ("select 1, 'x', true, null from users", "engine"),
        ("select id as first, id last from users", "engine"),
        ("select id from users where (id = 1 or not active) and name is not null", "engine"),
        ("select count(place) from users where place is null", "engine"),
        ("select id from users where \"user\" = 'x'", "engine"),
        ("select id from secrets", "engine"),
        ("select place from users", "engine"),
        // Names.
        ("select * from secrets", "primary:column"),
        ("select password from secrets", "primary:column"),
        ("select age from users", "primary:column"),
        ("select users from users", "primary:column"),
        ("select ctid from users", "primary:column"),
        ("select users.id from users u", "primary:column"),
        ("select user from users", "primary:function"),
        ("select current_date from users", "primary:function"),
        ("select id from only users", "primary:unsupported"),
        ("select id from users tablesample system (1)", "primary:unsupported"),
        ("select id from other", "primary:not_cached"),
        ("select id from nowhere", "primary:not_cached"),
        ("select id from private.users", "primary:not_cached"),
        ("select id from millpond.nothing", "primary:not_cached"),
        ("select id from loading", "primary:loading"),
        // Types and collations.
        ("select id from users where name < 'b'", "primary:collation"),
        ("select id from users order by name", "primary:collation"),
        ("select max(name) from users", "primary:collation"),
        ("select zip from users", "primary:type"),
        ("select id from users where place = '(1,1)'", "primary:type"),
        ("select id from users where id = true", "primary:type"),
        ("select id from users where id = name", "primary:type"),
        ("select id from users where id = 'x'", "primary:value"),
        ("select id from users where id = '99999999999'", "primary:value"),
        ("select id from users where id = 99999999999", "point"),
        ("select id from users where seen > 'yesterday'", "primary:value"),
        ("select id from users where seen > '2024-01-01'", "engine"),
        ("select $1 from users", "primary:unsupported"),
        ("select id from users where $1 is null", "primary:unsupported"),
        ("select id from users where id = $1 or $1 is null", "engine"),
        ("select id from users where id = $2", "primary:type"),
        ("select id from users where id = $0", "primary:unsupported"),
        ("select id from users where id = $1 and name = $1", "primary:type"),
        // SQL that we leave.
        ("select lower(name) from users", "primary:function"),
        ("select avg(id) from users", "primary:function"),
        ("select count(distinct id) from users", "primary:function"),
        ("select count(id) filter (where active) from users", "primary:function"),
        ("select count(*) over () from users", "primary:function"),
        ("select id from users where id = abs(1)", "primary:function"),
        ("select id, count(*) from users", "primary:unsupported"),
        ("select id from users where name like 'a%'", "primary:unsupported"),
        ("select id from users where id + 1 = 2", "primary:unsupported"),
        ("select id from users where id = 1 = true", "primary:unsupported"),
        ("select distinct id from users", "primary:unsupported"),
        ("select id from users group by id", "primary:unsupported"),
        ("select count(*) from users having true", "primary:unsupported"),
        ("select id from users, secrets", "primary:unsupported"),
        ("select id from users join secrets using (id)", "primary:unsupported"),
        ("select id from users where id in (select 1)", "primary:unsupported"),
        ("select id from users union select 1", "primary:unsupported"),
        ("with x as (select 1) select id from users", "primary:unsupported"),
        ("select id from users fetch first 1 row only", "primary:unsupported"),
        ("select id from users limit 1 offset 1 rows", "primary:unsupported"),
        ("select id from users limit 1, 2", "primary:unsupported"),
        ("select id from users order by id using <", "primary:unsupported"),
        ("select id from users window w as ()", "primary:unsupported"),
        ("select id from users order by 2", "primary:unsupported"),
        ("select id from users order by id + 1", "primary:unsupported"),
        ("select id from users limit 1.5", "primary:unsupported"),
        ("select 1", "primary:unsupported"),
        ("select from users", "primary:unsupported"),
        ("select id from users where id between symmetric 1 and 2", "primary:unsupported"),
        ("select id from users for update", "primary:write"),
        ("select id into x from users", "primary:write"),
        ("delete from users", "primary:write"),
        ("table users", "primary:unsupported"),
    ] {
        if fixture.route(sql) != expected {
            wrong.push(format!("{sql}: {}, not {expected}", fixture.route(sql)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn sessions_that_may_not_be_answered_here() {
    let check = |change: &dyn Fn(&mut SessionFacts), sql: &str, expected: &str| {
        let mut fixture = Fixture::new();
        change(&mut fixture.session);
        assert_eq!(fixture.route(sql), expected, "{:?}", fixture.session);
    };
    let select = "select id from users where id = 1";
    check(&|_| {}, select, "point");
    check(&|s| s.role = "guest".into(), select, "primary:privilege");
    check(&|s| s.role = "stranger".into(), select, "primary:privilege");
    check(&|s| s.route = RouteSetting::Primary, select, "primary:bypass");
    check(&|s| s.route = RouteSetting::Local, select, "point");
    check(&|s| s.client_encoding = "LATIN1".into(), select, "primary:setting");
    check(&|s| s.transform_null_equals = true, select, "primary:setting");
    check(&|s| s.standard_conforming_strings = false, select, "primary:setting");
    check(&|s| s.default_isolation = "serializable".into(), select, "primary:transaction");
    check(&|s| s.search_path = vec!["pg_catalog".into()], select, "primary:not_cached");
    check(&|s| s.search_path = vec!["public".into(), "pg_catalog".into()], select, "primary:setting");
    check(&|s| s.search_path.insert(0, "pg_temp_3".into()), select, "primary:temporary");
    check(&|s| s.search_path.insert(0, "pg_temp_3".into()), "select id from public.users", "engine");
    let seen = "select id from users where seen > '2024-01-01'";
    check(&|s| s.time_zone = "Europe/Berlin".into(), seen, "primary:value");
    check(
        &|s| s.time_zone = "Europe/Berlin".into(),
        "select seen from users where seen > '2024-01-01 00:00Z'",
        "engine",
    );
    let ours = "select name from millpond.tables";
    check(&|s| s.route = RouteSetting::Primary, ours, "engine");
    check(&|s| s.role = "guest".into(), ours, "engine");
}

#[test]
fn formats_depend_on_settings() {
    let mut fixture = Fixture::new();
    let plan = fixture.plan("select id, seen from users", &[]).unwrap();
    assert_eq!(plan.check_formats(&[], &fixture.session), Ok(()));
    fixture.session.time_zone = "Europe/Berlin".into();
    assert_eq!(plan.check_formats(&[false, false], &fixture.session), Err(Reason::Setting));
    assert_eq!(plan.check_formats(&[false, true], &fixture.session), Ok(()));
    fixture.session.client_encoding = "SQL_ASCII".into();
    assert_eq!(plan.check_formats(&[true, true], &fixture.session), Err(Reason::Setting));
}

#[test]
fn parameters_get_the_types_that_postgres_gives() {
    let fixture = Fixture::new();
    for (sql, declared, expected) in [
        ("select id from users where id = $1 and name = $2", &[][..], &[oid::INT4, oid::TEXT][..]),
        ("select id from users where \"user\" = $1", &[], &[oid::TEXT]),
        ("select id from users where \"user\" in ($1, $2)", &[], &[oid::VARCHAR, oid::VARCHAR]),
        ("select id from users where \"user\" in ($1)", &[], &[oid::TEXT]),
        ("select id from users where \"Age\" in ($1, 3)", &[], &[oid::INT4]),
        ("select id from users where id = $1", &[oid::INT8], &[oid::INT8]),
        ("select id from users where id = $1", &[0, oid::TEXT], &[oid::INT4, oid::TEXT]),
        ("select id from users limit $1 offset $2", &[], &[oid::INT8, oid::INT8]),
        ("select id from users where id = $1::bigint", &[], &[oid::INT8]),
        ("select id from users where id = $1::integer", &[oid::INT2], &[oid::INT2]),
        ("select id from users where id in ($1::bigint, $2)", &[oid::INT2], &[oid::INT2, oid::INT8]),
    ] {
        let types: Result<Vec<u32>, Reason> =
            fixture.plan(sql, declared).map(|p| p.param_types().iter().map(|t| t.0).collect());
        assert_eq!(types.as_deref(), Ok(expected), "{sql}");
    }
    assert_eq!(fixture.plan("select id from users where id = $1", &[oid::TEXT]).err(), Some(Reason::Type));
    assert_eq!(fixture.plan("select id from users where id = $1", &[600]).err(), Some(Reason::Type));
    let narrower = fixture.plan("select id from users where id = $1::int2", &[oid::INT4]);
    assert_eq!(narrower.err(), Some(Reason::Type));
}

#[test]
fn answers() {
    let fixture = Fixture::new();
    for (sql, params, expected) in [
        ("select name from users where id = 2", &[][..], Ok(&["bob"][..])),
        ("select name from users where id = $1", &[Some("3")], Ok(&["cyd"])),
        ("select name from users where id = $1", &[None], Ok(&[])),
        ("select name from users where id = $1", &[Some("x")], Err(Reason::Value)),
        ("select name from users where id = $1", &[], Err(Reason::Value)),
        ("select name from users where id = 99999999999", &[], Ok(&[])),
        ("select id from users where id < 99999999999 order by id limit 2", &[], Ok(&["1", "2"])),
        ("select id from users where id > 99999999999 order by id", &[], Ok(&[])),
        ("select id from users where id in (3, 1, 3, null) order by 1 desc", &[], Ok(&["3", "1"])),
        ("select id from users where id not in (3, null)", &[], Ok(&[])),
        ("select id from users where not active", &[], Ok(&["2"])),
        ("select id from users order by id desc limit 1 offset 1", &[], Ok(&["2"])),
        ("select id from users limit $1", &[Some("-1")], Err(Reason::Value)),
        ("select id from users order by id limit $1", &[None], Ok(&["1", "2", "3"])),
        ("select count(*) from users where active", &[], Ok(&["2"])),
        ("select sum(id) from users", &[], Ok(&["6"])),
        ("select sum(id) from users where id > 9", &[], Ok(&["Null"])),
        ("select max(id) from users limit 0", &[], Ok(&[])),
        ("select 'x' from users where id = 1", &[], Ok(&["x"])),
        (
            "select (select sum(id) from users), (select count(*) from users where not active)",
            &[],
            Ok(&["6"]),
        ),
        ("select ((select max(id) from users where id < $1)) x", &[Some("3")], Ok(&["2"])),
        ("select (select id from users)", &[], Err(Reason::Unsupported)),
        ("select (select sum(id) from users limit 0)", &[], Err(Reason::Unsupported)),
        ("select (select sum(id) from users), 1", &[], Err(Reason::Unsupported)),
        ("select (select sum(id) from users) where false", &[], Err(Reason::Unsupported)),
        ("select (select sum(x.id) from users)", &[], Err(Reason::Column)),
        ("select (select sum(id) from loading)", &[], Err(Reason::Loading)),
    ] {
        let rows = fixture.answer(sql, params);
        let rows = rows.as_ref().map(|r| r.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(rows.as_deref().map_err(|r| **r), expected, "{sql} {params:?}");
    }
}

#[test]
fn our_own_views_are_tables() {
    let fixture = Fixture::new();
    for (oid, name, state) in [(1, "a", TableState::Live), (2, "b", TableState::Copying)] {
        fixture.status.update_table(TableOid(oid), |t| {
            t.name = name.into();
            t.state = state;
            t.rows = 5;
        });
    }
    let answer = |sql| fixture.answer(sql, &[]).unwrap_or_default();
    assert_eq!(answer("select name from millpond.tables where state = 'live'"), ["a"]);
    assert_eq!(answer("select name from millpond.tables order by name desc"), ["b", "a"]);
    assert_eq!(answer("select sum(rows) from millpond.tables").len(), 1);
    assert_eq!(answer("select state from millpond.replication where lag_bytes < 1"), ["connecting"]);
    assert_eq!(answer("select count(*) from millpond.tables where lsn = '0/0'"), ["2"]);
    let plan = fixture.plan("select * from millpond.tables", &[]).unwrap();
    assert_eq!((plan.table(), plan.columns()[0].table_oid), (None, TableOid(0)));
}

#[test]
fn a_stopped_query_ends() {
    let fixture = Fixture::new();
    (1..=5000).for_each(|oid| fixture.status.update_table(TableOid(oid), |_| {}));
    let plan = fixture.plan("select count(*) from millpond.tables", &[]).unwrap();
    let open = |stop| plan.open_unless(fixture.store.snapshot(), &[], &[], &|| stop);
    assert_eq!(open(true).err(), Some(Reason::Canceled));
    assert!(open(false).is_ok());
}
