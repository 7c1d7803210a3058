//! Hand-picked and random literals of every type.

use rand::{Rng, rngs::StdRng};

fn digits(rng: &mut StdRng, len: usize) -> String {
    (0..len).map(|_| char::from(b'0' + rng.random_range(0..10u8))).collect()
}

/// Text with all that quoting has to deal with; no zero byte, which no text has.
fn random_text(rng: &mut StdRng, max_len: usize) -> String {
    const PIECES: &[&str] = &[
        "a",
        "B",
        "0",
        " ",
        "\t",
        "\n",
        "\u{b}",
        "\r",
        "\"",
        "\\",
        "'",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        ";",
        ":",
        "NULL",
        "null",
        "é",
        "日本",
        "\u{1F600}",
        "\u{85}",
        "\u{a0}",
        "%",
        "\u{1}",
    ];
    let len = rng.random_range(0..=max_len);
    (0..len).map(|_| PIECES[rng.random_range(0..PIECES.len())]).collect()
}

fn random_f64(rng: &mut StdRng) -> f64 {
    loop {
        let value = match rng.random_range(0..6) {
            0 => f64::from_bits(rng.random()),
            1 => rng.random_range(-1_000_000..1_000_000) as f64 / 1000.0,
            2 => rng.random::<i64>() as f64 / 2f64.powi(rng.random_range(0..64)),
            3 => format!("{}e{}", rng.random_range(1..10_000), rng.random_range(-320..308)).parse().unwrap(),
            4 => 2f64.powi(rng.random_range(-1074..1024)),
            // Between 2^50 and 2^53 decimal ties occur.
            _ => rng.random_range(1i64 << 50..1 << 53) as f64 / [1.0, 2.0, 4.0, 8.0][rng.random_range(0..4)],
        };
        if value.is_finite() {
            return value;
        }
    }
}

fn random_f32(rng: &mut StdRng) -> f32 {
    loop {
        let value = match rng.random_range(0..3) {
            0 => f32::from_bits(rng.random()),
            1 => rng.random_range(-100_000..100_000) as f32 / 100.0,
            _ => rng.random_range(1i32 << 20..1 << 25) as f32 / [1.0, 2.0, 4.0, 8.0][rng.random_range(0..4)],
        };
        if value.is_finite() {
            return value;
        }
    }
}

fn random_numeric(rng: &mut StdRng) -> String {
    let sign = if rng.random() { "-" } else { "" };
    let (before, after) = (rng.random_range(1..30), rng.random_range(0..30));
    let mut integer = digits(rng, before);
    let mut fraction = digits(rng, after);
    // Runs of zeros are where groups of four go wrong.
    if rng.random() {
        integer = format!("{}{}", &integer[..before / 2], "0".repeat(rng.random_range(1..20)));
    }
    if rng.random() {
        fraction =
            format!("{}{fraction}{}", "0".repeat(rng.random_range(0..9)), "0".repeat(rng.random_range(0..9)));
    }
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{integer}{point}{fraction}")
}

fn random_time(rng: &mut StdRng) -> String {
    let fraction = match rng.random_range(0..4) {
        0 => String::new(),
        len => format!(".{}", digits(rng, len * 2)),
    };
    format!(
        "{:02}:{:02}:{:02}{fraction}",
        rng.random_range(0..24),
        rng.random_range(0..60),
        rng.random_range(0..60)
    )
}

fn random_date(rng: &mut StdRng, max_year: i32) -> (String, &'static str) {
    let (year, era) = match rng.random_range(0..4) {
        0 => (rng.random_range(1..4713), " BC"),
        1 => (rng.random_range(1..max_year), ""),
        _ => (rng.random_range(1900..2100), ""),
    };
    (format!("{year:04}-{:02}-{:02}", rng.random_range(1..13), rng.random_range(1..29)), era)
}

fn random_interval(rng: &mut StdRng) -> String {
    let mut fields = vec![];
    for unit in ["years", "mons", "days", "hours", "minutes", "microseconds"] {
        if rng.random() {
            fields.push(format!("{} {unit}", rng.random_range(-100_000..100_000)));
        }
    }
    if fields.is_empty() { "0".to_owned() } else { fields.join(" ") }
}

fn random_inet(rng: &mut StdRng) -> String {
    if rng.random() {
        let address = std::net::Ipv4Addr::from(rng.random::<u32>());
        return format!("{address}/{}", rng.random_range(0..33));
    }
    // Words that are often zero make runs.
    let words: Vec<String> = (0..8)
        .map(|_| format!("{:x}", [0, 0, 0, 1, 0xffff, rng.random::<u16>()][rng.random_range(0..6)]))
        .collect();
    format!("{}/{}", words.join(":"), rng.random_range(0..129))
}

fn random_point(rng: &mut StdRng) -> String {
    format!("({:e},{:e})", random_f64(rng) / 1e10, random_f64(rng) / 1e10)
}

fn random_lexeme(rng: &mut StdRng) -> String {
    let mut word = random_text(rng, 4);
    word.push('x');
    format!("'{}'", word.replace('\\', "\\\\").replace('\'', "''"))
}

fn random_tsvector(rng: &mut StdRng) -> String {
    let lexemes: Vec<String> = (0..rng.random_range(0..6))
        .map(|_| {
            let positions: Vec<String> = (0..rng.random_range(0..4))
                .map(|_| {
                    format!("{}{}", rng.random_range(1..20_000), ["", "A", "B", "C"][rng.random_range(0..4)])
                })
                .collect();
            let colon = if positions.is_empty() { "" } else { ":" };
            format!("{}{colon}{}", random_lexeme(rng), positions.join(","))
        })
        .collect();
    lexemes.join(" ")
}

fn random_tsquery(rng: &mut StdRng, depth: u32) -> String {
    if depth == 0 || rng.random_range(0..4) == 0 {
        let flags = ["", ":*", ":A", ":ABCD*", ":CD"][rng.random_range(0..5)];
        return format!("{}{flags}", random_lexeme(rng));
    }
    let left = random_tsquery(rng, depth - 1);
    match rng.random_range(0..5) {
        0 => format!("!({left})"),
        operator => {
            let operator = ["&", "|", "<->", "<7>"][operator - 1];
            format!("({left}) {operator} ({})", random_tsquery(rng, depth - 1))
        }
    }
}

fn array_literal(elements: &[Option<String>], delimiter: &str) -> String {
    let elements: Vec<String> = elements
        .iter()
        .map(|element| match element {
            Some(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
            None => "NULL".to_owned(),
        })
        .collect();
    format!("{{{}}}", elements.join(delimiter))
}

/// Arrays of the element type whose literals are given: one, two and three dimensions, with bounds
/// and NULLs.
pub(crate) fn arrays_of(rng: &mut StdRng, literals: &[String], delimiter: &str) -> Vec<String> {
    let mut arrays = vec!["{}".to_owned()];
    for _ in 0..200 {
        let (planes, rows, columns) =
            (rng.random_range(1..4), rng.random_range(1..4), rng.random_range(1..4));
        let row = |rng: &mut StdRng| {
            let elements: Vec<Option<String>> = (0..columns)
                .map(|_| {
                    (rng.random_range(0..5) > 0)
                        .then(|| literals[rng.random_range(0..literals.len())].clone())
                })
                .collect();
            array_literal(&elements, delimiter)
        };
        let plane = |rng: &mut StdRng| {
            let rows: Vec<String> = (0..rows).map(|_| row(rng)).collect();
            format!("{{{}}}", rows.join(delimiter))
        };
        let lower = rng.random_range(-3..4);
        arrays.push(match rng.random_range(0..4) {
            0 => row(rng),
            1 => format!("[{lower}:{}]={}", lower + columns - 1, row(rng)),
            2 => plane(rng),
            _ => {
                let cube: Vec<String> = (0..planes).map(|_| plane(rng)).collect();
                format!("{{{}}}", cube.join(delimiter))
            }
        });
    }
    arrays
}

pub(crate) fn composites_of(rng: &mut StdRng, fields: &[Vec<String>]) -> Vec<String> {
    (0..300)
        .map(|_| {
            let fields: Vec<String> = fields
                .iter()
                .map(|literals| {
                    let literal = &literals[rng.random_range(0..literals.len())];
                    let quoted = format!("\"{}\"", literal.replace('\\', "\\\\").replace('"', "\"\""));
                    if rng.random_range(0..5) > 0 { quoted } else { String::new() }
                })
                .collect();
            format!("({})", fields.join(","))
        })
        .collect()
}

/// Hand-picked and random literals of every scalar type.
pub(crate) fn scalar_literals(rng: &mut StdRng) -> Vec<(&'static str, Vec<String>)> {
    fn with(
        rng: &mut StdRng,
        picked: &[&str],
        count: usize,
        random: impl Fn(&mut StdRng) -> String,
    ) -> Vec<String> {
        let picked = picked.iter().map(|literal| (*literal).to_owned());
        picked.chain((0..count).map(|_| random(rng))).collect()
    }
    let hex = |rng: &mut StdRng, len: usize| -> String {
        (0..len).map(|_| format!("{:02x}", rng.random::<u8>())).collect()
    };
    let timestamp = |rng: &mut StdRng, zone: &str| {
        let (date, era) = random_date(rng, 294_276);
        format!("{date} {}{zone}{era}", random_time(rng))
    };
    let long_integer = "9".repeat(131_072);
    let long_fraction = format!("0.{}", "1".repeat(16_383));
    let r = rng;
    vec![
        ("bool", with(r, &["t", "f"], 0, |_| String::new())),
        ("\"char\"", with(r, &["a", "", " ", "\"", "\\", "~"], 0, |_| String::new())),
        ("int2", with(r, &["0", "-32768", "32767"], 200, |r| r.random::<i16>().to_string())),
        ("int4", with(r, &["0", "-1", "-2147483648", "2147483647"], 500, |r| r.random::<i32>().to_string())),
        (
            "int8",
            with(r, &["0", "-9223372036854775808", "9223372036854775807"], 500, |r| {
                (r.random::<i64>() >> r.random_range(0..64)).to_string()
            }),
        ),
        ("oid", with(r, &["0", "4294967295"], 100, |r| r.random::<u32>().to_string())),
        ("xid", with(r, &["0", "4294967295"], 50, |r| r.random::<u32>().to_string())),
        ("cid", with(r, &["0", "4294967295"], 50, |r| r.random::<u32>().to_string())),
        ("xid8", with(r, &["0", "18446744073709551615"], 50, |r| r.random::<u64>().to_string())),
        (
            "tid",
            with(r, &["(0,0)", "(4294967295,65535)"], 50, |r| {
                format!("({},{})", r.random::<u32>(), r.random::<u16>())
            }),
        ),
        (
            "pg_lsn",
            with(r, &["0/0", "FFFFFFFF/FFFFFFFF"], 100, |r| {
                format!("{:X}/{:X}", r.random::<u32>(), r.random::<u32>())
            }),
        ),
        (
            "float4",
            with(
                r,
                &[
                    "0",
                    "-0",
                    "NaN",
                    "Infinity",
                    "-Infinity",
                    "1e-45",
                    "3.4028235e38",
                    "999999",
                    "1e6",
                    "1e-5",
                    "0.1",
                ],
                20_000,
                |r| format!("{:e}", random_f32(r)),
            ),
        ),
        (
            "float8",
            with(
                r,
                &[
                    "0",
                    "-0",
                    "NaN",
                    "Infinity",
                    "-Infinity",
                    "5e-324",
                    "1.7976931348623157e308",
                    "1e23",
                    "1e22",
                    "1e15",
                    "999999999999999",
                    "9007199254740991",
                    "9007199254740992",
                    "9007199254740993",
                    "0.1",
                    "0.0001",
                    "0.00001",
                    "2.2250738585072014e-308",
                    "1125899906842624.25",
                    "123456789012345680",
                ],
                60_000,
                |r| format!("{:e}", random_f64(r)),
            ),
        ),
        (
            "numeric",
            with(
                r,
                &[
                    "0",
                    "0.0",
                    "0.00000000000",
                    "1",
                    "1.0",
                    "1.00",
                    "-1",
                    "9999",
                    "10000",
                    "99999999",
                    "100000000",
                    "0.0001",
                    "0.00001",
                    "0.00010000",
                    "1e100",
                    "1e-100",
                    "-123456789.123456789",
                    "NaN",
                    "Infinity",
                    "-Infinity",
                    &long_integer,
                    &long_fraction,
                ],
                5000,
                random_numeric,
            ),
        ),
        (
            "numeric(12,2)",
            with(r, &["0", "-0.005", "9999999999.99"], 200, |r| format!("{}", r.random::<i32>())),
        ),
        (
            "money",
            with(
                r,
                &["0", "-0.01", "0.05", "999.99", "1000", "-92233720368547758.08", "92233720368547758.07"],
                500,
                |r| {
                    let cents = r.random::<i64>() >> r.random_range(0..64);
                    format!("{}.{:02}", cents / 100, (cents % 100).abs())
                },
            ),
        ),
        ("text", with(r, &["", "NULL", " ", "\\x00"], 500, |r| random_text(r, 20))),
        ("varchar(40)", with(r, &["", "a"], 50, |r| random_text(r, 5))),
        ("name", with(r, &["", "a"], 50, |r| random_text(r, 5))),
        ("char(9)", with(r, &["", "a", "a  ", "é"], 50, |r| random_text(r, 1))),
        (
            "bytea",
            with(r, &["\\x", "\\x00", "\\xff"], 300, |r| {
                let len = r.random_range(0..40);
                format!("\\x{}", hex(r, len))
            }),
        ),
        (
            "date",
            with(
                r,
                &[
                    "infinity",
                    "-infinity",
                    "4714-11-24 BC",
                    "5874897-12-31",
                    "0001-01-01",
                    "0001-12-31 BC",
                    "2000-02-29",
                    "1900-02-28",
                    "10000-01-01",
                    "9999-12-31",
                ],
                2000,
                |r| {
                    let (date, era) = random_date(r, 5_874_897);
                    format!("{date}{era}")
                },
            ),
        ),
        ("time", with(r, &["00:00:00", "24:00:00", "23:59:59.999999", "00:00:00.000001"], 500, random_time)),
        (
            "timetz",
            with(
                r,
                &["00:00:00+00", "24:00:00-15:59:59", "12:00:00+15:59:59", "00:00:00.1+05:30"],
                500,
                |r| {
                    let zone = [
                        format!("{:02}", r.random_range(0..16)),
                        format!("{:02}:{:02}", r.random_range(0..16), r.random_range(0..60)),
                        format!(
                            "{:02}:{:02}:{:02}",
                            r.random_range(0..16),
                            r.random_range(0..60),
                            r.random_range(0..60)
                        ),
                    ];
                    let sign = if r.random() { '+' } else { '-' };
                    format!("{}{sign}{}", random_time(r), zone[r.random_range(0..3)])
                },
            ),
        ),
        (
            "timestamp",
            with(
                r,
                &[
                    "infinity",
                    "-infinity",
                    "4714-11-24 00:00:00 BC",
                    "294276-12-31 23:59:59.999999",
                    "1999-12-31 23:59:59.999999",
                    "0001-12-31 23:59:59.5 BC",
                ],
                2000,
                |r| timestamp(r, ""),
            ),
        ),
        (
            "timestamptz",
            with(
                r,
                &[
                    "infinity",
                    "-infinity",
                    "4714-11-24 00:00:00+00 BC",
                    "294276-12-31 23:59:59.999999+00",
                    "2020-06-01 12:00:00+02",
                    "0001-12-31 23:59:59.5+00 BC",
                ],
                2000,
                |r| timestamp(r, "+00"),
            ),
        ),
        (
            "interval",
            with(
                r,
                &[
                    "0",
                    "1 year",
                    "-1 year",
                    "1 mon",
                    "1 day",
                    "-1 day",
                    "1 year -1 day",
                    "-1 year 1 day",
                    "-1 mon 1 hour",
                    "1 day -00:00:00.000001",
                    "178956970 years 7 mons 2147483647 days",
                    "-178956970 years -8 mons -2147483648 days",
                ],
                2000,
                random_interval,
            ),
        ),
        ("uuid", with(r, &["00000000-0000-0000-0000-000000000000"], 100, |r| hex(r, 16))),
        (
            "json",
            with(r, &["{}", "[1, 2,3]", "\"a\\u0041\"", " null "], 20, |r| {
                format!("[{}]", r.random::<i32>())
            }),
        ),
        (
            "jsonb",
            with(
                r,
                &["{}", "{\"b\":1,\"a\":[1,2.500,1e3,null,true]}", "\"é\\n\"", "12345678901234567890.123000"],
                50,
                |r| {
                    format!("{{\"k{}\": [{}, {:e}]}}", r.random::<u8>(), r.random::<i32>(), r.random::<f32>())
                },
            ),
        ),
        (
            "inet",
            with(
                r,
                &[
                    "1.2.3.4",
                    "1.2.3.4/24",
                    "0.0.0.0/0",
                    "::",
                    "::1",
                    "::1.2.3.4",
                    "::ffff:1.2.3.4",
                    "::ffff:0:1.2.3.4",
                    "::1:0:0",
                ],
                2000,
                random_inet,
            ),
        ),
        (
            "cidr",
            with(r, &["10/8", "192.168.1.0/24", "::/0", "2001:db8::/32", "1.2.3.4", "::1"], 200, |r| {
                let bits = r.random_range(0..33);
                let mask = if bits == 0 { 0 } else { u32::MAX << (32 - bits) };
                format!("{}/{bits}", std::net::Ipv4Addr::from(r.random::<u32>() & mask))
            }),
        ),
        ("macaddr", with(r, &["ff:ff:ff:ff:ff:ff"], 50, |r| hex(r, 6))),
        ("macaddr8", with(r, &["ff:ff:ff:ff:ff:ff:ff:ff"], 50, |r| hex(r, 8))),
        (
            "bit(13)",
            with(r, &["0000000000000", "1111111111111"], 100, |r| {
                (0..13).map(|_| if r.random() { '1' } else { '0' }).collect()
            }),
        ),
        (
            "varbit",
            with(r, &["", "1", "10101010"], 200, |r| {
                (0..r.random_range(0..40)).map(|_| if r.random() { '1' } else { '0' }).collect()
            }),
        ),
        ("point", with(r, &["(0,-0)", "(NaN,Infinity)", "(1e300,-Infinity)"], 500, random_point)),
        (
            "line",
            with(r, &["{1,-1,0}", "{0,1,-0.5}"], 100, |r| {
                format!("{{{},{},{:e}}}", r.random_range(1..9), r.random_range(1..9), random_f64(r))
            }),
        ),
        ("lseg", with(r, &["[(0,0),(1,1)]"], 100, |r| format!("[{},{}]", random_point(r), random_point(r)))),
        (
            "box",
            with(r, &["(0,0),(1,1)", "(1,1),(0,0)"], 200, |r| {
                format!("{},{}", random_point(r), random_point(r))
            }),
        ),
        (
            "path",
            with(r, &["[(0,0)]", "((0,0))"], 200, |r| {
                let points: Vec<String> = (0..r.random_range(1..5)).map(|_| random_point(r)).collect();
                if r.random() { format!("[{}]", points.join(",")) } else { format!("({})", points.join(",")) }
            }),
        ),
        (
            "polygon",
            with(r, &["((0,0))"], 200, |r| {
                let points: Vec<String> = (0..r.random_range(1..5)).map(|_| random_point(r)).collect();
                format!("({})", points.join(","))
            }),
        ),
        (
            "circle",
            with(r, &["<(0,0),0>"], 200, |r| format!("<{},{:e}>", random_point(r), random_f64(r).abs())),
        ),
        ("tsvector", with(r, &["", "'a':1A,2B,3C,4D 'b' c"], 500, random_tsvector)),
        (
            "tsquery",
            with(r, &["", "a & b & c", "a & (b & c)", "a | b & !c <-> d"], 500, |r| random_tsquery(r, 4)),
        ),
    ]
}
