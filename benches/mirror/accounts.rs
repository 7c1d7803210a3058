//! pgbench's tables, as `pgbench -i` makes them.

use tokio_postgres::Client;

use crate::Result;

/// Pages of one COPY statement: what Millpond's own copy uses.
const RANGE_PAGES: i64 = 8_192;

/// Rows of `pgbench_accounts`.
pub(crate) fn rows(scale: u32) -> u64 {
    u64::from(scale) * 100_000
}

pub(crate) async fn load(client: &Client, scale: u32) -> Result<()> {
    let accounts = rows(scale);
    let sql = format!(
        "create table pgbench_branches (bid int not null, bbalance int, filler char(88))
           with (fillfactor = 100);
         create table pgbench_tellers (tid int not null, bid int, tbalance int, filler char(84))
           with (fillfactor = 100);
         create table pgbench_accounts (aid int not null, bid int, abalance int, filler char(84))
           with (fillfactor = 100);
         insert into pgbench_branches select i, 0, null from generate_series(1, {scale}) i;
         insert into pgbench_tellers select i, (i - 1) / 10 + 1, 0, null from generate_series(1, {scale} * 10) i;
         insert into pgbench_accounts select i, (i - 1) / 100000 + 1, 0, '' from generate_series(1, {accounts}) i;
         alter table pgbench_branches add primary key (bid);
         alter table pgbench_tellers add primary key (tid);
         alter table pgbench_accounts add primary key (aid);"
    );
    client.batch_execute(&sql).await?;
    client.batch_execute("vacuum analyze").await?;
    Ok(client.batch_execute("checkpoint").await?)
}

/// The statements of a plain binary COPY of all tables, in the ranges that Millpond cuts them into.
pub(crate) async fn ranges(client: &Client) -> Result<Vec<String>> {
    let sql = "select relname::text, relpages::int8 from pg_class
               where relname in ('pgbench_accounts', 'pgbench_tellers', 'pgbench_branches')
               order by relpages desc";
    let mut statements = Vec::new();
    for row in client.query(sql, &[]).await? {
        let (table, pages): (String, i64) = (row.get(0), row.get(1));
        for start in (0..pages.max(1)).step_by(RANGE_PAGES as usize) {
            let end = start + RANGE_PAGES;
            let upper = if end < pages { format!(" and ctid < '({end},0)'") } else { String::new() };
            statements.push(format!(
                "copy (select * from only {table} where ctid >= '({start},0)'{upper}) to stdout (format binary)"
            ));
        }
    }
    Ok(statements)
}
