//! Counters and histograms for the hot path: each thread adds to a shard of its own, so that serving
//! threads don't take a cache line from each other with every query; a scrape sums the shards.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, TypedMetric},
};

/// Threads beyond this many share shards, which costs time and no counts.
const SHARDS: usize = 16;

/// Upper bounds in nanoseconds: from a look-up in memory (microseconds) to a query at the primary.
const BOUNDS_NS: [u64; 18] = [
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    1_000_000_000,
    5_000_000_000,
    30_000_000_000,
];

thread_local! {
    static SHARD: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Relaxed) % SHARDS
    };
}

/// Two cache lines, since processors fetch them in pairs.
#[repr(align(128))]
#[derive(Debug, Default)]
struct Padded<T>(T);

/// Counts up. Clones are the same counter.
#[derive(Clone, Debug, Default)]
pub struct Counter {
    shards: Arc<[Padded<AtomicU64>; SHARDS]>,
}

impl Counter {
    pub fn inc(&self) {
        self.add(1);
    }

    pub fn add(&self, count: u64) {
        // A thread that is ending has no shard any longer.
        let shard = SHARD.try_with(|shard| *shard).unwrap_or(0);
        self.shards[shard].0.fetch_add(count, Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.shards.iter().map(|shard| shard.0.load(Relaxed)).fold(0, u64::wrapping_add)
    }
}

impl TypedMetric for Counter {
    const TYPE: MetricType = MetricType::Counter;
}

impl EncodeMetric for Counter {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_counter::<NoLabelSet, _, u64>(&self.get(), None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// Times. Clones are the same histogram.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    shards: Arc<[Padded<Times>; SHARDS]>,
}

#[derive(Debug, Default)]
struct Times {
    /// The last is for times above all bounds.
    buckets: [AtomicU64; BOUNDS_NS.len() + 1],
    sum_ns: AtomicU64,
}

impl Histogram {
    pub fn observe(&self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let shard = SHARD.try_with(|shard| *shard).unwrap_or(0);
        let times = &self.shards[shard].0;
        times.buckets[BOUNDS_NS.partition_point(|bound| *bound < ns)].fetch_add(1, Relaxed);
        times.sum_ns.fetch_add(ns, Relaxed);
    }

    pub fn count(&self) -> u64 {
        self.buckets().iter().map(|(_, count)| count).sum()
    }

    fn buckets(&self) -> [(f64, u64); BOUNDS_NS.len() + 1] {
        std::array::from_fn(|i| {
            let bound = BOUNDS_NS.get(i).map_or(f64::INFINITY, |ns| seconds(*ns));
            (bound, self.shards.iter().map(|shard| shard.0.buckets[i].load(Relaxed)).sum())
        })
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let buckets = self.buckets();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum_ns: u64 =
            self.shards.iter().map(|shard| shard.0.sum_ns.load(Relaxed)).fold(0, u64::wrapping_add);
        encoder.encode_histogram::<NoLabelSet>(seconds(sum_ns), count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// Prometheus counts time in seconds; what a float loses of nanoseconds is not missed.
fn seconds(ns: u64) -> f64 {
    Duration::from_nanos(ns).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn no_count_is_lost_between_threads() {
        let (counter, histogram) = (Counter::default(), Histogram::default());
        thread::scope(|scope| {
            for _ in 0..SHARDS + 4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        counter.inc();
                        histogram.observe(Duration::from_micros(7));
                    }
                });
            }
        });
        counter.add(5);
        assert_eq!(counter.get(), 1000 * (SHARDS as u64 + 4) + 5);
        assert_eq!(histogram.count(), 1000 * (SHARDS as u64 + 4));
    }

    #[test]
    fn times_fall_into_the_bucket_whose_bound_they_do_not_exceed() {
        assert!(BOUNDS_NS.is_sorted());
        let histogram = Histogram::default();
        for ns in [0, 5_000, 5_001, 30_000_000_000, 30_000_000_001, u64::MAX] {
            histogram.observe(Duration::from_nanos(ns));
        }
        histogram.observe(Duration::MAX);
        let buckets = histogram.buckets();
        assert_eq!(buckets[0], (5e-6, 2));
        assert_eq!(buckets[1], (1e-5, 1));
        assert_eq!(buckets[17], (30.0, 1));
        assert_eq!(buckets[18], (f64::INFINITY, 3));
    }
}
