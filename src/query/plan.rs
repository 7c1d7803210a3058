//! A statement bound to the catalogue, with the way to its rows: immutable and reusable.

use std::sync::Arc;

use super::{
    Reason, Route,
    access::{self, Access},
    bind::Bound,
    exec::{self, Cursor},
    param,
    scalar::Scalar,
    session::SessionFacts,
    value::Value,
};
use crate::{
    store::Snapshot,
    telemetry::status::Status,
    types::{AttNum, PgType, TableOid, TypeOid},
};

/// Reusable as long as the catalogue's version and the session's facts stay what they were.
pub struct Plan {
    pub(super) bound: Bound,
    pub(super) access: Access,
    /// For virtual tables.
    pub(super) status: Arc<Status>,
    param_types: Vec<TypeOid>,
    catalog_version: u64,
    lc_monetary: String,
    utc: bool,
}

/// A field of RowDescription.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnDescription {
    pub name: String,
    /// 0 for what is not a column of a table.
    pub table_oid: TableOid,
    pub attnum: AttNum,
    /// The base type of a domain.
    pub type_oid: TypeOid,
    /// `pg_type.typlen`.
    pub type_len: i16,
    pub typmod: i32,
    /// The type of the values, for encoding.
    pub pg_type: Arc<PgType>,
}

impl ColumnDescription {
    pub(super) fn computed(name: String, pg_type: Arc<PgType>) -> ColumnDescription {
        ColumnDescription {
            name,
            table_oid: TableOid(0),
            attnum: AttNum(0),
            type_oid: pg_type.oid,
            type_len: pg_type.len,
            typmod: -1,
            pg_type,
        }
    }
}

impl Plan {
    pub(super) fn new(
        bound: Bound,
        declared: &[TypeOid],
        catalog: &crate::catalog::Catalog,
        session: &SessionFacts,
        status: Arc<Status>,
    ) -> Plan {
        let access = access::choose(&bound);
        let param_types = bound
            .params
            .iter()
            .enumerate()
            .map(|(i, scalar)| match declared.get(i) {
                // `unknown` is as good as nothing declared.
                Some(oid) if !matches!(oid.0, 0 | 705) => *oid,
                _ => scalar.pg_type().oid,
            })
            .collect();
        Plan {
            bound,
            access,
            status,
            param_types,
            catalog_version: catalog.version,
            lc_monetary: catalog.lc_monetary.clone(),
            utc: session.is_utc(),
        }
    }

    /// The type of every parameter, as ParameterDescription gives them.
    pub fn param_types(&self) -> &[TypeOid] {
        &self.param_types
    }

    pub fn columns(&self) -> &[ColumnDescription] {
        &self.bound.columns
    }

    pub fn route(&self) -> Route {
        match &self.access {
            Access::Scan => Route::Scan,
            Access::Keys { is_point: true, .. } => Route::Point,
            Access::Keys { .. } | Access::Range { .. } => Route::Index,
        }
    }

    /// The catalogue that the statement was bound against; under another one the plan is void.
    pub fn catalog_version(&self) -> u64 {
        self.catalog_version
    }

    /// The (first) table that is read; `None` for one of our own views.
    pub fn table(&self) -> Option<TableOid> {
        self.bound.virtual_table.is_none().then_some(self.bound.schema.oid)
    }

    /// Whether COPY could name that table: a partitioned one it refuses.
    pub fn is_copyable(&self) -> bool {
        self.bound.virtual_table.is_none() && !self.bound.schema.partitioned
    }

    /// Whether PostgreSQL's plan could be read backward: a scan or a sort can, an aggregate cannot
    /// (`ExecSupportsBackwardScan`).
    pub fn scrolls(&self) -> bool {
        self.bound.aggregates.is_empty() && self.bound.subqueries.is_empty()
    }

    /// Whether results in these formats (per column: false text, true binary; missing ones text) come
    /// out exactly as under the session's settings.
    pub fn check_formats(&self, binary: &[bool], session: &SessionFacts) -> Result<(), Reason> {
        if self.bound.virtual_table.is_some() {
            // Nobody else could answer. Times are written in UTC and ISO.
            return Ok(());
        }
        if session.client_encoding != "UTF8" {
            return Err(Reason::Setting);
        }
        for (i, column) in self.bound.columns.iter().enumerate() {
            if binary.get(i).copied().unwrap_or(false) {
                if column.pg_type.is_opaque() {
                    return Err(Reason::Type);
                }
            } else if !session.writes_text_as_we_do(&column.pg_type, &self.lc_monetary) {
                return Err(Reason::Setting);
            }
        }
        Ok(())
    }

    /// Runs at a snapshot. `params` are as the client sent them (`None` is NULL), each with its format.
    /// A value that cannot be treated exactly is an error here, before any row.
    pub fn open(
        self: &Arc<Self>,
        snapshot: Snapshot,
        params: &[Option<&[u8]>],
        param_binary: &[bool],
    ) -> Result<Cursor, Reason> {
        self.open_unless(snapshot, params, param_binary, &|| false)
    }

    /// As [`Plan::open`]; `stop` is asked every few thousand rows whether to give up
    /// ([`Reason::Canceled`]).
    pub fn open_unless(
        self: &Arc<Self>,
        snapshot: Snapshot,
        params: &[Option<&[u8]>],
        param_binary: &[bool],
        stop: &dyn Fn() -> bool,
    ) -> Result<Cursor, Reason> {
        exec::open(self, snapshot, self.decode(params, param_binary)?, stop)
    }

    /// `param_binary` as in a Bind message: none means text, one means all, else one for each.
    fn decode(&self, params: &[Option<&[u8]>], param_binary: &[bool]) -> Result<Vec<Value>, Reason> {
        let scalars: &[Scalar] = &self.bound.params;
        if params.len() != scalars.len() {
            return Err(Reason::Value);
        }
        let is_binary = |i: usize| match param_binary {
            [] => Some(false),
            [all] => Some(*all),
            each => each.get(i).copied(),
        };
        scalars
            .iter()
            .zip(params)
            .enumerate()
            .map(|(i, (scalar, bytes))| {
                param::decode(scalar, *bytes, is_binary(i).ok_or(Reason::Value)?, self.utc)
            })
            .collect()
    }
}
