//! Who may read which table, as the primary itself says.

use std::collections::{HashMap, HashSet};

use crate::types::TableOid;

/// For every role, the mirrored tables that it may SELECT in full. Filled by the primary's own
/// `has_table_privilege` and `has_schema_privilege`; a table with row security is in nobody's set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Privileges {
    pub readable: HashMap<String, HashSet<TableOid>>,
}

impl Privileges {
    /// Whether the role may read every column of every row. Unknown roles may read nothing.
    pub fn may_read(&self, role: &str, table: TableOid) -> bool {
        self.readable.get(role).is_some_and(|tables| tables.contains(&table))
    }
}
