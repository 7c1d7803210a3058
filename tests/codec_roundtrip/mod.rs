//! The codec against real servers: what the server writes, as text and as binary, must be what we
//! read and write, for hand-picked and random values of every type.
//!
//! `MILLPOND_TEST_SEED` repeats the random values of a run, `MILLPOND_TEST_SCALE` makes it longer.

mod literals;

use std::{error::Error, sync::Arc};

use bytes::BytesMut;
use millpond::{
    codec::{read_binary, read_text, reads_binary, reads_text, write_binary, write_text},
    types::{Datum, PgType, TypeKind, TypeOid},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio_postgres::{
    Client, SimpleQueryMessage,
    types::{FromSql, Kind, Type},
};

use self::literals::{arrays_of, composites_of, scalar_literals};
use crate::{
    mirror::{scaled, seed},
    support::postgres::{Database, on_each_version},
};

/// The settings that the codec's text stands for.
const SETTINGS: &str = "set datestyle = 'ISO, MDY'; set intervalstyle = postgres; set timezone = 'UTC'; \
     set extra_float_digits = 3; set bytea_output = hex; set lc_monetary = 'C'";

async fn connect(database: &Database) -> Client {
    let client = database.connect().await;
    crate::support::client::execute(&client, SETTINGS).await;
    client
}

/// The bytes of a value as the wire carries them.
struct Wire(Option<Vec<u8>>);

impl<'a> FromSql<'a> for Wire {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Wire, Box<dyn Error + Sync + Send>> {
        Ok(Wire(Some(raw.to_vec())))
    }

    fn from_sql_null(_: &Type) -> Result<Wire, Box<dyn Error + Sync + Send>> {
        Ok(Wire(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// What the catalogue would make of a type.
fn pg_type(ty: &Type) -> PgType {
    let part = |ty: &Type| Arc::new(pg_type(ty));
    let kind = match ty.kind() {
        Kind::Enum(labels) => TypeKind::Enum(labels.clone()),
        Kind::Domain(base) => TypeKind::Domain(part(base)),
        Kind::Range(subtype) => TypeKind::Range(part(subtype)),
        Kind::Multirange(subtype) => TypeKind::Multirange(part(subtype)),
        Kind::Composite(fields) => TypeKind::Composite(fields.iter().map(|f| part(f.type_())).collect()),
        Kind::Array(element) => {
            let delimiter = if *element == Type::BOX { b';' } else { b',' };
            TypeKind::Array { element: part(element), delimiter }
        }
        _ => simple_kind(ty.name()),
    };
    PgType { oid: TypeOid(ty.oid()), name: ty.name().to_owned(), len: -1, kind }
}

fn simple_kind(name: &str) -> TypeKind {
    match name {
        "bool" => TypeKind::Bool,
        "char" => TypeKind::Char,
        "int2" => TypeKind::Int2,
        "int4" => TypeKind::Int4,
        "int8" => TypeKind::Int8,
        "oid" => TypeKind::Oid,
        "xid" => TypeKind::Xid,
        "cid" => TypeKind::Cid,
        "xid8" => TypeKind::Xid8,
        "tid" => TypeKind::Tid,
        "pg_lsn" => TypeKind::PgLsn,
        "float4" => TypeKind::Float4,
        "float8" => TypeKind::Float8,
        "numeric" => TypeKind::Numeric,
        "money" => TypeKind::Money,
        "text" | "varchar" | "name" => TypeKind::Text,
        "bpchar" => TypeKind::BpChar,
        "bytea" => TypeKind::Bytea,
        "date" => TypeKind::Date,
        "time" => TypeKind::Time,
        "timetz" => TypeKind::TimeTz,
        "timestamp" => TypeKind::Timestamp,
        "timestamptz" => TypeKind::TimestampTz,
        "interval" => TypeKind::Interval,
        "uuid" => TypeKind::Uuid,
        "json" => TypeKind::Json,
        "jsonb" => TypeKind::Jsonb,
        "xml" => TypeKind::Xml,
        "inet" => TypeKind::Inet,
        "cidr" => TypeKind::Cidr,
        "macaddr" => TypeKind::MacAddr,
        "macaddr8" => TypeKind::MacAddr8,
        "bit" => TypeKind::Bit,
        "varbit" => TypeKind::VarBit,
        "point" => TypeKind::Point,
        "line" => TypeKind::Line,
        "lseg" => TypeKind::Lseg,
        "box" => TypeKind::Box,
        "path" => TypeKind::Path,
        "polygon" => TypeKind::Polygon,
        "circle" => TypeKind::Circle,
        "tsvector" => TypeKind::TsVector,
        "tsquery" => TypeKind::TsQuery,
        _ => TypeKind::Opaque,
    }
}

/// One value as the server gave it, in both forms.
struct Sample {
    text: Vec<u8>,
    binary: Vec<u8>,
}

/// A type and its values.
struct Samples {
    sql_type: String,
    ty: PgType,
    samples: Vec<Sample>,
}

/// Fetches every value of the table `sample` in both forms.
async fn fetch(client: &Client, sql_type: &str) -> Samples {
    const QUERY: &str = "select v from sample order by n";
    let statement = client.prepare(QUERY).await.unwrap();
    let mut ty = pg_type(statement.columns()[0].type_());
    if ty.is_opaque() && sql_type.ends_with("multirange") {
        // The client library does not look up a user's multirange; its range has the same subtype.
        let range = format!("select null::{}", sql_type.replace("multirange", "range"));
        let range = client.prepare(&range).await.unwrap();
        if let TypeKind::Range(subtype) = pg_type(range.columns()[0].type_()).kind {
            ty.kind = TypeKind::Multirange(subtype);
        }
    }
    let binary = client.query(&statement, &[]).await.unwrap();
    let texts = client.simple_query(QUERY).await.unwrap();
    let texts = texts.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).map(|text| text.as_bytes().to_vec())),
        _ => None,
    });
    let mut samples = Vec::new();
    for (row, text) in binary.iter().zip(texts) {
        match (row.get::<_, Wire>(0).0, text) {
            (Some(binary), Some(text)) => samples.push(Sample { text, binary }),
            (None, None) => {}
            (binary, text) => panic!("{sql_type}: NULL in one form only: {binary:?} {text:?}"),
        }
    }
    assert!(!samples.is_empty(), "{sql_type}");
    Samples { sql_type: sql_type.to_owned(), ty, samples }
}

/// Has the server read each literal as the type.
async fn from_literals(client: &Client, sql_type: &str, literals: &[String]) -> Samples {
    client
        .batch_execute(&format!(
            "drop table if exists sample; create table sample (n int generated always as identity, v {sql_type})"
        ))
        .await
        .unwrap();
    let insert = format!(
        "insert into sample (v) select l::{sql_type} from unnest($1::text[]) with ordinality u (l, i) order by i"
    );
    if let Err(error) = client.execute(&insert, &[&literals]).await {
        panic!("{sql_type}: {error:?}");
    }
    fetch(client, sql_type).await
}

/// Fills a table by a query with one column.
async fn from_query(client: &Client, sql_type: &str, query: &str) -> Samples {
    let fill = format!(
        "drop table if exists sample; create table sample (n int generated always as identity, v {sql_type}); \
         insert into sample (v) {query}"
    );
    if let Err(error) = client.batch_execute(&fill).await {
        panic!("{sql_type}: {query}: {error:?}");
    }
    fetch(client, sql_type).await
}

fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.get(..300).unwrap_or(bytes)).into_owned()
}

/// Every way through the codec must give what the server gave.
fn check(server: &str, samples: &Samples) {
    let Samples { sql_type, ty, samples } = samples;
    assert!(reads_binary(ty), "{sql_type}");
    for Sample { text, binary } in samples {
        let what = format!("{server}: {sql_type} {:?} {binary:02x?}", show(text));
        let datum = read_binary(ty, binary).unwrap_or_else(|error| panic!("{what}: read_binary: {error}"));
        let mut out = BytesMut::new();
        write_text(ty, -1, &datum, &mut out).unwrap_or_else(|error| panic!("{what}: write_text: {error}"));
        assert_eq!(show(&out), show(text), "{what}: write_text");
        assert!(out == text, "{what}: write_text, further on");
        out.clear();
        write_binary(ty, &datum, &mut out).unwrap_or_else(|error| panic!("{what}: write_binary: {error}"));
        assert!(out == binary, "{what}: write_binary gave {:02x?}", &out[..]);
        if !reads_text(ty) {
            continue;
        }
        let mut scratch = vec![1, 2, 3];
        let parsed =
            read_text(ty, text, &mut scratch).unwrap_or_else(|error| panic!("{what}: read_text: {error}"));
        assert!(parsed.identical(&datum), "{what}: read_text gave {parsed:02x?}");
        out.clear();
        write_binary(ty, &parsed, &mut out).unwrap_or_else(|error| panic!("{what}: write_binary: {error}"));
        assert!(out == binary, "{what}: text to binary gave {:02x?}", &out[..]);
    }
    println!("{server}: {sql_type}: {} values", samples.len());
}

/// Damages the bytes of a value in one of the ways that a broken peer could.
fn mutate(rng: &mut StdRng, original: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..=bytes.len());
        match rng.random_range(0..6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, rng.random()),
            2 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << rng.random_range(0..8);
                }
            }
            3 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = *b"\0\xff\x7f\x80\"\\{}(),-9:".get(rng.random_range(0..14usize)).unwrap_or(&0);
                }
            }
            4 => {
                let from = rng.random_range(0..=other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ => {
                if at < bytes.len() {
                    bytes.remove(at);
                }
            }
        }
    }
    bytes
}

/// Damaged values never panic, and what is accepted can be written.
fn check_damaged(samples: &Samples, rng: &mut StdRng) {
    let Samples { sql_type, ty, samples } = samples;
    for round in 0..scaled(400) {
        let sample = &samples[round % samples.len()];
        let other = &samples[rng.random_range(0..samples.len())];
        if sample.binary.len() > 4096 {
            continue;
        }
        let bytes = mutate(rng, &sample.binary, &other.binary);
        if let Ok(datum) = read_binary(ty, &bytes) {
            check_writable(sql_type, ty, &datum);
        }
        // A datum that no reader has checked.
        let _ = write_text(ty, -1, &Datum::Bytes(&bytes), &mut BytesMut::new());
        let bytes = mutate(rng, &sample.text, &other.text);
        let mut scratch = Vec::new();
        if let Ok(datum) = read_text(ty, &bytes, &mut scratch) {
            check_writable(sql_type, ty, &datum);
        }
    }
}

/// An accepted value has a text and a binary form, and the binary form is accepted again.
fn check_writable(sql_type: &str, ty: &PgType, datum: &Datum<'_>) {
    let mut out = BytesMut::new();
    write_text(ty, -1, datum, &mut out).unwrap_or_else(|error| panic!("{sql_type}: {datum:02x?}: {error}"));
    out.clear();
    write_binary(ty, datum, &mut out).unwrap_or_else(|error| panic!("{sql_type}: {datum:02x?}: {error}"));
    let again = read_binary(ty, &out).unwrap_or_else(|error| panic!("{sql_type}: {datum:02x?}: {error}"));
    assert!(again.identical(datum), "{sql_type}: {datum:02x?} {again:02x?}");
}

async fn gather(client: &Client, rng: &mut StdRng) -> Vec<Samples> {
    client
        .batch_execute(
            "create type mood as enum ('sad', 'so so', 'a\"b', 'null'); \
             create domain positive as numeric(10,3) check (value > 0); \
             create domain word as text; \
             create domain words as text[]; \
             create type pair as (a int4, b text); \
             create type record3 as (n numeric, t timestamptz, p pair, w words, d positive, m mood); \
             create type one as (a text); \
             create type textrange as range (subtype = text, collation = \"C\"); \
             create type pairrange as range (subtype = pair)",
        )
        .await
        .unwrap();
    let scalars = scalar_literals(rng);
    let literals = |name: &str| -> Vec<String> {
        let (_, literals) = scalars.iter().find(|(sql_type, _)| *sql_type == name).unwrap();
        literals.iter().filter(|literal| literal.len() < 1000).take(300).cloned().collect()
    };
    let mut gathered = Vec::new();
    for (sql_type, literals) in &scalars {
        gathered.push(from_literals(client, sql_type, literals).await);
    }
    gathered.push(from_query(client, "interval", "select make_interval(months => m, days => d, secs => s) from generate_series(-25, 25, 5) m, generate_series(-2, 2) d, unnest(array[0, -0.000001, 61.5, -7200]) s").await);
    let version: i32 =
        client.query_one("select current_setting('server_version_num')::int", &[]).await.unwrap().get(0);
    if version >= 150_000 {
        // Before, an interval's hours had to fit 32 bits when it was read.
        let longest = ["2562047788:00:54.775807".to_owned()];
        gathered.push(from_literals(client, "interval", &longest).await);
    }
    if version >= 170_000 {
        let infinities = ["infinity".to_owned(), "-infinity".to_owned()];
        gathered.push(from_literals(client, "interval", &infinities).await);
    }
    if version >= 160_000 {
        // Before, bytes that are not ASCII are written as they are, which is not text in UTF-8.
        gathered.push(
            from_query(client, "\"char\"", "select i::\"char\" from generate_series(-128, 127) i").await,
        );
    }
    if client.query_one("select '<a/>'::xml is document", &[]).await.is_ok() {
        let documents = [
            "<a/>",
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><a>é</a>",
            "text",
            "<?xml version=\"1.0\" standalone=\"yes\"?><a/>",
            "\n<a/>",
        ]
        .map(str::to_owned);
        client.batch_execute("set xmloption = content").await.unwrap();
        gathered.push(from_literals(client, "xml", &documents).await);
    }

    let moods = ["sad", "so so", "a\"b", "null"].map(str::to_owned);
    gathered.push(from_literals(client, "mood", &moods).await);
    let positives = ["1", "0.001", "9999999.999"].map(str::to_owned);
    gathered.push(from_literals(client, "positive", &positives).await);
    gathered.push(from_literals(client, "word", &literals("text")).await);

    for (array, element, delimiter) in [
        ("bool[]", "bool", ","),
        ("int2[]", "int2", ","),
        ("int4[]", "int4", ","),
        ("int8[]", "int8", ","),
        ("float8[]", "float8", ","),
        ("numeric[]", "numeric", ","),
        ("text[]", "text", ","),
        ("varchar[]", "text", ","),
        ("char(9)[]", "char(9)", ","),
        ("word[]", "text", ","),
        ("bytea[]", "bytea", ","),
        ("date[]", "date", ","),
        ("timestamptz[]", "timestamptz", ","),
        ("interval[]", "interval", ","),
        ("uuid[]", "uuid", ","),
        ("jsonb[]", "jsonb", ","),
        ("inet[]", "inet", ","),
        ("money[]", "money", ","),
        ("box[]", "box", ";"),
        ("point[]", "point", ","),
        ("tsvector[]", "tsvector", ","),
        ("tsquery[]", "tsquery", ","),
        ("words", "text", ","),
    ] {
        let arrays = arrays_of(rng, &literals(element), delimiter);
        gathered.push(from_literals(client, array, &arrays).await);
    }
    gathered.push(from_literals(client, "mood[]", &arrays_of(rng, &moods, ",")).await);
    let small: Vec<String> = literals("int4");
    let pairs = composites_of(rng, &[small.clone(), literals("text")]);
    gathered.push(from_literals(client, "pair", &pairs).await);
    gathered.push(from_literals(client, "pair[]", &arrays_of(rng, &pairs, ",")).await);
    let ones = composites_of(rng, &[literals("text")]);
    gathered.push(from_literals(client, "one", &ones).await);
    let words = arrays_of(rng, &literals("text"), ",");
    let records = composites_of(
        rng,
        &[
            literals("numeric"),
            literals("timestamptz"),
            pairs.clone(),
            words,
            positives.to_vec(),
            moods.to_vec(),
        ],
    );
    gathered.push(from_literals(client, "record3", &records).await);
    gathered.push(from_literals(client, "record3[]", &arrays_of(rng, &records, ",")).await);

    // The server itself puts bounds in order.
    for (range, multirange, subtype, element) in [
        ("int4range", "int4multirange", "int4", "int4"),
        ("int8range", "int8multirange", "int8", "int8"),
        ("numrange", "nummultirange", "numeric", "numeric"),
        ("daterange", "datemultirange", "date", "date"),
        ("tsrange", "tsmultirange", "timestamp", "timestamp"),
        ("tstzrange", "tstzmultirange", "timestamptz", "timestamptz"),
        ("textrange", "textmultirange", "text", "text"),
        ("pairrange", "pairmultirange", "pair", ""),
    ] {
        let mut bounds = if element.is_empty() { pairs.clone() } else { literals(element) };
        // The last integers have no next one to make a canonical bound of.
        bounds.retain(|b| !matches!(b.as_str(), "2147483647" | "9223372036854775807" | "5874897-12-31"));
        let quoted: Vec<String> = bounds.iter().map(|b| format!("'{}'", b.replace('\'', "''"))).collect();
        let list = quoted.join(",");
        let collate = if subtype == "text" { " collate \"C\"" } else { "" };
        let pairs_of = format!(
            "with b as (select x::{subtype} x, i from unnest(array[{list}]::text[]) with ordinality u (x, i)), \
             p as (select least(a.x{collate}, b.x) l, greatest(a.x{collate}, b.x) h, a.i + b.i i from b a join b on b.i % 17 = a.i % 17) "
        );
        let one = format!(
            "{range}(case when i % 11 = 0 then null else l end, case when i % 13 = 0 then null else h end, \
             (array['[]', '[)', '(]', '()'])[i % 4 + 1])"
        );
        gathered.push(
            from_query(client, range, &format!("{pairs_of} select {one} from p order by i, l, h limit 1000"))
                .await,
        );
        gathered.push(
            from_query(
                client,
                &format!("{range}[]"),
                &format!("{pairs_of} select array_agg({one}) from p group by i"),
            )
            .await,
        );
        gathered.push(
            from_query(
                client,
                multirange,
                &format!("{pairs_of} select {multirange}(variadic array_agg({one})) from (select * from p order by i, l, h limit 600) p group by i % 150"),
            )
            .await,
        );
        gathered.push(from_query(client, multirange, &format!("select {multirange}()")).await);
    }
    gathered
}

/// Two values hold more in binary than their text says, and keep it: an array that has lost its last
/// NULL still has the flag for them, and a NaN has a sign.
#[tokio::test]
async fn what_text_does_not_show_stays_in_the_binary_form() {
    on_each_version(async |database: Database| {
        let client = connect(&database).await;
        client
            .batch_execute(
                "create table sample (n int, v int4[]); insert into sample values (1, '{1,NULL}'); \
                 update sample set v[2] = 2",
            )
            .await
            .unwrap();
        let array = fetch(&client, "int4[]").await;
        let nan = from_query(&client, "float8", "select 'inf'::float8 - 'inf'::float8").await;
        for (Samples { ty, samples, .. }, text, starts) in
            [(&array, "{1,2}", &[0, 0, 0, 1, 0, 0, 0, 1][..]), (&nan, "NaN", &[0xff])]
        {
            let Sample { text: server_text, binary } = &samples[0];
            assert_eq!(show(server_text), text);
            assert!(binary.starts_with(starts), "{binary:02x?}");
            let datum = read_binary(ty, binary).unwrap();
            let mut out = BytesMut::new();
            write_text(ty, -1, &datum, &mut out).unwrap();
            assert_eq!(&out, text);
            out.clear();
            write_binary(ty, &datum, &mut out).unwrap();
            assert_eq!(&out, binary);
        }
    })
    .await;
}

#[tokio::test]
async fn every_type_round_trips_as_the_server_writes_it() {
    on_each_version(async |database: Database| {
        let mut rng = StdRng::seed_from_u64(seed());
        let client = connect(&database).await;
        let server = format!("on {}", database.version_num);
        for samples in gather(&client, &mut rng).await {
            check(&server, &samples);
            check_damaged(&samples, &mut rng);
        }
    })
    .await;
}
