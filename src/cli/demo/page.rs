//! What `millpond demo` prints: lines to try.

use std::fmt;

use super::{Endpoints, shop};

/// The page of lines to try, for a terminal of 100 columns.
pub(super) struct Page<'a> {
    pub(super) endpoints: &'a Endpoints,
    /// As `postgres --version` prints it.
    pub(super) version: &'a str,
    /// Transactions a second.
    pub(super) rate: u32,
}

/// A line of SQL, and what is to be seen.
struct Try {
    what: &'static str,
    sql: &'static str,
}

const READS: [Try; 5] = [
    Try { what: "One row by its key, from memory:", sql: "select * from products where product_id = 42" },
    Try {
        what: "The latest orders, by an index:",
        sql: "select order_id, status, total from orders order by placed_at desc limit 10",
    },
    Try {
        what: "An aggregate, from memory:",
        sql: "select count(*), min(placed_at), max(total) from orders where status = 'shipped'",
    },
    Try {
        what: "A join with a view, which is not mirrored: the primary answers, through the same port:",
        sql: "select c.full_name, t.item_total from order_totals t join customers c using (customer_id) \
              where t.order_id = 42",
    },
    Try {
        what: "Every order equals the sum of its items (a join: the primary answers): always 0 rows:",
        sql: "select order_id from orders join order_items using (order_id) group by order_id, total \
              having total <> sum(quantity * unit_price)",
    },
];

const WATCHES: [Try; 4] = [
    Try { what: "How was the last statement answered?", sql: "show millpond.last_route;" },
    Try { what: "Up to which commit does the next read see?", sql: "show millpond.lsn;" },
    Try {
        what: "The tables in memory:",
        sql: "select name, state, rows, bytes, reason from millpond.tables;",
    },
    Try {
        what: "Changes as they arrive (Ctrl-C ends it):",
        sql: "select order_id, status, total, placed_at from orders order by placed_at desc limit 3 \\watch 1",
    },
];

impl fmt::Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Endpoints { millpond, primary, admin } = self.endpoints;
        let here = psql(millpond.port(), shop::OWNER);
        writeln!(f, "\n  Millpond   {millpond}")?;
        writeln!(f, "  Primary    {primary}   {}", self.version)?;
        writeln!(f, "  Metrics    http://{admin}/metrics")?;
        writeln!(
            f,
            "\n  A shop's application writes about {} transactions a second to the primary. Try:",
            self.rate
        )?;
        for line in &READS {
            writeln!(f, "\n  {}\n    {here} -c \"{}\"", line.what, line.sql)?;
        }
        writeln!(f, "\n  In one session:\n    {here}")?;
        for line in &WATCHES {
            writeln!(f, "\n  {}\n    {}", line.what, line.sql)?;
        }
        writeln!(f, "\n  What a role may not read there, it may not read here:")?;
        writeln!(f, "    {} -c \"select * from customers limit 1\"", psql(millpond.port(), shop::ANALYST))?;
        writeln!(f, "\n  The same questions, to the primary itself:")?;
        writeln!(f, "    {}", psql(primary.port(), shop::OWNER))?;
        writeln!(f, "\n  Ctrl-C ends the demo; nothing of it stays.\n")
    }
}

fn psql(port: u16, role: &str) -> String {
    format!("psql -h 127.0.0.1 -p {port} -U {role} {}", shop::DATABASE)
}
