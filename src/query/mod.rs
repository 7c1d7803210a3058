//! Statements to answers: from memory where the answer is provably the primary's, else the reason
//! why not.
//!
//! ```text
//! text ──scan──> statements ──sqlparser──> tree ──bind (as PostgreSQL binds)──> plan ──open──> rows
//!                                            └──anything not understood──> primary:<reason>
//! ```

mod access;
mod aggregate;
mod bind;
mod command;
mod engine;
mod exec;
mod keywords;
mod literal;
mod numeric;
mod param;
mod plan;
mod predicate;
mod reason;
mod scalar;
mod scan;
mod session;
mod sort;
mod statement;
#[cfg(test)]
mod tests;
mod trace;
mod value;
mod virtual_tables;

pub use command::{ALL, Begin, Command, Copy, CopyFormat, CopyOptions, Declare, Fetch, ForceQuote, Step};
pub use engine::{Engine, Planned};
pub use exec::{Cursor, ResultRow};
pub use plan::{ColumnDescription, Plan};
pub use reason::{Reason, Route};
pub use session::{RouteSetting, SessionFacts};
pub use statement::{Statement, StatementKind};
pub use trace::Trace;
