//! Single values: from what was written to what the program uses, or a sentence on what to write.
//!
//! As in `postgresql.conf`, numbers and switches may stand in quotes; from the environment and from
//! flags everything comes as text.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use config::{Value, ValueKind};

use super::raw::kind_name;

pub(super) type Parsed<T> = Result<T, String>;

pub(super) fn text(value: &Value) -> Parsed<String> {
    match &value.kind {
        ValueKind::String(text) => Ok(text.clone()),
        _ => Err(format!("is {}, but is a text: write it in quotes", kind_name(value))),
    }
}

pub(super) fn path(value: &Value) -> Parsed<PathBuf> {
    match text(value)? {
        empty if empty.is_empty() => Err("is empty: write a path, or leave the key out".into()),
        path => Ok(path.into()),
    }
}

/// A path of a file that is there; what it contains is checked where it is used.
pub(super) fn existing_file(value: &Value) -> Parsed<PathBuf> {
    let path = path(value)?;
    match std::fs::metadata(&path) {
        Ok(found) if found.is_file() => Ok(path),
        Ok(_) => Err(format!("{} is not a file", path.display())),
        Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
    }
}

pub(super) fn boolean(value: &Value) -> Parsed<bool> {
    match &value.kind {
        ValueKind::Boolean(switch) => Ok(*switch),
        ValueKind::String(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "on" | "yes" | "1" => Ok(true),
            "false" | "off" | "no" | "0" => Ok(false),
            _ => Err(format!("'{text}' is neither true nor false")),
        },
        _ => Err(format!("is {}, but is true or false", kind_name(value))),
    }
}

/// A whole number within bounds, both included.
pub(super) fn count(min: u64, max: u64) -> impl FnOnce(&Value) -> Parsed<u64> {
    move |value| {
        let number = integer(value).ok_or_else(|| match &value.kind {
            ValueKind::String(text) => format!("'{text}' is not a whole number from {min} to {max}"),
            _ => format!("is {}, but is a whole number from {min} to {max}", kind_name(value)),
        })?;
        match u64::try_from(number) {
            Ok(number) if (min..=max).contains(&number) => Ok(number),
            _ => Err(format!("{number} is out of range: write a whole number from {min} to {max}")),
        }
    }
}

/// Permissions of a file, in octal.
pub(super) fn permissions(value: &Value) -> Parsed<u32> {
    let written = text(value)?;
    match u32::from_str_radix(&written, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err(format!("\"{written}\" are no permissions: write them in octal, such as \"0770\"")),
    }
}

/// A time with its unit, as PostgreSQL writes it; 0 is refused, since no key here means 'never' by it.
pub(super) fn duration(value: &Value) -> Parsed<Duration> {
    const WRITE: &str = "write a number and its unit, such as '500ms', '2s', '5min' or '1h'";
    let text = match (&value.kind, integer(value)) {
        (ValueKind::String(text), _) => text.trim(),
        (_, Some(number)) => return Err(format!("{number} has no unit: {WRITE}")),
        _ => return Err(format!("is {}, but is a time: {WRITE}", kind_name(value))),
    };
    let (number, unit) = split_unit(text);
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(format!("'{text}' is not a time: {WRITE}")),
    };
    let number: u64 = number.parse().map_err(|_| format!("'{text}' is not a time: {WRITE}"))?;
    // A bound far beyond use, so that adding it to a clock can't overflow.
    const MAX_MS: u64 = 365 * 86_400_000;
    match number.checked_mul(unit_ms) {
        Some(0) => Err(format!("'{text}' is no time at all: {WRITE}")),
        Some(ms) if ms <= MAX_MS => Ok(Duration::from_millis(ms)),
        _ => Err(format!("'{text}' is more than a year: {WRITE}")),
    }
}

/// An amount of memory, in PostgreSQL's units (powers of 1024); a bare number counts bytes. `whole` is
/// what a percentage refers to, where the key takes one.
pub(super) fn bytes(min: u64, max: u64, whole: Option<u64>) -> impl FnOnce(&Value) -> Parsed<u64> {
    move |value| {
        let write = match whole {
            Some(_) => "write a number and its unit, such as '512MB' or '4GB', or a share such as '75%'",
            None => "write a number and its unit, such as '64kB', '256MB' or '1GB'",
        };
        let written = match (&value.kind, integer(value)) {
            (_, Some(number)) => number.to_string(),
            (ValueKind::String(text), _) => text.trim().to_owned(),
            _ => return Err(format!("is {}, but is a size: {write}", kind_name(value))),
        };
        let (number, unit) = split_unit(&written);
        let wrong = || format!("'{written}' is not a size: {write}");
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let size = match (unit, whole) {
            ("%", Some(whole)) if (1..=100).contains(&number) => share(whole, number),
            ("" | "B", _) => Some(number),
            ("kB", _) => number.checked_mul(1 << 10),
            ("MB", _) => number.checked_mul(1 << 20),
            ("GB", _) => number.checked_mul(1 << 30),
            ("TB", _) => number.checked_mul(1 << 40),
            _ => return Err(wrong()),
        };
        match size {
            Some(size) if (min..=max).contains(&size) => Ok(size),
            _ => Err(format!("'{written}' is out of range: from {} to {}", show_bytes(min), show_bytes(max))),
        }
    }
}

pub(super) fn share(whole: u64, percent: u64) -> Option<u64> {
    u64::try_from(u128::from(whole) * u128::from(percent) / 100).ok()
}

/// Address and port to listen on.
pub(super) fn address(value: &Value) -> Parsed<SocketAddr> {
    let text = text(value)?;
    text.parse().map_err(|_| {
        format!("'{text}' is not an address and a port: write such as '127.0.0.1:6543', '0.0.0.0:6543' or '[::]:6543'")
    })
}

/// One of some words. `later` are words that another version will know.
pub(super) fn choice<T: Copy>(words: &[(&str, T)], later: &[&str]) -> impl FnOnce(&Value) -> Parsed<T> {
    move |value| {
        let written = text(value)?;
        let known = words.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(" or ");
        match words.iter().find(|(word, _)| *word == written) {
            Some((_, choice)) => Ok(*choice),
            None if later.contains(&written.as_str()) => {
                Err(format!("\"{written}\" is not available in this version: write {known}"))
            }
            None => Err(format!("\"{written}\" is unknown: write {known}")),
        }
    }
}

/// A list of texts; one text is a list separated by commas.
pub(super) fn texts(value: &Value) -> Parsed<Vec<String>> {
    match &value.kind {
        ValueKind::String(text) => Ok(split_commas(text)),
        ValueKind::Array(items) => items
            .iter()
            .map(|item| match &item.kind {
                ValueKind::String(text) => Ok(text.clone()),
                _ => Err(format!("contains {}, but is a list of texts", kind_name(item))),
            })
            .collect(),
        _ => Err(format!("is {}, but is a list of texts, such as [\"public.*\"]", kind_name(value))),
    }
}

pub(super) fn split_commas(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

/// `schema.table` or `table`, with `*` and `?`.
pub(super) fn table_pattern(pattern: &str) -> Parsed<()> {
    let parts: Vec<_> = pattern.split('.').collect();
    if parts.len() > 2 || parts.iter().any(|part| part.is_empty() || part.trim() != *part) {
        return Err(format!(
            "'{pattern}' is not a table: write table, schema.table or a pattern such as 'public.*'"
        ));
    }
    Ok(())
}

/// `table.column` or `schema.table.column`.
pub(super) fn column_name(name: &str) -> Parsed<()> {
    let parts: Vec<_> = name.split('.').collect();
    if !(2..=3).contains(&parts.len()) || parts.iter().any(|part| part.is_empty() || part.trim() != *part) {
        return Err(format!("'{name}' is not a column: write table.column or schema.table.column"));
    }
    Ok(())
}

/// `ReplicationSlotValidateName` of PostgreSQL (slot.c).
pub(super) fn slot_name(value: &Value) -> Parsed<String> {
    let name = text(value)?;
    let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if name.is_empty() || name.len() > 63 || !name.bytes().all(valid) {
        return Err(format!("'{name}' is not a slot name: write 1 to 63 of a-z, 0-9 and _"));
    }
    Ok(name)
}

/// Any identifier; longer ones are cut off by PostgreSQL (NAMEDATALEN), which would name another object.
pub(super) fn identifier(value: &Value) -> Parsed<String> {
    let name = text(value)?;
    if name.is_empty() || name.len() > 63 || name.contains('\0') {
        return Err(format!("'{name}' is not a name: write 1 to 63 bytes"));
    }
    Ok(name)
}

fn integer(value: &Value) -> Option<i128> {
    match &value.kind {
        ValueKind::I64(number) => Some((*number).into()),
        ValueKind::U64(number) => Some((*number).into()),
        ValueKind::I128(number) => Some(*number),
        ValueKind::U128(number) => i128::try_from(*number).ok(),
        ValueKind::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

fn show_bytes(size: u64) -> String {
    let units = [(1 << 40, "TB"), (1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB")];
    match units.iter().find(|(unit, _)| size >= *unit && size.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", size / unit),
        None => format!("{size}B"),
    }
}
