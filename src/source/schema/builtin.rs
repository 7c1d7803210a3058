//! The built-in types that we know, by their OIDs (`pg_type.dat`), which are the same everywhere.

use crate::types::TypeKind;

/// Types known by themselves, and the ranges and multiranges over them. Their array types follow.
pub(super) const KNOWN: &[u32] = &[
    16, 17, 18, 19, 20, 21, 23, 25, 26, 27, 28, 29, 114, 142, 600, 601, 602, 603, 604, 628, 650, 700, 701,
    718, 774, 790, 829, 869, 1042, 1043, 1082, 1083, 1114, 1184, 1186, 1266, 1560, 1562, 1700, 2950, 3220,
    3614, 3615, 3802, 5069, 3904, 3906, 3908, 3910, 3912, 3926, 4451, 4532, 4533, 4534, 4535, 4536,
];

/// `int2vector` and `oidvector`: arrays by their catalogue row, with a text form of their own.
pub(super) fn is_vector(oid: u32) -> bool {
    matches!(oid, 22 | 30)
}

/// Types whose text depends on the search path and on other catalogue rows: `reg*` and `aclitem`.
/// What the stream says of them goes stale without an event.
pub(super) fn is_reference(oid: u32) -> bool {
    matches!(oid, 24 | 1033 | 2202 | 2203 | 2204 | 2205 | 2206 | 3734 | 3769 | 4089 | 4096 | 4191 | 8326)
}

/// What decides how a primary prints some of its types.
#[derive(Clone, Copy, Debug)]
pub(super) struct Primary<'a> {
    pub(super) version_num: u32,
    pub(super) lc_monetary: &'a str,
}

/// The kind of a built-in base type; `None` for those that we know only as text.
pub(super) fn kind(oid: u32, primary: Primary<'_>) -> Option<TypeKind> {
    Some(match oid {
        16 => TypeKind::Bool,
        17 => TypeKind::Bytea,
        // Below 16 a byte from 0x80 on is printed as it is, which is not text in UTF-8 (`charout`).
        18 if primary.version_num < 160_000 => return None,
        18 => TypeKind::Char,
        19 | 25 | 1043 => TypeKind::Text,
        20 => TypeKind::Int8,
        21 => TypeKind::Int2,
        23 => TypeKind::Int4,
        26 => TypeKind::Oid,
        27 => TypeKind::Tid,
        28 => TypeKind::Xid,
        29 => TypeKind::Cid,
        114 => TypeKind::Json,
        142 => TypeKind::Xml,
        600 => TypeKind::Point,
        601 => TypeKind::Lseg,
        602 => TypeKind::Path,
        603 => TypeKind::Box,
        604 => TypeKind::Polygon,
        628 => TypeKind::Line,
        650 => TypeKind::Cidr,
        700 => TypeKind::Float4,
        701 => TypeKind::Float8,
        718 => TypeKind::Circle,
        774 => TypeKind::MacAddr8,
        790 if !is_money_locale_known(primary.lc_monetary) => return None,
        790 => TypeKind::Money,
        829 => TypeKind::MacAddr,
        869 => TypeKind::Inet,
        1042 => TypeKind::BpChar,
        1082 => TypeKind::Date,
        1083 => TypeKind::Time,
        1114 => TypeKind::Timestamp,
        1184 => TypeKind::TimestampTz,
        1186 => TypeKind::Interval,
        1266 => TypeKind::TimeTz,
        1560 => TypeKind::Bit,
        1562 => TypeKind::VarBit,
        1700 => TypeKind::Numeric,
        2950 => TypeKind::Uuid,
        3220 => TypeKind::PgLsn,
        3614 => TypeKind::TsVector,
        // Its text does not determine the value, and a stream may be text: `tsqueryout` prints
        // `a & (b & c)` and `(a & b) & c` alike, which the primary tells apart.
        3615 => return None,
        3802 => TypeKind::Jsonb,
        5069 => TypeKind::Xid8,
        _ => return None,
    })
}

/// Whether money prints as it does in C or in US English: a dollar sign, two decimals, commas.
fn is_money_locale_known(lc_monetary: &str) -> bool {
    matches!(lc_monetary, "C" | "POSIX" | "C.UTF-8" | "C.utf8") || lc_monetary.starts_with("en_US")
}
