//! What the defaults depend on: cores and memory of the machine, or of the container on it.

use std::{fs, thread};

/// Taken as the memory where the machine doesn't say, so that the default is small but works.
const UNKNOWN_MEMORY_BYTES: u64 = 1 << 30;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Machine {
    pub(super) cores: usize,
    pub(super) memory_bytes: u64,
}

impl Machine {
    pub(super) fn this() -> Machine {
        // Control groups, version 2 and 1: a container is ended at its own limit, not at the machine's.
        let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
        let limits = limits.iter().filter_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok());
        let total = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_bytes(&text));
        Machine {
            cores: thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: total.into_iter().chain(limits).min().unwrap_or(UNKNOWN_MEMORY_BYTES),
        }
    }
}

/// `MemTotal` of /proc/meminfo, which counts in kB of 1024 bytes.
fn total_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read() {
        assert_eq!(total_bytes("MemTotal:       24689540 kB\nMemFree: 1 kB\n"), Some(24_689_540 * 1024));
        assert_eq!(total_bytes("MemFree: 1 kB\n"), None);
        assert_eq!(total_bytes("MemTotal: much\n"), None);
    }

    #[test]
    fn this_machine_has_cores_and_memory() {
        let machine = Machine::this();
        assert!(machine.cores >= 1);
        assert!(machine.memory_bytes > 1 << 20);
    }
}
