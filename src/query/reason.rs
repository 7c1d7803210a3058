//! Where a statement is answered, and why not from memory.

use std::fmt;

/// Why the primary answers. The codes are part of what users see (`primary:not_cached`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A relation that is not mirrored, or that we do not know.
    NotCached,
    /// A mirrored table that is not live (being copied, quarantined) or changes its shape.
    Loading,
    /// A function that we do not compute.
    Function,
    /// An order or equality that depends on a collation of the server.
    Collation,
    /// A session setting that changes the answer.
    Setting,
    /// A type, or a combination of types, that we do not compute on or cannot render.
    Type,
    /// A column that is not mirrored, or that does not exist.
    Column,
    /// The role may not read the table in full, as far as we know.
    Privilege,
    /// A temporary table may hide the name.
    Temporary,
    /// The transaction has to see its own writes, or asks for more isolation than we give.
    Transaction,
    /// SQL outside of what is answered from memory.
    Unsupported,
    /// A value that cannot be treated exactly here, or that the primary refuses.
    Value,
    /// `millpond.route = primary`.
    Bypass,
    /// `cache.enabled = false`.
    Disabled,
    /// The statement was cancelled while it ran here.
    Canceled,
    /// A statement that writes, or may.
    Write,
    /// Memory is further behind than the session allows.
    Stale,
}

impl Reason {
    /// The code, such as `not_cached`.
    pub fn code(self) -> &'static str {
        match self {
            Reason::NotCached => "not_cached",
            Reason::Loading => "loading",
            Reason::Function => "function",
            Reason::Collation => "collation",
            Reason::Setting => "setting",
            Reason::Type => "type",
            Reason::Column => "column",
            Reason::Privilege => "privilege",
            Reason::Temporary => "temporary",
            Reason::Transaction => "transaction",
            Reason::Unsupported => "unsupported",
            Reason::Value => "value",
            Reason::Bypass => "bypass",
            Reason::Disabled => "disabled",
            Reason::Canceled => "canceled",
            Reason::Write => "write",
            Reason::Stale => "stale",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "primary:{}", self.code())
    }
}

/// How a statement is, or was, answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    /// One key of a unique index.
    Point,
    /// Keys, a range or the order of an index.
    Index,
    /// A scan of the table in memory.
    Scan,
    Primary(Reason),
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Route::Point => f.write_str("point"),
            Route::Index => f.write_str("index"),
            Route::Scan => f.write_str("engine"),
            Route::Primary(reason) => reason.fmt(f),
        }
    }
}
