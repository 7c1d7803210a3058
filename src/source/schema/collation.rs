//! What is known of the order that a collation gives.

use std::collections::{BTreeSet, HashMap};

use tokio_postgres::{Client, Error};

use crate::types::{Collation, CollationOrder};

/// A provider with the locale that it was given, from `pg_collation` or `pg_database`.
#[derive(Clone, Debug)]
pub(super) struct Locale {
    /// `c` libc, `i` ICU, `b` builtin (17), `d` the database's.
    pub(super) provider: u8,
    /// `collcollate` or `datcollate`; libc's alone.
    pub(super) collate: Option<String>,
    /// `colllocale` or `datlocale`; the other providers'.
    pub(super) name: Option<String>,
    pub(super) deterministic: bool,
}

impl Locale {
    /// The order, or `None` where the database's own locale decides.
    fn order(&self) -> Option<CollationOrder> {
        let bytes = match self.provider {
            b'd' => return None,
            // libc's C.UTF-8 is code-point order in new versions of glibc only.
            b'c' => matches!(self.collate.as_deref(), Some("C" | "POSIX")),
            b'b' => matches!(self.name.as_deref(), Some("C" | "C.UTF-8" | "PG_UNICODE_FAST")),
            _ => false,
        };
        Some(match (self.deterministic, bytes) {
            (false, _) => CollationOrder::Nondeterministic,
            (true, true) => CollationOrder::Bytes,
            (true, false) => CollationOrder::Deterministic,
        })
    }
}

/// The collations of a catalogue's columns.
#[derive(Debug, Default)]
pub(super) struct Collations(HashMap<u32, CollationOrder>);

impl Collations {
    pub(super) async fn read(
        client: &Client,
        oids: &BTreeSet<u32>,
        database: &Locale,
    ) -> Result<Collations, Error> {
        let oids: Vec<u32> = oids.iter().copied().collect();
        let mut locales = Vec::new();
        for row in client.query(include_str!("../../../sql/collations.sql"), &[&oids]).await? {
            locales.push((
                row.try_get("oid")?,
                Locale {
                    provider: row.try_get::<_, i8>("provider")? as u8,
                    collate: row.try_get("collate")?,
                    name: row.try_get("locale")?,
                    deterministic: row.try_get("deterministic")?,
                },
            ));
        }
        Ok(Collations::new(locales, database))
    }

    fn new(locales: Vec<(u32, Locale)>, database: &Locale) -> Collations {
        let default = database.order().unwrap_or(CollationOrder::Deterministic);
        Collations(locales.into_iter().map(|(oid, l)| (oid, l.order().unwrap_or(default))).collect())
    }

    /// A column's collation; one that is not known compares nothing.
    pub(super) fn get(&self, oid: u32) -> Collation {
        match oid {
            0 => Collation::NONE,
            _ => Collation {
                oid,
                order: self.0.get(&oid).copied().unwrap_or(CollationOrder::Nondeterministic),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `pg_collation.oid` of `default`.
    const DEFAULT: u32 = 100;

    fn locale(provider: u8, collate: Option<&str>, name: Option<&str>, deterministic: bool) -> Locale {
        Locale {
            provider,
            collate: collate.map(str::to_string),
            name: name.map(str::to_string),
            deterministic,
        }
    }

    #[test]
    fn byte_order_is_known_of_c_and_the_builtin_provider() {
        use CollationOrder::{Bytes, Deterministic, Nondeterministic};
        for (locale, expected) in [
            (locale(b'c', Some("C"), None, true), Some(Bytes)),
            (locale(b'c', Some("POSIX"), None, true), Some(Bytes)),
            (locale(b'c', Some("C.UTF-8"), None, true), Some(Deterministic)),
            (locale(b'c', Some("en_US.UTF-8"), None, true), Some(Deterministic)),
            (locale(b'b', None, Some("C.UTF-8"), true), Some(Bytes)),
            (locale(b'b', None, Some("PG_UNICODE_FAST"), true), Some(Bytes)),
            (locale(b'b', None, Some("SOMETHING_NEW"), true), Some(Deterministic)),
            (locale(b'i', Some("C"), Some("en-US"), true), Some(Deterministic)),
            (locale(b'i', None, Some("und-u-ks-level2"), false), Some(Nondeterministic)),
            (locale(b'd', None, None, true), None),
        ] {
            assert_eq!(locale.order(), expected, "{locale:?}");
        }
    }

    #[test]
    fn the_default_collation_is_the_databases() {
        let default = vec![(DEFAULT, locale(b'd', None, None, true))];
        let of = |database: Locale| Collations::new(default.clone(), &database).get(DEFAULT).order;
        assert_eq!(of(locale(b'c', Some("C"), None, true)), CollationOrder::Bytes);
        assert_eq!(of(locale(b'i', Some("C"), Some("en"), true)), CollationOrder::Deterministic);
        assert_eq!(of(locale(b'b', Some("en_US"), Some("C.UTF-8"), true)), CollationOrder::Bytes);
        assert_eq!(Collations::default().get(0), Collation::NONE);
        assert_eq!(Collations::default().get(950).order, CollationOrder::Nondeterministic);
    }
}
