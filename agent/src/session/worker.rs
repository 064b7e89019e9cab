//! PostgreSQL's parallel workers: whose work they did, and what it cost.
//!
//! A worker is a child of the postmaster without a client socket. Its title, which the server writes over the memory of
//! `argv[0]` (ps_status.c), names the leader: `postgres: [cluster: ]parallel worker for PID 30241`. It is forked for one
//! Gather and exits after it, so all it did since fork(2) belongs to the leader's query.

use crate::counters::{self, Counts, Wanted};
use crate::sys::time;

const MARK: &[u8] = b"parallel worker for PID ";

/// The leader's pid in a worker's title; `None` for every other process.
pub fn leader_of(title: &[u8]) -> Option<u32> {
    let rest = title.strip_prefix(b"postgres: ")?;
    let at = rest.windows(MARK.len()).position(|w| w == MARK)?;
    // Something may stand before the mark: the cluster's name and ": ". A user named like the mark has no such end.
    if at != 0 && !rest.get(..at)?.ends_with(b": ") {
        return None;
    }
    let digits = rest.get(at + MARK.len()..)?;
    let n = digits.iter().take_while(|b| b.is_ascii_digit()).count();
    core::str::from_utf8(digits.get(..n)?).ok()?.parse().ok()
}

/// What this single-threaded process has cost since it was forked: the counters that come without perf.
pub fn cost_since_fork(counts: &mut Counts, wanted: &Wanted) {
    let mut set = |id: counters::CounterId, value: u64| {
        if wanted.mask & (1 << id) != 0 {
            counts.set(id, value);
        }
    };
    if let Ok(cpu_ns) = time::thread_cpu_ns() {
        set(counters::CPU_NS, cpu_ns);
    }
    if let Ok(usage) = time::thread_usage() {
        set(counters::PAGE_FAULTS_MINOR, usage.page_faults_minor);
        set(counters::PAGE_FAULTS_MAJOR, usage.page_faults_major);
        set(counters::SWITCHES_VOLUNTARY, usage.switches_voluntary);
        set(counters::SWITCHES_INVOLUNTARY, usage.switches_involuntary);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parallel_worker_names_its_leader_and_nobody_else_does() {
        assert_eq!(leader_of(b"postgres: parallel worker for PID 30241 \0\0"), Some(30241));
        assert_eq!(leader_of(b"postgres: main: parallel worker for PID 7"), Some(7));
        assert_eq!(leader_of(b"postgres: checkpointer "), None);
        assert_eq!(leader_of(b"postgres: joe shop [local] idle"), None);
        assert_eq!(leader_of(b"postgres: xparallel worker for PID 7"), None);
        assert_eq!(leader_of(b"postgres: parallel worker for PID "), None);
        assert_eq!(leader_of(b"parallel worker for PID 7"), None);
    }
}
