//! Types and tables for the targets that need some.

use std::sync::{Arc, LazyLock};

use crate::types::{
    AttNum, Collation, ColumnSchema, PgType, ReplicaIdentity, TableOid, TableSchema, TypeKind, TypeOid,
};

fn made(kind: TypeKind) -> Arc<PgType> {
    Arc::new(PgType { oid: TypeOid(1), name: "t".into(), len: -1, kind })
}

/// One type of each kind, and some of several.
pub fn types() -> &'static [Arc<PgType>] {
    static TYPES: LazyLock<Vec<Arc<PgType>>> = LazyLock::new(make_types);
    &TYPES
}

fn make_types() -> Vec<Arc<PgType>> {
    use TypeKind::*;
    let plain = [
        Bool,
        Char,
        Int2,
        Int4,
        Int8,
        Oid,
        Xid,
        Cid,
        Xid8,
        Tid,
        PgLsn,
        Float4,
        Float8,
        Numeric,
        Money,
        Text,
        BpChar,
        Bytea,
        Date,
        Time,
        TimeTz,
        Timestamp,
        TimestampTz,
        Interval,
        Uuid,
        Json,
        Jsonb,
        Xml,
        Inet,
        Cidr,
        MacAddr,
        MacAddr8,
        Bit,
        VarBit,
        Point,
        Line,
        Lseg,
        Box,
        Path,
        Polygon,
        Circle,
        TsVector,
        TsQuery,
        Opaque,
    ];
    let mut all: Vec<Arc<PgType>> = plain.into_iter().map(made).collect();
    let array = |element: Arc<PgType>| made(Array { element, delimiter: b',' });
    all.push(made(Enum(vec!["one".into(), "two".into()])));
    all.push(made(Domain(made(Numeric))));
    all.push(array(made(Int4)));
    all.push(array(made(Text)));
    all.push(array(made(Range(made(Timestamp)))));
    all.push(made(Range(made(Numeric))));
    all.push(made(Multirange(made(Int4))));
    all.push(made(Composite(vec![made(Int4), made(Text), array(made(Composite(vec![made(Bool)])))])));
    all
}

/// A table with a column of each of these types.
pub fn table(types: &[Arc<PgType>]) -> TableSchema {
    let column = |(i, pg_type): (usize, &Arc<PgType>)| ColumnSchema {
        name: format!("c{i}"),
        attnum: AttNum(i as i16 + 1),
        pg_type: Arc::clone(pg_type),
        typmod: -1,
        not_null: false,
        collation: Collation::NONE,
    };
    TableSchema {
        oid: TableOid(1),
        schema: "s".into(),
        name: "t".into(),
        columns: types.iter().enumerate().map(column).collect(),
        unmirrored: Vec::new(),
        identity: ReplicaIdentity::Full,
        indexes: Vec::new(),
        partitioned: false,
    }
}
