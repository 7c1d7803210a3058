//! Answers from memory against a real server's: thousands of random statements, each planned here and
//! described there, run on both sides on the same rows, and compared to the last byte.
//!
//! `MILLPOND_TEST_SEED` and `MILLPOND_TEST_QUERIES` repeat or lengthen a run.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    error::Error,
    sync::Arc,
};

use bytes::BytesMut;
use futures_util::TryStreamExt;
use millpond::{
    catalog::{Catalog, CatalogHandle, Privileges, Relation},
    query::{Cursor, Engine, Plan, Planned, Reason, Route, RouteSetting, SessionFacts},
    store::{ChunkBuilder, Store, TableImage},
    telemetry::status::Status,
    types::{
        AttNum, Collation, CollationOrder, ColumnSchema, Datum, IndexKind, IndexSchema, Lsn, PgType,
        ReplicaIdentity, TableOid, TableSchema, TypeKind, TypeOid,
    },
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use tokio_postgres::{
    Client,
    types::{Format, FromSql, IsNull, ToSql, Type, to_sql_checked},
};

use crate::support::postgres::on_each_version;

const SETUP: &str = r#"
create type mood as enum ('sad', 'ok', 'happy', 'Über');
create domain small as int4;
create domain tag as varchar(10) collate "C";
create domain feeling as mood;
create table t (
  id int4 primary key, i2 int2, i4 int4, i8 int8, o oid, f4 float4, f8 float8, n numeric, n2 numeric(10,2),
  tx text collate "C", tv varchar(20) collate "C", ti text collate "en-x-icu", bp char(5) collate "C", nm name,
  bo bool, d date, ts timestamp, tz timestamptz, u uuid, ba bytea, mo mood, sm small, tg tag, fe feeling,
  js jsonb, ti2 time, "Mixed Case" int4, k1 int4 not null, k2 text collate "C" not null
);
insert into t
select g, r(7) - 3, r(9) - 4, r(11)::int8 * 1000000000 - 5, r(6), r(5) / 4.0, r(9) / 4.0 - 1, r(20) / 4.0, r(100) / 100.0,
  (array['a', 'b', 'A', 'ab', 'a ', '', 'é', 'zz'])[1 + r(8)], (array['a', 'b', 'ab', 'a ', 'long text'])[1 + r(5)],
  (array['a', 'B', 'b', 'é', ''])[1 + r(5)], (array['a', 'b', 'ab', '', 'A'])[1 + r(5)], (array['a', 'b', 'n'])[1 + r(3)],
  r(2) = 1, date '2024-01-01' + r(10), timestamp '2024-01-01 00:00:00' + r(50) * interval '1 hour',
  timestamptz '2024-01-01 00:00:00+00' + r(50) * interval '1 hour',
  ('00000000-0000-0000-0000-00000000000' || r(6))::uuid, decode('0' || r(5), 'hex'),
  (array['sad', 'ok', 'happy', 'Über'])[1 + r(4)]::mood, r(5), (array['a', 'b', 'ab'])[1 + r(3)],
  (array['sad', 'ok'])[1 + r(2)]::mood, '{"a": 1}', time '10:00' + r(5) * interval '1 min', r(4), r(3), (array['x', 'y', 'z'])[1 + r(3)]
from generate_series(1, 150) g;
insert into t (id, k1, k2) select g, r(3), 'x' from generate_series(151, 160) g;
insert into t (id, i2, i4, i8, o, f4, f8, n, tx, bp, d, ts, tz, k1, k2) values
  (-1, -32768, -2147483648, -9223372036854775808, 0, '-0', '-0', 'NaN', E'\t', '', 'infinity', 'infinity', 'infinity', 1, 'x'),
  (-2, 32767, 2147483647, 9223372036854775807, 4294967295, 'NaN', 'NaN', 'Infinity', 'zzz', 'zzzzz', '-infinity', '-infinity', '-infinity', 1, 'y'),
  (-3, 0, 0, 0, 1, 'Infinity', '-Infinity', '-Infinity', ' a', ' a', '0044-03-15 BC', '0001-01-01', '9999-12-31', 2, 'x'),
  (-4, 1, 1, 1, 1, 0.1, 0.1, '1.00', 'a', 'a', '2024-01-01', '2024-01-01', '2024-01-01', 2, 'x'),
  (-5, 1, 1, 1, 1, 0.1, 0.1, '1.0', 'a', 'a', '2024-01-01', '2024-01-01', '2024-01-01', 2, 'x'),
  (-6, 1, 1, 1, 1, 1e-30, 1e300, '123456789012345678901234567890.000001', 'a', 'a', null, null, null, 2, 'x');
create index on t (i4);
create index on t (k1, k2, i8);
create index on t (tx);
create index on t (f8);
create index on t (n);
create index on t (bp);
"#;

/// A value of any type as bytes, both ways.
#[derive(Clone, Debug)]
struct Raw {
    bytes: Option<Vec<u8>>,
    binary: bool,
}

impl<'a> FromSql<'a> for Raw {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Raw { bytes: Some(raw.to_vec()), binary: true })
    }
    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Raw { bytes: None, binary: true })
    }
    fn accepts(_: &Type) -> bool {
        true
    }
}

impl ToSql for Raw {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        Ok(match &self.bytes {
            None => IsNull::Yes,
            Some(bytes) => {
                out.extend_from_slice(bytes);
                IsNull::No
            }
        })
    }
    fn accepts(_: &Type) -> bool {
        true
    }
    fn encode_format(&self, _: &Type) -> Format {
        if self.binary { Format::Binary } else { Format::Text }
    }
    to_sql_checked!();
}

impl std::fmt::Debug for Raws<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for raw in self.0 {
            match &raw.bytes {
                None => write!(f, "null ")?,
                Some(b) if raw.binary => write!(f, "{b:02x?} ")?,
                Some(b) => write!(f, "{:?} ", String::from_utf8_lossy(b))?,
            }
        }
        Ok(())
    }
}

struct Raws<'a>(&'a [Raw]);

fn from_wire<'a>(ty: &PgType, raw: &'a Raw) -> Datum<'a> {
    use millpond::types::Physical;
    let Some(b) = &raw.bytes else { return Datum::Null };
    match ty.physical() {
        Physical::Bool => Datum::Bool(b[0] != 0),
        Physical::I16 => Datum::Int2(i16::from_be_bytes(b[..].try_into().unwrap())),
        Physical::I32 => Datum::Int4(i32::from_be_bytes(b[..].try_into().unwrap())),
        Physical::I64 => Datum::Int8(i64::from_be_bytes(b[..].try_into().unwrap())),
        Physical::U32 => Datum::Oid(u32::from_be_bytes(b[..].try_into().unwrap())),
        Physical::F32 => Datum::Float4(f32::from_be_bytes(b[..].try_into().unwrap())),
        Physical::F64 => Datum::Float8(f64::from_be_bytes(b[..].try_into().unwrap())),
        Physical::Fixed16 => Datum::Uuid(b[..].try_into().unwrap()),
        Physical::Bytes => Datum::Bytes(b),
    }
}

fn to_wire(datum: &Datum<'_>) -> Option<Vec<u8>> {
    Some(match datum {
        Datum::Null => return None,
        Datum::Bool(v) => vec![u8::from(*v)],
        Datum::Int2(v) => v.to_be_bytes().to_vec(),
        Datum::Int4(v) => v.to_be_bytes().to_vec(),
        Datum::Int8(v) => v.to_be_bytes().to_vec(),
        Datum::Oid(v) => v.to_be_bytes().to_vec(),
        Datum::Float4(v) => v.to_be_bytes().to_vec(),
        Datum::Float8(v) => v.to_be_bytes().to_vec(),
        Datum::Uuid(v) => v.to_vec(),
        Datum::Bytes(v) => v.to_vec(),
    })
}

/// An engine over a copy of table `t`.
struct Copy {
    engine: Engine,
    store: Arc<Store>,
    rows: Vec<Vec<Raw>>,
    schema: Arc<TableSchema>,
}

/// The one place that knows how rows get into the store.
fn load(schema: &Arc<TableSchema>, rows: &[Vec<Raw>]) -> Arc<Store> {
    let (store, mut writer) = Store::new();
    let mut chunk = ChunkBuilder::new(schema);
    for row in rows {
        let datums: Vec<Datum<'_>> =
            row.iter().zip(&schema.columns).map(|(raw, c)| from_wire(&c.pg_type, raw)).collect();
        chunk.push(&datums);
    }
    writer.load(TableImage::build(Arc::clone(schema), vec![chunk.finish()]));
    writer.set_live(schema.oid, true);
    writer.publish(Lsn(1));
    store
}

async fn copy(client: &Client) -> Result<Copy, Box<dyn Error>> {
    let mut types: HashMap<TypeOid, Arc<PgType>> = HashMap::new();
    let columns = client
        .query(
            "select a.attname::text, a.attnum, a.atttypid, a.atttypmod, a.attnotnull, coalesce(a.attcollation, 0), \
             coalesce(c.collname::text, '') from pg_attribute a \
             left join pg_collation c on c.oid = a.attcollation \
             where a.attrelid = 't'::regclass and a.attnum > 0 and not a.attisdropped order by a.attnum",
            &[],
        )
        .await?;
    let mut schema = TableSchema {
        oid: TableOid(client.query_one("select 't'::regclass::oid", &[]).await?.get(0)),
        schema: "public".into(),
        name: "t".into(),
        columns: Vec::new(),
        unmirrored: Vec::new(),
        identity: ReplicaIdentity::Key(vec![0]),
        indexes: Vec::new(),
        partitioned: false,
    };
    for row in &columns {
        let order = match (row.get::<_, u32>(5), row.get::<_, &str>(6)) {
            (0, _) => CollationOrder::None,
            (_, "C" | "POSIX" | "default") => CollationOrder::Bytes,
            _ => CollationOrder::Deterministic,
        };
        schema.columns.push(ColumnSchema {
            name: row.get(0),
            attnum: AttNum(row.get(1)),
            pg_type: pg_type(client, TypeOid(row.get(2)), &mut types).await?,
            typmod: row.get(3),
            not_null: row.get(4),
            collation: Collation { oid: row.get(5), order },
        });
    }
    let index = |name: &str, columns: &[&str], unique, kind| IndexSchema {
        name: name.into(),
        columns: columns.iter().filter_map(|c| schema.column_position(c)).collect(),
        unique,
        kind,
    };
    schema.indexes = vec![
        index("identity", &["id"], true, IndexKind::Identity),
        index("t_pkey", &["id"], true, IndexKind::Hash),
        index("t_pkey_ordered", &["id"], true, IndexKind::Ordered),
        index("i4", &["i4"], false, IndexKind::Ordered),
        index("k", &["k1", "k2", "i8"], false, IndexKind::Ordered),
        index("tx", &["tx"], false, IndexKind::Ordered),
        index("ti", &["ti"], false, IndexKind::Hash),
        index("f8", &["f8"], false, IndexKind::Ordered),
        index("f4", &["f4"], false, IndexKind::Hash),
        index("n", &["n"], false, IndexKind::Ordered),
        index("bp", &["bp"], false, IndexKind::Ordered),
        index("d", &["d", "bo"], false, IndexKind::Hash),
    ];
    let schema = Arc::new(schema);
    let rows: Vec<Vec<Raw>> = client
        .query("select * from t", &[])
        .await?
        .iter()
        .map(|row| (0..row.len()).map(|i| row.get(i)).collect())
        .collect();
    let domain_typmods = client
        .query("select oid, typtypmod from pg_type where typtype = 'd'", &[])
        .await?
        .iter()
        .map(|row| (TypeOid(row.get(0)), row.get(1)))
        .collect();
    let relation = Relation { oid: schema.oid, kind: b'r' };
    let catalog = Catalog {
        version: 1,
        database: "postgres".into(),
        server_version_num: client
            .query_one("select current_setting('server_version_num')::int4", &[])
            .await?
            .get::<_, i32>(0)
            .cast_unsigned(),
        lc_monetary: "C".into(),
        types,
        domain_typmods,
        relations: HashMap::from([("public".into(), HashMap::from([("t".into(), relation)]))]),
        tables: HashMap::from([(schema.oid, Arc::clone(&schema))]),
        unsupported: Vec::new(),
        privileges: Privileges {
            readable: HashMap::from([("postgres".into(), HashSet::from([schema.oid]))]),
        },
        ..Catalog::default()
    };
    let store = load(&schema, &rows);
    let engine = Engine::new(
        Arc::clone(&store),
        Arc::new(CatalogHandle::new(catalog)),
        Arc::new(Status::default()),
        true,
    );
    Ok(Copy { engine, store, rows, schema })
}

async fn pg_type(
    client: &Client,
    oid: TypeOid,
    types: &mut HashMap<TypeOid, Arc<PgType>>,
) -> Result<Arc<PgType>, Box<dyn Error>> {
    if let Some(known) = types.get(&oid) {
        return Ok(Arc::clone(known));
    }
    let row = client
        .query_one(
            "select typname::text, typlen, typtype::text, typbasetype, \
             array(select enumlabel::text from pg_enum where enumtypid = t.oid order by enumsortorder) \
             from pg_type t where oid = $1",
            &[&oid.0],
        )
        .await?;
    let name: String = row.get(0);
    let kind = match (row.get::<_, &str>(2), name.as_str()) {
        ("d", _) => TypeKind::Domain(Box::pin(pg_type(client, TypeOid(row.get(3)), types)).await?),
        ("e", _) => TypeKind::Enum(row.get(4)),
        (_, "bool") => TypeKind::Bool,
        (_, "int2") => TypeKind::Int2,
        (_, "int4") => TypeKind::Int4,
        (_, "int8") => TypeKind::Int8,
        (_, "oid") => TypeKind::Oid,
        (_, "float4") => TypeKind::Float4,
        (_, "float8") => TypeKind::Float8,
        (_, "numeric") => TypeKind::Numeric,
        (_, "text" | "varchar" | "name") => TypeKind::Text,
        (_, "bpchar") => TypeKind::BpChar,
        (_, "bytea") => TypeKind::Bytea,
        (_, "date") => TypeKind::Date,
        (_, "time") => TypeKind::Time,
        (_, "timestamp") => TypeKind::Timestamp,
        (_, "timestamptz") => TypeKind::TimestampTz,
        (_, "uuid") => TypeKind::Uuid,
        (_, "jsonb") => TypeKind::Jsonb,
        (_, other) => return Err(format!("a type that the test does not know: {other}").into()),
    };
    let ty = Arc::new(PgType { oid, name, len: row.get(1), kind });
    types.insert(oid, Arc::clone(&ty));
    Ok(ty)
}

fn session() -> SessionFacts {
    SessionFacts {
        role: "postgres".into(),
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
    }
}

/// A statement with the parameters it is run with.
#[derive(Default)]
struct Query {
    sql: String,
    params: Vec<Raw>,
    /// The order is total: rows compare in sequence.
    is_total: bool,
}

struct Generator<'a> {
    random: StdRng,
    copy: &'a Copy,
    query: Query,
}

/// Literals (without quotes, for those that need them) that suit a column, and some that do not.
fn literals(column: &str) -> (&'static [&'static str], bool) {
    match column {
        "i2" | "i4" | "i8" | "id" | "k1" | "sm" | "Mixed Case" => (
            &[
                "0",
                "1",
                "2",
                "-1",
                "3",
                "-3",
                "1000000000",
                "3000000000",
                "-5",
                "99999999999",
                "-2147483648",
                "2147483647",
                "9223372036854775807",
                "1.5",
                "1.0",
                "2e0",
                "32767",
                "-32768",
                "40000",
                "-9223372036854775808",
                "1e30",
            ],
            false,
        ),
        "o" => (&["0", "1", "5", "-1", "4294967295"], false),
        "f4" | "f8" | "n" | "n2" => (
            &[
                "0",
                "1",
                "0.5",
                "-0.25",
                "0.1",
                "1.00",
                "2.75",
                "1e3",
                "1e-3",
                "1e300",
                "123456789012345678901234567890",
                "-1",
                ".5",
                "9223372036854775807",
            ],
            false,
        ),
        "tx" | "tv" | "ti" | "bp" | "nm" | "tg" => {
            (&["a", "b", "ab", "A", "a ", "a  ", "", "é", "zz", "n", "long text", "it''s"], true)
        }
        "k2" => (&["x", "y", "z"], true),
        "bo" => (&["true", "f", "yes", "0", "maybe"], true),
        "d" => (&["2024-01-03", "2024-01-09", "2023-12-31", "infinity", "2024-02-30", "Jan 3 2024"], true),
        "ts" => (
            &[
                "2024-01-01 05:00:00",
                "2024-01-02",
                "2024-01-01T07:00",
                "2024-01-01 05:00:00.5",
                "2024-01-01 05:00:00+01",
            ],
            true,
        ),
        "tz" => (
            &[
                "2024-01-01 05:00:00+00",
                "2024-01-01 05:00:00Z",
                "2024-01-02",
                "2024-01-01 07:00:00+02",
                "2024-01-01 05:30+05:30",
                "now",
            ],
            true,
        ),
        "u" => (
            &[
                "00000000-0000-0000-0000-000000000003",
                "00000000-0000-0000-0000-00000000000A",
                "00000000000000000000000000000001",
                "x",
            ],
            true,
        ),
        "ba" => (&["\\x01", "\\x04", "\\x", "abc"], true),
        "mo" | "fe" => (&["sad", "ok", "happy", "Über", "none"], true),
        _ => (&["10:00", "{}"], true),
    }
}

impl Generator<'_> {
    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }

    fn pick<'b, T: ?Sized>(&mut self, from: &[&'b T]) -> &'b T {
        from.choose(&mut self.random).copied().expect("something to choose from")
    }

    fn column(&mut self) -> String {
        let names: Vec<&str> = self.copy.schema.columns.iter().map(|c| c.name.as_str()).collect();
        self.pick(&names).to_owned()
    }

    fn quoted(&mut self, column: &str) -> String {
        let name = if column == "Mixed Case" { "\"Mixed Case\"".to_owned() } else { column.to_owned() };
        match self.random.random_range(0..20) {
            0 => format!("t.{name}"),
            1 if column != "Mixed Case" => name.to_uppercase(),
            2 => format!("public.t.{name}"),
            3 => format!("({name})"),
            _ => name,
        }
    }

    fn literal(&mut self, column: &str) -> String {
        let (pool, quoted) = literals(column);
        let text = self.pick(pool);
        if self.chance(2) {
            return "null".into();
        }
        // A literal of another type now and then.
        if self.chance(3) {
            return self
                .pick(&["1", "'a'", "true", "1.5", "'1'", "null", "date '2024-01-03'", "'a'::text"])
                .to_owned();
        }
        let literal = if quoted || self.chance(20) { format!("'{text}'") } else { text.to_owned() };
        if self.chance(6) {
            let target = match column {
                "d" => "date",
                "ts" => "timestamp",
                "tz" => "timestamptz",
                "u" => "uuid",
                "tx" | "bp" | "ti" => "text",
                "tv" => "varchar",
                "bo" => "bool",
                _ => self.pick(&["int2", "int4", "int8", "numeric", "bigint", "text"]),
            };
            return match self.random.random_range(0..3) {
                0 if literal.starts_with('\'') => format!("{target} {literal}"),
                1 => format!("cast({literal} as {target})"),
                _ if literal.starts_with('-') => format!("({literal})::{target}"),
                _ => format!("{literal}::{target}"),
            };
        }
        literal
    }

    /// A literal or a parameter.
    fn value(&mut self, column: &str) -> String {
        if !self.chance(35) {
            return self.literal(column);
        }
        if !self.query.params.is_empty() && self.chance(10) {
            return format!("${}", self.random.random_range(1..=self.query.params.len()));
        }
        let raw = if self.chance(5) {
            Raw { bytes: None, binary: self.chance(50) }
        } else if self.chance(50) {
            let position = self.copy.schema.column_position(column).expect("a column");
            let row = self.copy.rows.choose(&mut self.random).expect("rows");
            row[position].clone()
        } else {
            let text = self.pick(literals(column).0).replace("''", "'");
            Raw { bytes: Some(text.into_bytes()), binary: false }
        };
        self.query.params.push(raw);
        format!("${}", self.query.params.len())
    }

    fn condition(&mut self, depth: u32) -> String {
        if depth > 0 && self.chance(45) {
            let (a, b) = (self.condition(depth - 1), self.condition(depth - 1));
            return match self.random.random_range(0..8) {
                0 | 1 => format!("({a}) and ({b})"),
                2 | 3 => format!("{a} and {b}"),
                4 => format!("({a} or {b})"),
                5 => format!("{a} or {b}"),
                6 => format!("not {a}"),
                _ => format!(
                    "not ({a}) is {} ",
                    self.pick(&["true", "not true", "false", "unknown", "not unknown"])
                ),
            };
        }
        let name = self.column();
        let column = self.quoted(&name);
        match self.random.random_range(0..20) {
            0 => format!("{column} is null"),
            1 => format!("{column} is not null"),
            2 => {
                let (low, high) = (self.value(&name), self.value(&name));
                let not = self.pick(&["", "not "]);
                format!("{column} {not}between {low} and {high}")
            }
            3..=6 => {
                let count = self.random.random_range(1..5);
                let list: Vec<String> = (0..count).map(|_| self.value(&name)).collect();
                let not = self.pick(&["", "", "not "]);
                format!("{column} {not}in ({})", list.join(", "))
            }
            7 => {
                let value = self.value(&name);
                let not = self.pick(&["", "not "]);
                format!("{column} is {not}distinct from {value}")
            }
            8 => self
                .pick(&[
                    "bo",
                    "not bo",
                    "bo is true",
                    "bo is not false",
                    "bo is unknown",
                    "true",
                    "null",
                    "1 = 1",
                ])
                .to_owned(),
            9 => {
                let other = self.column();
                let other = self.quoted(&other);
                let op = self.pick(&["=", "<", ">=", "<>"]);
                format!("{column} {op} {other}")
            }
            10 => {
                let op = self.pick(&["=", "<>", "<", "<=", ">", ">="]);
                let value = self.value(&name);
                format!("{value} {op} {column}")
            }
            _ => {
                let op = self.pick(&["=", "=", "=", "<>", "!=", "<", "<=", ">", ">="]);
                let value = self.value(&name);
                let space = self.pick(&["", " "]);
                format!("{column}{space}{op}{space}{value}")
            }
        }
    }

    fn generate(&mut self) -> Query {
        self.query = Query::default();
        self.query.sql = if self.chance(8) {
            let values: Vec<String> = (0..self.random.random_range(1..4))
                .map(|_| {
                    let subquery = self.select(true);
                    let alias = self.pick(&["", " as x", " \"Q x\""]);
                    if self.chance(10) {
                        format!("(({subquery})){alias}")
                    } else {
                        format!("({subquery}){alias}")
                    }
                })
                .collect();
            format!("select {}", values.join(", "))
        } else {
            self.select(false)
        };
        std::mem::take(&mut self.query)
    }

    /// One SELECT; with `is_value`, one that gives exactly one value.
    fn select(&mut self, is_value: bool) -> String {
        let mut is_aggregated = false;
        let list = match self.random.random_range(0..10) {
            _ if is_value => {
                is_aggregated = true;
                let name = self.column();
                let column = self.quoted(&name);
                let function = self.pick(&["count", "min", "max", "sum"]);
                let alias = self.pick(&["", "", " as y"]);
                format!("{function}({column}){alias}")
            }
            0 | 1 => "*".to_owned(),
            2 => "t.*, id as again".to_owned(),
            3 | 4 => {
                is_aggregated = true;
                let count = self.random.random_range(1..4);
                let calls: Vec<String> = (0..count)
                    .map(|_| {
                        let name = self.column();
                        let column = self.quoted(&name);
                        let function = self.pick(&["count", "min", "max", "sum", "min", "max", "sum", "avg"]);
                        if self.chance(30) { "count(*)".to_owned() } else { format!("{function}({column})") }
                    })
                    .collect();
                calls.join(", ")
            }
            _ => {
                let count = self.random.random_range(1..5);
                let items: Vec<String> = (0..count)
                    .map(|_| {
                        let name = self.column();
                        let column = self.quoted(&name);
                        match self.random.random_range(0..12) {
                            0 => format!("{column} as x"),
                            1 => format!("{column} \"Q x\""),
                            2 => self
                                .pick(&[
                                    "1",
                                    "'x'",
                                    "true",
                                    "null",
                                    "1.50",
                                    "-1",
                                    "99999999999",
                                    "1 as one",
                                    "-2147483648",
                                    "1e3",
                                    "''",
                                ])
                                .to_owned(),
                            _ => column,
                        }
                    })
                    .collect();
                items.join(", ")
            }
        };
        let from = self.pick(&["t", "t", "public.t", "T", "\"t\""]);
        let mut sql = format!("select {list} from {from}");
        if self.chance(85) {
            let condition = self.condition(3);
            sql += &format!(" where {condition}");
        }
        if !is_aggregated && self.chance(50) {
            let count = self.random.random_range(0..3);
            let mut items: Vec<String> = (0..count)
                .map(|_| {
                    let name = self.column();
                    let column = if self.chance(5) { "1".to_owned() } else { self.quoted(&name) };
                    let direction = self.pick(&["", " asc", " desc"]);
                    let nulls = self.pick(&["", "", " nulls first", " nulls last"]);
                    format!("{column}{direction}{nulls}")
                })
                .collect();
            self.query.is_total = items.is_empty() || self.chance(60);
            if self.query.is_total {
                items.push(self.pick(&["t.id", "t.id desc", "t.id asc nulls last"]).to_owned());
            }
            sql += &format!(" order by {}", items.join(", "));
        }
        if (self.query.is_total || is_aggregated) && !is_value && self.chance(50) {
            let count = |g: &mut Self| match g.random.random_range(0..10) {
                0 => "null".to_owned(),
                1 => "0".to_owned(),
                2 | 3 => {
                    let text = g.pick(&["0", "3", "200", "-1"]).to_owned();
                    g.query.params.push(Raw { bytes: Some(text.into_bytes()), binary: false });
                    format!("${}", g.query.params.len())
                }
                4 => "100".to_owned(),
                _ => g.random.random_range(1..20).to_string(),
            };
            let limit = if self.chance(10) { "all".to_owned() } else { count(self) };
            if self.chance(80) {
                sql += &format!(" limit {limit}");
            }
            if self.chance(40) {
                let offset = count(self);
                sql += &format!(" offset {offset}");
            }
        }
        sql
    }
}

/// Our answer: every row as wire values.
fn answer(plan: &Arc<Plan>, store: &Arc<Store>, params: &[Raw]) -> Result<Vec<Vec<Option<Vec<u8>>>>, Reason> {
    let bytes: Vec<Option<&[u8]>> = params.iter().map(|p| p.bytes.as_deref()).collect();
    let binary: Vec<bool> = params.iter().map(|p| p.binary).collect();
    let mut cursor: Cursor = plan.open(store.snapshot(), &bytes, &binary)?;
    let width = plan.columns().len();
    let mut rows = Vec::new();
    while let Some(row) = cursor.next() {
        rows.push((0..width).map(|i| to_wire(&row.datum(i))).collect());
    }
    Ok(rows)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_is_the_primary_s() {
    let setting = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let seed = setting("MILLPOND_TEST_SEED").unwrap_or_else(rand::random);
    let queries = setting("MILLPOND_TEST_QUERIES").unwrap_or(3000);
    println!("MILLPOND_TEST_SEED={seed}");
    on_each_version(async |database| {
        let client = database.connect().await;
        if let Err(difference) = compare_many(&client, seed, queries).await {
            panic!("{difference}");
        }
    })
    .await;
}

async fn compare_many(client: &Client, seed: u64, queries: u64) -> Result<(), Box<dyn Error>> {
    client
        .batch_execute(
            "create function r(n int) returns int language sql volatile as 'select floor(random() * n)::int'",
        )
        .await?;
    client.batch_execute(&format!("select setseed({}); {SETUP}", (seed % 1000) as f64 / 1000.0)).await?;
    let copy = copy(client).await?;
    let mut generator =
        Generator { random: StdRng::seed_from_u64(seed), copy: &copy, query: Query::default() };

    let mut routes: BTreeMap<String, u64> = BTreeMap::new();
    let mut answered = 0;
    for _ in 0..queries {
        let query = generator.generate();
        let route = compare(client, &copy, &query).await.map_err(|difference| {
            format!("{difference}\nseed {seed}\n{}\nparameters: {:?}", query.sql, Raws(&query.params))
        })?;
        answered += u64::from(!matches!(route, Route::Primary(_)));
        *routes.entry(route.to_string()).or_default() += 1;
    }
    println!("{routes:?}");
    assert!(answered * 5 > queries, "only {answered} of {queries} were answered from memory: {routes:?}");
    for route in ["point", "index", "engine"] {
        assert!(routes.contains_key(route), "no query took the route {route}: {routes:?}");
    }
    Ok(())
}

/// Plans and runs on both sides; an error says where they differ.
async fn compare(client: &Client, copy: &Copy, query: &Query) -> Result<Route, Box<dyn Error>> {
    let statements = copy.engine.parse(&query.sql);
    let [statement] = &statements[..] else { return Err("not one statement".into()) };
    let plan = match copy.engine.plan(statement, &[], &session()) {
        Planned::Local(plan) => plan,
        Planned::Primary(reason) => return Ok(Route::Primary(reason)),
    };
    let prepared = match client.prepare(&query.sql).await {
        Ok(prepared) => prepared,
        Err(error) => return Err(format!("we plan what the primary refuses: {error:?}").into()),
    };
    let theirs: Vec<u32> = prepared.params().iter().map(Type::oid).collect();
    let ours: Vec<u32> = plan.param_types().iter().map(|t| t.0).collect();
    if ours != theirs {
        return Err(format!("parameter types: {ours:?}, the primary's {theirs:?}").into());
    }
    let theirs: Vec<_> = prepared
        .columns()
        .iter()
        .map(|c| {
            (
                c.name().to_owned(),
                c.type_().oid(),
                c.table_oid().unwrap_or(0),
                c.column_id().unwrap_or(0),
                c.type_modifier(),
            )
        })
        .collect();
    let ours: Vec<_> = plan
        .columns()
        .iter()
        .map(|c| (c.name.clone(), c.type_oid.0, c.table_oid.0, c.attnum.0, c.typmod))
        .collect();
    if ours != theirs {
        return Err(format!("columns: {ours:?}, the primary's {theirs:?}").into());
    }
    // The generator may have a parameter that the statement came to use no more.
    let params = &query.params[..prepared.params().len()];
    let answered = answer(&plan, &copy.store, params);
    let theirs = match client.query_raw(&prepared, params).await {
        Ok(stream) => stream.try_collect::<Vec<_>>().await,
        Err(error) => Err(error),
    };
    match (answered, theirs) {
        (Err(reason), _) => Ok(Route::Primary(reason)),
        (Ok(_), Err(error)) => Err(format!("we answer what the primary refuses: {error:?}").into()),
        (Ok(mut ours), Ok(theirs)) => {
            let mut theirs: Vec<Vec<Option<Vec<u8>>>> = theirs
                .iter()
                .map(|row| (0..row.len()).map(|i| row.get::<_, Raw>(i).bytes).collect())
                .collect();
            if !query.is_total {
                ours.sort();
                theirs.sort();
            }
            if ours == theirs {
                return Ok(plan.route());
            }
            let first =
                ours.iter().zip(&theirs).position(|(a, b)| a != b).unwrap_or(ours.len().min(theirs.len()));
            Err(format!(
                "rows by {}: {} of ours, {} of the primary's; first difference at {first}: {:?}, {:?}",
                plan.route(),
                ours.len(),
                theirs.len(),
                ours.get(first),
                theirs.get(first)
            )
            .into())
        }
    }
}
