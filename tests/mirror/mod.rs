//! Copy, stream, apply and store against real primaries: what is held equals what the primary holds.

mod bootstrap;
mod changes;
mod definitions;
mod faults;
mod tpcb;
mod tpch;

use std::env;

/// Counts are multiplied by `MILLPOND_TEST_SCALE` for longer runs.
pub(crate) fn scaled(count: usize) -> usize {
    let scale = env::var("MILLPOND_TEST_SCALE").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    count * scale
}

/// A seed, printed so that a failing run can be repeated with `MILLPOND_TEST_SEED`.
pub(crate) fn seed() -> u64 {
    let seed = env::var("MILLPOND_TEST_SEED").ok().and_then(|s| s.parse().ok());
    let seed = seed.unwrap_or_else(rand::random::<u64>);
    println!("MILLPOND_TEST_SEED={seed}");
    seed
}
