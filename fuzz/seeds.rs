//! Writes inputs to begin with into `<folder>/<target>`: whole messages of each kind, so that short runs
//! reach what lies behind their headers. `rustc seeds.rs && ./seeds corpus`

use std::{env, fs, io, path::Path};

fn main() -> io::Result<()> {
    let root = env::args().nth(1).unwrap_or_else(|| "corpus".into());
    for (target, inputs) in [
        ("startup", startup()),
        ("frontend", frontend()),
        ("backend", backend()),
        ("scram", scram()),
        ("pgoutput", pgoutput()),
        ("copy", copy()),
        ("values", values()),
    ] {
        let folder = Path::new(&root).join(target);
        fs::create_dir_all(&folder)?;
        for (i, input) in inputs.iter().enumerate() {
            fs::write(folder.join(format!("seed-{i:03}")), input)?;
        }
    }
    Ok(())
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

fn startup() -> Vec<Vec<u8>> {
    let packet = |code: u32, body: &[u8]| [&code.to_be_bytes()[..], body].concat();
    vec![
        packet(196_608, b"user\0app\0database\0shop\0application_name\0psql\0\0"),
        packet(196_610, b"user\0app\0options\0-c work_mem=1MB --x=y\0replication\0database\0\0"),
        packet(206_607, b"user\0app\0_pq_.test_protocol_negotiation\0\0\0"),
        packet(131_072, b"\0"),
        // A certificate's outermost parts.
        b"\x30\x14\x30\x00\x30\x10\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a\x30\x03\xa0\x01\x30".to_vec(),
    ]
}

fn frontend() -> Vec<Vec<u8>> {
    let parts = [
        message(b'Q', b"select 1\0"),
        message(b'P', b"s\0select $1\0\0\x02\0\0\0\x17\0\0\0\x19"),
        message(b'B', b"p\0s\0\0\x01\0\x01\0\x02\0\0\0\x02ab\xff\xff\xff\xff\0\x01\0\x01"),
        message(b'D', b"Ss\0"),
        message(b'E', b"p\0\0\0\0\x05"),
        message(b'C', b"Pp\0"),
        message(b'S', b""),
        message(b'd', b"data"),
    ];
    parts.iter().cloned().chain([parts.concat()]).collect()
}

fn backend() -> Vec<Vec<u8>> {
    let parts = [
        message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0"),
        message(b'S', b"TimeZone\0UTC\0"),
        message(b'K', b"\0\0\0\x01abcd"),
        message(b'E', b"SERROR\0VERROR\0C42601\0Mno\0Dd\0Hh\0\0"),
        message(b'D', b"\0\x02\0\0\0\x01a\xff\xff\xff\xff"),
        message(b'Z', b"I"),
    ];
    let whole = parts.concat();
    [3, 255].iter().map(|step| [&[*step][..], &whole].concat()).collect()
}

fn scram() -> Vec<Vec<u8>> {
    let input =
        |choice: u8, first: &[u8], last: &[u8]| [&[choice, first.len() as u8][..], first, last].concat();
    let proof = b"c=biws,r=abcdef,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let mut inputs = Vec::new();
    for choice in [0, 1, 2, 0x80, 0x81, 0x82] {
        for first in [&b"n,,n=,r=abc"[..], b"y,,n=,r=abc", b"p=tls-server-end-point,,n=,r=abc"] {
            inputs.push(input(choice, first, proof));
        }
        inputs.push(input(choice, b"r=abcdef,s=c2FsdA==,i=1", b"v=AAAA"));
        inputs.push(input(choice, b"more,s=c2FsdA==,i=4096", b"v=AAAA"));
    }
    inputs.push(input(0, b"", b"SCRAM-SHA-256$4096:c2FsdA==$AAAA:AAAA"));
    inputs
}

fn pgoutput() -> Vec<Vec<u8>> {
    let relation = b"R\0\0\0\x01s\0t\0f\0\x01\x01c0\0\0\0\0\x01\xff\xff\xff\xff";
    let parts: [&[u8]; 9] = [
        b"B\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\0\0\0\0\x07",
        relation,
        b"I\0\0\0\x01N\0\x03t\0\0\0\x01tn\x62\0\0\0\x01\x01",
        b"U\0\0\0\x01O\0\x01nN\0\x01u",
        b"D\0\0\0\x01K\0\x01t\0\0\0\x011",
        b"T\0\0\0\x01\0\0\0\0\x01",
        b"C\0\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x0a\0\0\0\0\0\0\0\0",
        b"S\0\0\0\x07\x01",
        b"E",
    ];
    let framed: Vec<Vec<u8>> = parts.iter().map(|part| [&[part.len() as u8][..], part].concat()).collect();
    framed.iter().cloned().chain([framed.concat()]).collect()
}

fn copy() -> Vec<Vec<u8>> {
    let mut inputs = Vec::new();
    for from in 0..60 {
        for (count, row) in
            [(0u8, &b"\0\x01\0\0\0\x04\0\0\0\x05"[..]), (1, b"\0\x02\0\0\0\x01t\xff\xff\xff\xff")]
        {
            inputs.push([&[from, count, 0x7f][..], row, b"\xff\xff"].concat());
        }
    }
    inputs
}

fn values() -> Vec<Vec<u8>> {
    let texts = [
        "t",
        "42",
        "-1.50",
        "NaN",
        "infinity",
        "2024-02-29",
        "12:30:00.5+02",
        "2024-02-29 12:30:00.5",
        "1 year 2 days",
        "0 years 0 mons 0 days 1 hours",
        "{1,2,NULL}",
        "{{\"a\",b},{c,d}}",
        "[1,5)",
        "{[1,2),[4,5)}",
        "(1,\"a\",)",
        "00000000-0000-0000-0000-000000000001",
        "{\"a\": [1, null]}",
        "127.0.0.1/8",
        "08:00:2b:01:02:03",
        "(1,2)",
        "{1,2,3}",
        "[(0,0),(1,1)]",
        "<(0,0),1>",
        "'a':1A,2 'b'",
        "'a' & ( 'b' | !'c':A )",
        "10101",
        "\\xdead",
        "$1,234.56",
        "(0,1)",
        "0/16B6C50",
        "one",
    ];
    let mut inputs = Vec::new();
    for ty in 0..52u8 {
        for text in texts {
            inputs.push([&[ty][..], text.as_bytes()].concat());
        }
        for bytes in [
            &[0; 4][..],
            &[0; 8],
            &[0; 16],
            &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x17],
            &[1; 12],
            &[0, 1, 0, 0, 0, 0, 0, 0, 0, 1],
        ] {
            inputs.push([&[0x80 | ty][..], bytes].concat());
        }
    }
    inputs
}
