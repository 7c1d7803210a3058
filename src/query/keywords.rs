//! PostgreSQL's keywords, as far as names must not be taken for them, nor they for names
//! (`src/include/parser/kwlist.h`, 14 to 18).

/// Words of the grammar that the binder understands, and the names of types it casts to. They are no
/// leaves of a statement; every other word must turn up as a name.
pub(crate) fn is_silent(word: &str) -> bool {
    const WORDS: &[&str] = &[
        "all",
        "and",
        "as",
        "asc",
        "between",
        "bigint",
        "bool",
        "boolean",
        "by",
        "cast",
        "date",
        "desc",
        "distinct",
        "false",
        "first",
        "from",
        "in",
        "int",
        "int2",
        "int4",
        "int8",
        "integer",
        "is",
        "isnull",
        "last",
        "limit",
        "not",
        "notnull",
        "null",
        "nulls",
        "numeric",
        "offset",
        "or",
        "order",
        "select",
        "smallint",
        "text",
        "time",
        "timestamp",
        "timestamptz",
        "true",
        "unknown",
        "uuid",
        "varchar",
        "where",
        "with",
        "without",
        "zone",
    ];
    WORDS.binary_search(&word).is_ok()
}

/// Words that make a tree deeper rather than wider.
pub(crate) fn builds_depth(word: &str) -> bool {
    const WORDS: &[&str] = &[
        "and",
        "at",
        "between",
        "collate",
        "except",
        "ilike",
        "in",
        "intersect",
        "is",
        "isnull",
        "join",
        "like",
        "not",
        "notnull",
        "operator",
        "or",
        "over",
        "overlaps",
        "similar",
        "union",
    ];
    WORDS.binary_search(&word.to_ascii_lowercase().as_str()).is_ok()
}

/// Whether an unquoted word cannot be a column, table or alias in PostgreSQL, or means something
/// else there: reserved words, words reserved for types and functions, and words that need AS as an
/// alias.
pub(crate) fn is_reserved(word: &str) -> bool {
    const WORDS: &[&str] = &[
        "all",
        "analyse",
        "analyze",
        "and",
        "any",
        "array",
        "as",
        "asc",
        "asymmetric",
        "authorization",
        "binary",
        "both",
        "case",
        "cast",
        "char",
        "character",
        "check",
        "collate",
        "collation",
        "column",
        "concurrently",
        "constraint",
        "create",
        "cross",
        "current_catalog",
        "current_date",
        "current_role",
        "current_schema",
        "current_time",
        "current_timestamp",
        "current_user",
        "day",
        "default",
        "deferrable",
        "desc",
        "distinct",
        "do",
        "else",
        "end",
        "except",
        "false",
        "fetch",
        "filter",
        "for",
        "foreign",
        "freeze",
        "from",
        "full",
        "grant",
        "group",
        "having",
        "hour",
        "ilike",
        "in",
        "initially",
        "inner",
        "intersect",
        "interval",
        "into",
        "is",
        "isnull",
        "join",
        "lateral",
        "leading",
        "left",
        "like",
        "limit",
        "localtime",
        "localtimestamp",
        "minute",
        "month",
        "natural",
        "not",
        "notnull",
        "null",
        "offset",
        "on",
        "only",
        "or",
        "order",
        "outer",
        "over",
        "overlaps",
        "placing",
        "precision",
        "primary",
        "references",
        "returning",
        "right",
        "row",
        "second",
        "select",
        "session_user",
        "similar",
        "some",
        "symmetric",
        "system_user",
        "table",
        "tablesample",
        "then",
        "to",
        "trailing",
        "true",
        "union",
        "unique",
        "user",
        "using",
        "values",
        "variadic",
        "varying",
        "verbose",
        "when",
        "where",
        "window",
        "with",
        "within",
        "without",
        "year",
    ];
    WORDS.binary_search(&word).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_searchable() {
        for word in ["all", "between", "int2", "isnull", "zone", "where"] {
            assert!(is_silent(word), "{word}");
        }
        for word in ["only", "for", "update", "group", "having", "union", "interval", "now"] {
            assert!(!is_silent(word), "{word}");
        }
        for word in ["user", "all", "year", "current_date", "system_user", "offset"] {
            assert!(is_reserved(word), "{word}");
        }
        for word in ["name", "id", "date", "text", "state", "value", "first", "tables"] {
            assert!(!is_reserved(word), "{word}");
        }
        assert!(builds_depth("AND") && builds_depth("union") && !builds_depth("a"));
    }
}
