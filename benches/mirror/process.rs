//! What Linux says of processes and threads.

use std::{fs, time::Duration};

use crate::Result;

/// Memory of this process that is in RAM.
pub(crate) fn resident_bytes() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024)
}

/// CPU time (user and system) of this process's threads of a name, which is cut to 15 bytes.
pub(crate) fn thread_cpu(name: &str) -> Result<Duration> {
    let name = name.get(..15).unwrap_or(name);
    let mut total = Duration::ZERO;
    for entry in fs::read_dir("/proc/self/task")? {
        let path = entry?.path();
        // A thread can end between the listing and the reading.
        let Ok(comm) = fs::read_to_string(path.join("comm")) else { continue };
        if comm.trim_end() == name {
            total += on_cpu(&fs::read_to_string(path.join("schedstat"))?)?;
        }
    }
    Ok(total)
}

/// CPU time of this process, of threads that have ended too. Counted in ticks of 10 ms.
pub(crate) fn own_cpu() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name, in parentheses, may hold anything; user and system time are the 14th and 15th field.
    let (_, fields) = stat.rsplit_once(')').ok_or("no stat")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    Ok(Duration::from_millis(ticks.sum::<std::result::Result<u64, _>>()? * 10))
}

/// CPU time of another process of one thread.
pub(crate) fn process_cpu(pid: i32) -> Result<Duration> {
    on_cpu(&fs::read_to_string(format!("/proc/{pid}/schedstat"))?)
}

/// The first number of `schedstat`: nanoseconds on a CPU.
fn on_cpu(schedstat: &str) -> Result<Duration> {
    let ns = schedstat.split_whitespace().next().ok_or("no schedstat")?;
    Ok(Duration::from_nanos(ns.parse()?))
}
