//! What tells that a table's contents changed without a word in the stream.

use std::collections::BTreeSet;

/// Marks of one table's state in the primary's catalogue. They are compared between two readings
/// and mean nothing in themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableStamp {
    /// `pg_class.relfilenode`: another one after every rewrite, VACUUM FULL and TRUNCATE.
    pub filenode: u32,
    /// `xmin` of each column's `pg_attribute` row. A rewrite by ALTER COLUMN TYPE changes this and
    /// `filenode`; VACUUM FULL changes only that, SET DEFAULT only this.
    pub columns: String,
    /// A partitioned root's partitions, each with its `pg_inherits` row and its filenode.
    pub partitions: String,
    /// The definitions of the types of its columns and of their parts: one entry for each type,
    /// field and enum label.
    pub types: BTreeSet<String>,
    /// The publication and the table's row in it: another one after it was out of it for a while.
    pub publication: String,
}

impl TableStamp {
    /// Whether rows may have changed between two readings without events in the stream.
    pub fn contents_may_differ(&self, later: &TableStamp) -> bool {
        self.partitions != later.partitions
            || self.publication != later.publication
            || (self.filenode != later.filenode && self.columns != later.columns)
            || !self.types_kept(later)
    }

    /// Whether every type is what it was, new enum labels excepted: stored values keep their form.
    fn types_kept(&self, later: &TableStamp) -> bool {
        self.types.is_subset(&later.types)
            && later.types.difference(&self.types).all(|entry| entry.starts_with("label "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(filenode: u32, columns: &str, types: &[&str]) -> TableStamp {
        TableStamp {
            filenode,
            columns: columns.to_string(),
            types: types.iter().map(|t| t.to_string()).collect(),
            ..TableStamp::default()
        }
    }

    #[test]
    fn a_rewrite_is_a_new_file_and_a_new_column_row() {
        let old = stamp(1, "1:700", &[]);
        assert!(!old.contents_may_differ(&old));
        assert!(!old.contents_may_differ(&stamp(2, "1:700", &[])), "VACUUM FULL");
        assert!(!old.contents_may_differ(&stamp(1, "1:701", &[])), "SET DEFAULT");
        assert!(old.contents_may_differ(&stamp(2, "1:701", &[])), "ALTER COLUMN TYPE");
    }

    #[test]
    fn enum_labels_may_be_added_and_nothing_else() {
        let old = stamp(1, "", &["enum 5", "label 5 6 a"]);
        assert!(!old.contents_may_differ(&stamp(1, "", &["enum 5", "label 5 6 a", "label 5 7 b"])));
        assert!(old.contents_may_differ(&stamp(1, "", &["enum 5", "label 5 6 b"])));
        assert!(old.contents_may_differ(&stamp(1, "", &["enum 5", "label 5 6 a", "field 9 1 23"])));
    }
}
