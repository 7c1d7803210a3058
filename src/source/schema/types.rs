//! Types as the primary defines them, put together from their parts.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use tokio_postgres::{Client, Error, Row};

use super::builtin::{self, Primary};
use crate::types::{PgType, TypeKind, TypeOid};

/// A row of `sql/types.sql`.
#[derive(Clone, Debug, Default)]
pub(super) struct TypeRow {
    pub(super) oid: u32,
    pub(super) name: String,
    pub(super) len: i16,
    /// `pg_type.typtype`.
    pub(super) kind: u8,
    pub(super) base: u32,
    /// Of a domain: what it gives its base type, -1 for none.
    pub(super) typmod: i32,
    /// Of a true array, else 0.
    pub(super) element: u32,
    pub(super) delimiter: u8,
    pub(super) subtype: u32,
    pub(super) field_types: Vec<u32>,
    pub(super) field_numbers: Vec<i16>,
    pub(super) labels: Vec<String>,
    pub(super) label_oids: Vec<u32>,
}

impl TypeRow {
    fn read(row: &Row) -> Result<TypeRow, Error> {
        Ok(TypeRow {
            oid: row.try_get("oid")?,
            name: row.try_get("name")?,
            len: row.try_get("len")?,
            kind: row.try_get::<_, i8>("kind")? as u8,
            base: row.try_get("base")?,
            typmod: row.try_get("typmod")?,
            element: row.try_get("element")?,
            delimiter: row.try_get::<_, i8>("delimiter")? as u8,
            subtype: row.try_get("subtype")?,
            field_types: row.try_get("field_types")?,
            field_numbers: row.try_get("field_numbers")?,
            labels: row.try_get("labels")?,
            label_oids: row.try_get("label_oids")?,
        })
    }
}

/// Reads the given types, all that they are made of, and the built-in ones.
pub(super) async fn read(
    client: &Client,
    oids: &BTreeSet<u32>,
    primary: Primary<'_>,
) -> Result<Types, Error> {
    let wanted: Vec<u32> = oids.iter().copied().chain(builtin::KNOWN.iter().copied()).collect();
    let rows = client.query(include_str!("../../../sql/types.sql"), &[&wanted]).await?;
    let rows = rows.iter().map(TypeRow::read).collect::<Result<Vec<_>, _>>()?;
    Ok(Types::assemble(rows, primary))
}

/// The types of a catalogue, and what stamps and refusals need to know of them.
#[derive(Debug, Default)]
pub(super) struct Types {
    pub(super) by_oid: HashMap<TypeOid, Arc<PgType>>,
    rows: HashMap<u32, TypeRow>,
}

impl Types {
    pub(super) fn assemble(rows: Vec<TypeRow>, primary: Primary<'_>) -> Types {
        let rows: HashMap<u32, TypeRow> = rows.into_iter().map(|row| (row.oid, row)).collect();
        let mut types = Types::default();
        for &oid in rows.keys() {
            build(oid, &rows, primary, &mut types.by_oid, &mut Vec::new());
        }
        types.rows = rows;
        types
    }

    /// The typmod that each domain gives its base type (`getBaseTypeAndTypmod`).
    pub(super) fn domain_typmods(&self) -> HashMap<TypeOid, i32> {
        let domains = self.rows.values().filter(|row| row.kind == b'd');
        domains
            .map(|row| {
                let (mut typmod, mut at) = (-1, Some(row));
                while let Some(domain) = at.filter(|row| row.kind == b'd') {
                    typmod = domain.typmod;
                    at = self.rows.get(&domain.base);
                }
                (TypeOid(row.oid), typmod)
            })
            .collect()
    }

    pub(super) fn get(&self, oid: u32) -> Option<&Arc<PgType>> {
        self.by_oid.get(&TypeOid(oid))
    }

    /// Whether values of this type, or parts of them, print what other catalogue rows say.
    pub(super) fn refers_to_catalog(&self, oid: u32) -> bool {
        self.parts(oid).into_iter().any(builtin::is_reference)
    }

    /// Adds the definitions of a type and of its parts, as [`crate::catalog::TableStamp`] keeps them.
    pub(super) fn definitions(&self, oid: u32, into: &mut BTreeSet<String>) {
        for oid in self.parts(oid) {
            let Some(row) = self.rows.get(&oid) else { continue };
            let opaque = self.get(oid).is_none_or(|t| t.is_opaque());
            into.insert(format!(
                "type {oid} {} {} {} {} {opaque}",
                char::from(row.kind),
                row.base,
                row.element,
                row.subtype
            ));
            for (number, field) in row.field_numbers.iter().zip(&row.field_types) {
                into.insert(format!("field {oid} {number} {field}"));
            }
            for (label_oid, label) in row.label_oids.iter().zip(&row.labels) {
                into.insert(format!("label {oid} {label_oid} {label}"));
            }
        }
    }

    /// A type and everything that it is made of.
    fn parts(&self, oid: u32) -> BTreeSet<u32> {
        let mut seen = BTreeSet::new();
        let mut open = vec![oid];
        while let Some(oid) = open.pop() {
            if oid == 0 || !seen.insert(oid) {
                continue;
            }
            if let Some(row) = self.rows.get(&oid) {
                open.extend([row.base, row.element, row.subtype]);
                open.extend(&row.field_types);
            }
        }
        seen
    }
}

/// Builds one type after its parts. `open` holds the types being built: a type that contained
/// itself would be opaque.
fn build(
    oid: u32,
    rows: &HashMap<u32, TypeRow>,
    primary: Primary<'_>,
    done: &mut HashMap<TypeOid, Arc<PgType>>,
    open: &mut Vec<u32>,
) -> Option<Arc<PgType>> {
    if let Some(ty) = done.get(&TypeOid(oid)) {
        return Some(Arc::clone(ty));
    }
    let row = rows.get(&oid)?;
    if open.contains(&oid) {
        return None;
    }
    open.push(oid);
    let mut part = |oid: u32| build(oid, rows, primary, done, open).filter(|t| !t.is_opaque());
    let kind = match row.kind {
        b'b' if builtin::is_vector(oid) => None,
        b'b' if row.element != 0 => {
            part(row.element).map(|element| TypeKind::Array { element, delimiter: row.delimiter })
        }
        b'b' => builtin::kind(oid, primary),
        b'd' => part(row.base).map(TypeKind::Domain),
        b'e' => Some(TypeKind::Enum(row.labels.clone())),
        b'r' => part(row.subtype).map(TypeKind::Range),
        b'm' => part(row.subtype).map(TypeKind::Multirange),
        b'c' => {
            row.field_types.iter().map(|&field| part(field)).collect::<Option<_>>().map(TypeKind::Composite)
        }
        _ => None,
    };
    open.pop();
    let ty = Arc::new(PgType {
        oid: TypeOid(oid),
        name: row.name.clone(),
        len: row.len,
        kind: kind.unwrap_or(TypeKind::Opaque),
    });
    done.insert(ty.oid, Arc::clone(&ty));
    Some(ty)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEWEST: Primary<'static> = Primary { version_num: 180_000, lc_monetary: "C" };

    fn row(oid: u32, kind: u8) -> TypeRow {
        TypeRow { oid, name: format!("t{oid}"), len: -1, kind, delimiter: b',', ..TypeRow::default() }
    }

    #[test]
    fn an_opaque_part_makes_the_whole_opaque() {
        let types = Types::assemble(
            vec![
                row(23, b'b'),
                row(20001, b'b'),
                TypeRow { element: 20001, ..row(20002, b'b') },
                TypeRow { base: 20002, ..row(20003, b'd') },
                TypeRow { field_types: vec![23, 20003], field_numbers: vec![1, 2], ..row(20004, b'c') },
                TypeRow { element: 23, ..row(1007, b'b') },
                TypeRow { element: 26, ..row(30, b'b') },
                row(790, b'b'),
                row(18, b'b'),
                TypeRow { element: 18, ..row(1002, b'b') },
                row(3615, b'b'),
                TypeRow { base: 99999, ..row(20005, b'd') },
            ],
            Primary { version_num: 150_000, lc_monetary: "de_DE" },
        );
        for oid in [20001, 20002, 20003, 20004, 30, 790, 18, 1002, 3615, 20005] {
            assert_eq!(types.get(oid).map(|t| &t.kind), Some(&TypeKind::Opaque), "{oid}");
        }
        let int4 = types.get(23).cloned().expect("int4");
        assert_eq!(
            types.get(1007).map(|t| &t.kind),
            Some(&TypeKind::Array { element: int4, delimiter: b',' })
        );
    }

    #[test]
    fn a_type_that_contains_itself_ends() {
        let types = Types::assemble(
            vec![
                TypeRow { element: 20002, ..row(20001, b'b') },
                TypeRow { field_types: vec![20001], field_numbers: vec![1], ..row(20002, b'c') },
            ],
            NEWEST,
        );
        assert!(types.get(20001).is_some_and(|t| t.is_opaque()));
        assert!(types.get(20002).is_some_and(|t| t.is_opaque()));
    }

    #[test]
    fn references_are_found_in_parts() {
        let types = Types::assemble(
            vec![row(2205, b'b'), TypeRow { element: 2205, ..row(2210, b'b') }, row(23, b'b')],
            NEWEST,
        );
        assert!(types.refers_to_catalog(2210));
        assert!(!types.refers_to_catalog(23));
    }

    #[test]
    fn every_known_base_type_has_a_kind() {
        let ranges = [3904, 3906, 3908, 3910, 3912, 3926, 4451, 4532, 4533, 4534, 4535, 4536];
        for oid in builtin::KNOWN {
            // The text of a tsquery is all that is known of it.
            let expected = !ranges.contains(oid) && *oid != 3615;
            assert_eq!(builtin::kind(*oid, NEWEST).is_some(), expected, "{oid}");
        }
    }
}
