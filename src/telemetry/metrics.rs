//! Every metric, by name and label. Handles are made once; no label is looked up on a hot path.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text},
    metrics::{
        MetricType,
        family::Family,
        gauge::{ConstGauge, Gauge},
        info::Info,
    },
    registry::Registry,
};

use crate::telemetry::{
    sharded::{Counter, Histogram},
    status::{ReplicationState, Status, TableState},
};

/// Stands before each of the names below.
pub const PREFIX: &str = "millpond";

/// Names as they are registered; counters get `_total` at the end when they are shown.
pub mod name {
    pub const BUILD: &str = "build";
    pub const QUERIES: &str = "queries";
    pub const QUERY_SECONDS: &str = "query_seconds";
    pub const FALLTHROUGHS: &str = "fallthroughs";
    pub const ROWS: &str = "rows_returned";
    pub const SESSIONS: &str = "sessions";
    pub const SESSIONS_OPEN: &str = "sessions_open";
    pub const COPY_ROWS: &str = "copy_rows";
    pub const COPY_BYTES: &str = "copy_bytes";
    pub const CHANGES: &str = "changes_applied";
    pub const COMMITS: &str = "commits_applied";
    pub const RECONNECTS: &str = "reconnects";
    pub const TABLES: &str = "tables";
    pub const TABLE_ROWS: &str = "table_rows";
    pub const TABLE_BYTES: &str = "table_bytes";
    pub const LAG_BYTES: &str = "replication_lag_bytes";
    pub const LAG_MS: &str = "replication_lag_ms";
    pub const RETAINED_WAL_BYTES: &str = "retained_wal_bytes";
    pub const APPLIED_LSN: &str = "applied_lsn";
    pub const WATERMARK_LSN: &str = "watermark_lsn";
    pub const REPLICATION_STATE: &str = "replication_state";
    pub const RESIDENT_BYTES: &str = "resident_memory_bytes";
    pub const MEMORY_LIMIT_BYTES: &str = "memory_limit_bytes";
}

/// Labels.
pub mod label {
    pub const ROUTE: &str = "route";
    pub const REASON: &str = "reason";
    pub const STATE: &str = "state";
    pub const VERSION: &str = "version";
}

/// Who answered a query, as `millpond.last_route` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RouteKind {
    Point,
    Index,
    Engine,
    Primary,
}

impl RouteKind {
    /// In the order of their numbers, by which the handles are kept.
    pub const ALL: [RouteKind; 4] =
        [RouteKind::Point, RouteKind::Index, RouteKind::Engine, RouteKind::Primary];

    pub fn name(self) -> &'static str {
        match self {
            RouteKind::Point => "point",
            RouteKind::Index => "index",
            RouteKind::Engine => "engine",
            RouteKind::Primary => "primary",
        }
    }
}

/// The handles. Everything is counted where it happens; what [`Status`] knows is read at a scrape.
#[derive(Debug)]
pub struct Metrics {
    /// Rows sent to clients from memory.
    pub rows: Counter,
    /// Clients accepted, whether they logged in or not.
    pub sessions: Counter,
    pub sessions_open: Gauge,
    pub copy_rows: Counter,
    pub copy_bytes: Counter,
    /// Rows of the stream put into the store.
    pub changes: Counter,
    /// Transactions of the stream published.
    pub commits: Counter,
    /// Memory that the budget allows, 0 until it is set.
    pub memory_limit_bytes: Gauge,
    queries: [Counter; RouteKind::ALL.len()],
    query_seconds: [Histogram; RouteKind::ALL.len()],
    fallthroughs: Family<[(&'static str, &'static str); 1], Counter>,
    registry: Registry,
}

impl Metrics {
    pub fn new(status: Arc<Status>) -> Metrics {
        let mut registry = Registry::with_prefix(PREFIX);
        let queries = Family::<[(&'static str, &'static str); 1], Counter>::default();
        let query_seconds = Family::<[(&'static str, &'static str); 1], Histogram>::default();
        let metrics = Metrics {
            rows: Counter::default(),
            sessions: Counter::default(),
            sessions_open: Gauge::default(),
            copy_rows: Counter::default(),
            copy_bytes: Counter::default(),
            changes: Counter::default(),
            commits: Counter::default(),
            memory_limit_bytes: Gauge::default(),
            queries: RouteKind::ALL.map(|kind| queries.get_or_create_owned(&[(label::ROUTE, kind.name())])),
            query_seconds: RouteKind::ALL
                .map(|kind| query_seconds.get_or_create_owned(&[(label::ROUTE, kind.name())])),
            fallthroughs: Family::default(),
            registry: Registry::default(),
        };
        registry.register(
            name::BUILD,
            "The version",
            Info::new([(label::VERSION, env!("CARGO_PKG_VERSION"))]),
        );
        registry.register(name::QUERIES, "Statements answered, by route", queries);
        registry.register(name::QUERY_SECONDS, "Time from statement to answer, by route", query_seconds);
        registry.register(
            name::FALLTHROUGHS,
            "Statements answered by the primary, by reason",
            metrics.fallthroughs.clone(),
        );
        let counters = [
            (name::ROWS, "Rows returned from memory", &metrics.rows),
            (name::SESSIONS, "Connections accepted", &metrics.sessions),
            (name::COPY_ROWS, "Rows copied from the primary", &metrics.copy_rows),
            (name::COPY_BYTES, "Bytes copied from the primary", &metrics.copy_bytes),
            (name::CHANGES, "Row changes applied from the stream", &metrics.changes),
            (name::COMMITS, "Transactions applied from the stream", &metrics.commits),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        let gauges = [
            (name::SESSIONS_OPEN, "Connections open now", &metrics.sessions_open),
            (name::MEMORY_LIMIT_BYTES, "What tables and indexes may take", &metrics.memory_limit_bytes),
        ];
        for (name, help, gauge) in gauges {
            registry.register(name, help, Gauge::<i64, AtomicI64>::clone(gauge));
        }
        registry.register_collector(Box::new(StatusCollector { status }));
        Metrics { registry, ..metrics }
    }

    /// Counts an answer that memory gave.
    pub fn observe_local(&self, route: RouteKind, time: Duration, rows: u64) {
        self.observe(route, time);
        self.rows.add(rows);
    }

    /// Counts an answer that the primary gave, and why it had to. `reason` is the code behind the colon
    /// of `primary:<reason>`: one of a fixed set, since each makes a series.
    pub fn observe_primary(&self, reason: &'static str, time: Duration) {
        self.observe(RouteKind::Primary, time);
        // Looked up: beside a query at the primary it costs nothing.
        self.fallthroughs.get_or_create(&[(label::REASON, reason)]).inc();
    }

    pub fn queries(&self, route: RouteKind) -> u64 {
        self.queries[route as usize].get()
    }

    /// All metrics in the text format of OpenMetrics 1.0, which Prometheus reads.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        text::encode(&mut text, &self.registry).expect("writing to a String does not fail");
        text
    }

    fn observe(&self, route: RouteKind, time: Duration) {
        self.queries[route as usize].inc();
        self.query_seconds[route as usize].observe(time);
    }
}

/// What is read from the status at each scrape.
#[derive(Debug)]
struct StatusCollector {
    status: Arc<Status>,
}

impl Collector for StatusCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let tables = self.status.tables();
        let replication = self.status.replication();
        let sum = |of: fn(&crate::telemetry::status::TableStatus) -> u64| {
            tables.iter().map(of).fold(0, u64::saturating_add)
        };

        let mut family =
            encoder.encode_descriptor(name::TABLES, "Chosen tables, by state", None, MetricType::Gauge)?;
        for state in TABLE_STATES {
            let count = tables.iter().filter(|table| table.state == state).count() as u64;
            gauge(family.encode_family(&[(label::STATE, state.to_string())])?, count)?;
        }
        let mut family = encoder.encode_descriptor(
            name::REPLICATION_STATE,
            "1 for the state that the change source is in",
            None,
            MetricType::Gauge,
        )?;
        for state in REPLICATION_STATES {
            let holds = u64::from(replication.state == state);
            gauge(family.encode_family(&[(label::STATE, state.to_string())])?, holds)?;
        }
        let gauges = [
            (name::TABLE_ROWS, "Rows in memory", sum(|table| table.rows)),
            (name::TABLE_BYTES, "Bytes that tables and indexes take", sum(|table| table.bytes)),
            (
                name::LAG_BYTES,
                "WAL that the primary has written and we have not applied",
                replication.lag_bytes,
            ),
            (name::LAG_MS, "How far behind the primary we are", replication.lag_ms),
            (
                name::RETAINED_WAL_BYTES,
                "WAL that our slot keeps at the primary",
                replication.retained_wal_bytes,
            ),
            (name::APPLIED_LSN, "End of the last commit applied", replication.applied_lsn.0),
            (name::WATERMARK_LSN, "Everything committed up to here is here", replication.watermark_lsn.0),
        ];
        for (name, help, value) in gauges {
            gauge(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?, value)?;
        }
        // A counter in all but its type here: the source counts in the status, which the views show.
        let reconnects = prometheus_client::metrics::counter::ConstCounter::new(replication.reconnects);
        reconnects.encode(encoder.encode_descriptor(
            name::RECONNECTS,
            "Times that the stream was taken up again",
            None,
            MetricType::Counter,
        )?)?;
        if let Some(bytes) = resident_bytes() {
            let help = "Memory of the process";
            gauge(encoder.encode_descriptor(name::RESIDENT_BYTES, help, None, MetricType::Gauge)?, bytes)?;
        }
        Ok(())
    }
}

const TABLE_STATES: [TableState; 6] = [
    TableState::Pending,
    TableState::Copying,
    TableState::CatchingUp,
    TableState::Live,
    TableState::Quarantined,
    TableState::Unsupported,
];

const REPLICATION_STATES: [ReplicationState; 5] = [
    ReplicationState::Connecting,
    ReplicationState::Copying,
    ReplicationState::Streaming,
    ReplicationState::Disconnected,
    ReplicationState::Stopped,
];

fn gauge(encoder: prometheus_client::encoding::MetricEncoder<'_>, value: u64) -> fmt::Result {
    ConstGauge::new(value).encode(encoder)
}

/// `VmRSS` of /proc/self/status, where there is one.
fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Lsn, TableOid};

    fn has(text: &str, line: &str) {
        assert!(text.lines().any(|l| l == line), "no line {line:?} in\n{text}");
    }

    #[test]
    fn what_was_counted_is_shown() {
        let metrics = Metrics::new(Arc::default());
        metrics.observe_local(RouteKind::Point, Duration::from_micros(3), 1);
        metrics.observe_local(RouteKind::Point, Duration::from_millis(2), 0);
        metrics.observe_local(RouteKind::Index, Duration::from_secs(60), 20);
        metrics.observe_primary("collation", Duration::from_millis(1));
        metrics.sessions.inc();
        metrics.sessions_open.inc();
        metrics.copy_rows.add(100);
        metrics.copy_bytes.add(4096);
        metrics.changes.add(7);
        metrics.commits.add(2);
        metrics.memory_limit_bytes.set(1 << 30);
        assert_eq!(metrics.queries(RouteKind::Point), 2);

        let text = metrics.encode();
        for line in [
            "millpond_queries_total{route=\"point\"} 2",
            "millpond_queries_total{route=\"index\"} 1",
            "millpond_queries_total{route=\"engine\"} 0",
            "millpond_queries_total{route=\"primary\"} 1",
            "millpond_fallthroughs_total{reason=\"collation\"} 1",
            "millpond_query_seconds_bucket{le=\"0.000005\",route=\"point\"} 1",
            "millpond_query_seconds_bucket{le=\"0.0025\",route=\"point\"} 2",
            "millpond_query_seconds_bucket{le=\"30.0\",route=\"index\"} 0",
            "millpond_query_seconds_bucket{le=\"+Inf\",route=\"index\"} 1",
            "millpond_query_seconds_count{route=\"index\"} 1",
            "millpond_query_seconds_sum{route=\"index\"} 60.0",
            "millpond_rows_returned_total 21",
            "millpond_sessions_total 1",
            "millpond_sessions_open 1",
            "millpond_copy_rows_total 100",
            "millpond_copy_bytes_total 4096",
            "millpond_changes_applied_total 7",
            "millpond_commits_applied_total 2",
            "millpond_memory_limit_bytes 1073741824",
            "# EOF",
        ] {
            has(&text, line);
        }
    }

    #[test]
    fn the_status_is_read_at_each_scrape() {
        let status = Arc::new(Status::default());
        let metrics = Metrics::new(Arc::clone(&status));
        has(&metrics.encode(), "millpond_tables{state=\"live\"} 0");
        has(&metrics.encode(), "millpond_replication_state{state=\"connecting\"} 1");

        for (oid, state) in [(1, TableState::Live), (2, TableState::Live), (3, TableState::CatchingUp)] {
            status.update_table(TableOid(oid), |table| {
                table.state = state;
                table.rows = 10;
                table.bytes = 1000;
            });
        }
        status.update_replication(|replication| {
            replication.state = ReplicationState::Streaming;
            replication.lag_bytes = 77;
            replication.lag_ms = 8;
            replication.reconnects = 4;
            replication.applied_lsn = Lsn(12345);
        });
        let text = metrics.encode();
        for line in [
            "millpond_tables{state=\"live\"} 2",
            "millpond_tables{state=\"catching_up\"} 1",
            "millpond_tables{state=\"quarantined\"} 0",
            "millpond_table_rows 30",
            "millpond_table_bytes 3000",
            "millpond_replication_state{state=\"streaming\"} 1",
            "millpond_replication_state{state=\"connecting\"} 0",
            "millpond_replication_lag_bytes 77",
            "millpond_replication_lag_ms 8",
            "millpond_reconnects_total 4",
            "millpond_applied_lsn 12345",
        ] {
            has(&text, line);
        }
    }
}
