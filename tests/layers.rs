//! The import table of `src/`, checked. A module may name only modules listed on its own row.
//! Rows go from the bottom up, and a row may list only rows above it: that is the no-circle proof.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("config", &["types"]),
    ("codec", &["types"]),
    ("decode", &["types", "codec"]),
    ("catalog", &["types"]),
    ("store", &["types"]),
    ("telemetry", &["types", "config"]),
    ("lifecycle", &["types", "config"]),
    ("primary", &["types", "config", "telemetry", "lifecycle"]),
    ("source", &["types", "config", "telemetry", "lifecycle", "primary", "catalog"]),
    (
        "apply",
        &[
            "types",
            "config",
            "codec",
            "decode",
            "catalog",
            "store",
            "telemetry",
            "lifecycle",
            "primary",
            "source",
        ],
    ),
    ("query", &["types", "config", "codec", "catalog", "store", "telemetry", "primary"]),
    ("wire", &["types", "config", "codec", "catalog", "store", "telemetry", "lifecycle", "primary", "query"]),
    ("admin", &["types", "config", "store", "telemetry", "lifecycle"]),
    // `daemon` is assembled of everything, and `cli` runs it.
    ("daemon", &ALL_BELOW_DAEMON),
    ("cli", &ALL_BELOW_CLI),
];

const ALL_BELOW_DAEMON: [&str; 14] = [
    "types",
    "config",
    "codec",
    "decode",
    "catalog",
    "store",
    "telemetry",
    "lifecycle",
    "primary",
    "source",
    "apply",
    "query",
    "wire",
    "admin",
];

const ALL_BELOW_CLI: [&str; 15] = [
    "types",
    "config",
    "codec",
    "decode",
    "catalog",
    "store",
    "telemetry",
    "lifecycle",
    "primary",
    "source",
    "apply",
    "query",
    "wire",
    "admin",
    "daemon",
];

#[test]
fn every_row_lists_only_rows_above_it() {
    for (i, (module, allowed)) in MAY_IMPORT.iter().enumerate() {
        for dep in *allowed {
            assert!(MAY_IMPORT[..i].iter().any(|(m, _)| m == dep), "{module} may not list {dep}");
        }
    }
}

#[test]
fn every_module_has_a_row() {
    let lib = fs::read_to_string(src().join("lib.rs")).unwrap();
    let declared: BTreeSet<_> = lib
        .lines()
        .filter_map(|line| {
            let line = line.trim();
            line.strip_prefix("pub mod ").or_else(|| line.strip_prefix("mod "))?.strip_suffix(';')
        })
        .collect();
    let rows: BTreeSet<_> = MAY_IMPORT.iter().map(|(module, _)| *module).collect();
    assert_eq!(declared, rows);
}

#[test]
fn modules_import_only_what_their_row_allows() {
    let mut offences = Vec::new();
    let mut files = 0;
    for (module, allowed) in MAY_IMPORT {
        for (path, text) in sources(module) {
            files += 1;
            for dep in crate_paths(&text) {
                let known = MAY_IMPORT.iter().any(|(m, _)| *m == dep);
                if !known || (dep != *module && !allowed.contains(&dep.as_str())) {
                    offences.push(format!("{path}: {module} -> {dep}"));
                }
            }
        }
    }
    assert!(files >= MAY_IMPORT.len(), "only {files} files were read");
    assert!(offences.is_empty(), "{}", offences.join("\n"));
}

#[test]
fn paths_are_found_in_every_form() {
    let text = "use crate::types::Lsn;\nuse crate::{\n  store::{self, Table},\n  wire,\n};\n// crate::not::this\nfn f() { crate::apply::g() }\n";
    assert_eq!(crate_paths(text), ["types", "store", "wire", "apply"]);
}

/// First path segment after each `crate::`, with grouped `use crate::{a, b::c}` split.
fn crate_paths(text: &str) -> Vec<String> {
    let code: Vec<_> = text.lines().map(|line| line.split("//").next().unwrap_or("")).collect();
    let code = code.join("\n");
    let mut out = Vec::new();
    for rest in code.split("crate::").skip(1) {
        let rest = rest.trim_start();
        let Some(group) = rest.strip_prefix('{') else {
            out.push(ident(rest));
            continue;
        };
        let (mut depth, mut item) = (0u32, String::new());
        for c in group.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    out.push(ident(&item));
                    item.clear();
                }
                _ if depth == 0 => item.push(c),
                _ => {}
            }
        }
        out.push(ident(&item));
    }
    out.retain(|name| !name.is_empty());
    out
}

fn ident(s: &str) -> String {
    s.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The files of a module, with their text.
fn sources(module: &str) -> Vec<(String, String)> {
    let mut stack = vec![src().join(format!("{module}.rs")), src().join(module)];
    let mut out = Vec::new();
    while let Some(path) = stack.pop() {
        if path.is_dir() {
            stack.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") && path.exists() {
            out.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
    out
}
