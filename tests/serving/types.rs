//! Every built-in type, through copy and stream, in text and binary: the same bytes from both ports.

use tokio_postgres::Client;

use super::Raw;
use crate::support::{client, mirror::Mirror, postgres::on_each_version};

/// Types and values, as SQL expressions. `null` is added to each.
const TYPES: &[(&str, &[&str])] = &[
    ("bool", &["true", "false"]),
    ("int2", &["-32768", "32767", "0"]),
    ("int4", &["-2147483648", "2147483647"]),
    ("int8", &["-9223372036854775808", "9223372036854775807"]),
    ("oid", &["0", "4294967295"]),
    (
        "float4",
        &["'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "1.1", "3.4028235e38", "1e-45", "123456", "1234567"],
    ),
    (
        "float8",
        &[
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "'-0'",
            "0.1",
            "1e23",
            "5e-324",
            "1e15",
            "1e14",
            "1e-5",
            "0.0001",
        ],
    ),
    (
        "numeric",
        &[
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "0",
            "0.00",
            "-1.10",
            "1e100",
            "1e-100",
            "repeat('9', 2000)::numeric",
            "10000",
            "0.0001",
        ],
    ),
    ("numeric(12,3)", &["1.5", "-999999999.999", "0"]),
    ("text", &["''", "'x'", "'é日本😀'", "repeat('long ', 3000)", "E'tab\\tnew\\nline\\\\'"]),
    ("varchar(10)", &["''", "'abc'", "'ab '"]),
    ("char(5)", &["''", "'abc'", "'é'"]),
    ("name", &["'a name'"]),
    ("bytea", &["''", "'\\x00ff10'"]),
    (
        "date",
        &[
            "'2024-02-29'",
            "'infinity'",
            "'-infinity'",
            "'0044-03-15 BC'",
            "'5874897-12-31'",
            "'4714-11-24 BC'",
        ],
    ),
    ("time", &["'00:00'", "'24:00:00'", "'12:34:56.789012'"]),
    ("time(2)", &["'12:34:56.789'"]),
    ("timetz", &["'12:00+05:30'", "'24:00:00-15:59'", "'00:00:00.5+00'"]),
    (
        "timestamp",
        &[
            "'2024-02-29 12:34:56.5'",
            "'infinity'",
            "'-infinity'",
            "'0044-03-15 01:02:03 BC'",
            "'294276-12-31 23:59:59.999999'",
        ],
    ),
    (
        "timestamptz",
        &["'2024-02-29 12:34:56.123456+02'", "'infinity'", "'-infinity'", "'4714-11-24 00:00:00+00 BC'"],
    ),
    (
        "interval",
        &[
            "'1 year -2 mons 3 days -04:05:06.789'",
            "'0'",
            "'-1 day'",
            "'178000000 years'",
            "'-00:00:00.000001'",
        ],
    ),
    ("uuid", &["'00000000-0000-0000-0000-000000000000'", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"]),
    ("json", &["'{\"a\" : [1, 2.50,  null]}'", "'\"é\\u00e9\"'", "'1'"]),
    ("jsonb", &["'{\"b\": [1, 2.50, null], \"a\": {}}'", "'\"é\"'", "'1.00'"]),
    ("xml", &["'<a>é</a>'", "''"]),
    ("money", &["'$1,234,567.89'", "'-$0.01'", "'0'"]),
    ("inet", &["'10.1.2.3'", "'10.0.0.0/8'", "'::1'", "'2001:db8::/32'"]),
    ("cidr", &["'10.0.0.0/8'", "'2001:db8::/32'"]),
    ("macaddr", &["'08:00:2b:01:02:03'"]),
    ("macaddr8", &["'08:00:2b:01:02:03:04:05'"]),
    ("bit(11)", &["B'10101010101'"]),
    ("varbit", &["B''", "B'1'", "B'101010101'"]),
    ("point", &["'(1,-2.5)'", "'(NaN,Infinity)'"]),
    ("line", &["'{1,2,3}'"]),
    ("lseg", &["'[(1,2),(3,4)]'"]),
    ("box", &["'(3,4),(1,2)'"]),
    ("path", &["'[(1,2),(3,4)]'", "'((1,2),(3,4),(5,6))'"]),
    ("polygon", &["'((1,2),(3,4),(5,6))'"]),
    ("circle", &["'<(1,2),3.5>'"]),
    ("tsvector", &["''", "'a:1A fat:2B,4C cat:5D ''it''''s'''", "'x y z'"]),
    ("tsquery", &["'a & (b | !c)'", "'fat <-> cat:AB*'"]),
    ("pg_lsn", &["'0/0'", "'16/B374D848'"]),
    ("xid8", &["'18446744073709551615'"]),
    ("tid", &["'(4294967295,65535)'"]),
    (
        "int4[]",
        &["'{}'", "'{1,NULL,3}'", "'[2:3]={4,5}'", "'{{1,2},{3,4}}'", "'[-1:0][5:6]={{1,2},{3,NULL}}'"],
    ),
    ("text[]", &["'{}'", "'{a,\"b c\",NULL,\"NULL\",\"\",\"q\\\"\\\\\"}'", "'{é,\"{x}\"}'"]),
    ("numeric[]", &["'{1.0,1.00,NaN}'"]),
    ("timestamptz[]", &["'{\"2024-01-01 00:00+00\",infinity}'"]),
    ("box[]", &["'{(1,1),(0,0);(2,2),(1,1)}'"]),
    ("jsonb[]", &["array['{\"a\": \"x,y\"}']::jsonb[]"]),
    ("int4range", &["'empty'", "'[1,5)'", "'(,)'", "'[1,]'"]),
    ("numrange", &["'[1.0,2.50]'", "'(1,)'"]),
    ("tsrange", &["'[2024-01-01,2024-02-01)'", "'[,infinity]'"]),
    ("tstzrange", &["'[2024-01-01 00:00+00,)'"]),
    ("daterange", &["'[2024-01-01,2024-01-31]'"]),
    ("int8range[]", &["'{\"[1,2]\",empty}'"]),
    ("int4multirange", &["'{}'", "'{[1,2),[5,9)}'"]),
    ("nummultirange", &["'{[1.5,2.5],(7,)}'"]),
    ("mood", &["'sad'", "'ver \"y\"'"]),
    ("mood[]", &["'{sad,\"ver \\\"y\\\"\"}'"]),
    ("positive", &["1", "2147483647"]),
    ("tags", &["'{a,b}'"]),
    ("short", &["'ab'", "''"]),
    (
        "address",
        &["row('a \"street\"', 7, null)::address", "row('', null, '{1,2}')::address", "null::address"],
    ),
    ("address[]", &["array[row('x,y', 1, '{3}')::address, null]"]),
    ("span", &["'[1.5,2.5)'", "'empty'"]),
];

const DEFINITIONS: &str = "
    create type mood as enum ('sad', 'ver \"y\"', 'happy');
    create domain positive as int4 check (value > 0);
    create domain tags as text[];
    create domain short as varchar(7);
    create type address as (street text, number int, codes int[]);
    create type span as range (subtype = float8);";

/// Types whose binary results come from the primary: their text cannot be read back exactly, so it is
/// all that is kept.
const TEXT_ONLY: &[&str] = &["tsquery"];

fn column(position: usize) -> String {
    format!("c{position}")
}

/// Inserts rows with the values of every type, starting at an id.
async fn insert(primary: &Client, tables: &[(String, Vec<usize>)], from: usize) {
    for (table, types) in tables {
        let most = types.iter().map(|t| TYPES[*t].1.len()).max().unwrap_or(0);
        for row in 0..=most {
            let value = |t: &usize| {
                let (name, values) = TYPES[*t];
                values.get(row).map_or(format!("null::{name}"), |value| format!("({value})::{name}"))
            };
            let values: Vec<String> = types.iter().map(value).collect();
            let sql = format!("insert into {table} values ({}, {})", from + row, values.join(", "));
            client::execute(primary, &sql).await;
        }
    }
}

async fn route(local: &Client) -> String {
    client::value(local, "show millpond.last_route").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_comes_out_as_from_the_primary() {
    // In one database every type is known, and the stream is binary; in the other, an extension-like
    // type makes it text.
    for text_stream in [false, true] {
        on_each_version(async |database| {
            let primary = database.connect().await;
            client::execute(&primary, DEFINITIONS).await;
            let opaque = |t: &usize| TEXT_ONLY.contains(&TYPES[*t].0);
            let (text_only, plain): (Vec<usize>, Vec<usize>) = (0..TYPES.len()).partition(opaque);
            let mut tables = vec![("plain".to_owned(), plain)];
            if text_stream {
                tables.push(("opaque".to_owned(), text_only));
            }
            for (table, types) in &tables {
                let columns: Vec<String> =
                    types.iter().map(|t| format!("{} {}", column(*t), TYPES[*t].0)).collect();
                let sql = format!("create table {table} (id int primary key, {})", columns.join(", "));
                client::execute(&primary, &sql).await;
            }
            insert(&primary, &tables, 0).await;
            let mirror = Mirror::start(&database.url, "[\"public.*\"]").await;
            insert(&primary, &tables, 100).await;
            client::execute(&primary, "update plain set id = id + 1000 where id between 103 and 105").await;
            mirror.catch_up(&primary).await;
            let local = client::connect(&mirror.url("postgres", &database.name)).await;
            for (table, types) in &tables {
                let all = format!("select * from {table} order by id");
                client::assert_same_rows(&local, &primary, &all).await;
                assert_eq!(route(&local).await, "engine", "{table} from memory");
                for t in types {
                    let name = TYPES[*t].0;
                    let sql = format!("select id, {} from {table} order by id", column(*t));
                    compare_binary(&local, &primary, &sql, name).await;
                    let expected = if TEXT_ONLY.contains(&name) { "primary:type" } else { "engine" };
                    assert_eq!(route(&local).await, expected, "binary {name}");
                }
            }
            assert_eq!(mirror.daemon.status.replication().reconnects, 0);
            mirror.stop().await;
        })
        .await;
    }
}

async fn compare_binary(local: &Client, primary: &Client, sql: &str, name: &str) {
    let [ours, theirs] = [local.query(sql, &[]).await, primary.query(sql, &[]).await]
        .map(|rows| rows.unwrap_or_else(|error| panic!("{name}: {error:?}")));
    assert_eq!(ours.len(), theirs.len(), "{name}");
    for (our, their) in ours.iter().zip(&theirs) {
        assert_eq!(our.columns()[1].type_(), their.columns()[1].type_(), "{name}");
        let raw = |row: &tokio_postgres::Row| row.get::<_, Option<Raw>>(1).map(|raw| raw.0);
        assert_eq!(raw(our), raw(their), "{name} in row {}", our.get::<_, i32>(0));
    }
}
