//! Which CPU everything runs on: servers and client share one, collectors get another.

use crate::proc;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The CPU for servers and client, and the others for collectors.
#[derive(Clone, Debug)]
pub struct Cpus {
    /// The last of those we may run on.
    pub bench: usize,
    /// The rest, as taskset wants them; `bench` itself when there is no other.
    pub others: String,
    all: CpuSet,
}

impl Cpus {
    /// Those this process may run on.
    pub fn of_this_process() -> Self {
        let all = sched_getaffinity(None).expect("every process has some");
        let mut list: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&cpu| all.is_set(cpu)).collect();
        let bench = list.pop().unwrap_or(0);
        let others = if list.is_empty() { vec![bench] } else { list };
        let others = others.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        Cpus { bench, others, all }
    }

    /// Pins the calling thread, and what it starts meanwhile, until the answer is dropped.
    #[must_use]
    pub fn pin_self(&self) -> Pinned {
        sched_setaffinity(None, &self.only_bench()).expect("one of our own CPUs");
        Pinned { before: self.all }
    }

    /// Keeps the calling thread away from the servers' CPU, where there is another one, until the answer is dropped.
    #[must_use]
    pub fn keep_off_bench(&self) -> Pinned {
        let mut others = self.all;
        others.unset(self.bench);
        if others.count() > 0 {
            sched_setaffinity(None, &others).expect("some of our own CPUs");
        }
        Pinned { before: self.all }
    }

    /// Pins every thread of a process and of its children. Threads and backends they start later inherit it.
    pub fn pin(&self, pid: u32) {
        let cpus = self.only_bench();
        for_each_thread(pid, |tid| {
            let _ = sched_setaffinity(Some(tid), &cpus);
        });
    }

    fn only_bench(&self) -> CpuSet {
        let mut set = CpuSet::new();
        set.set(self.bench);
        set
    }
}

/// The calling thread is pinned; dropping this lets it run everywhere again.
pub struct Pinned {
    before: CpuSet,
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = sched_setaffinity(None, &self.before);
    }
}

/// Raises a process and its children above whatever else the machine does. False when we may not.
pub fn raise_priority(pid: u32) -> bool {
    let mut raised = true;
    for_each_thread(pid, |tid| raised &= rustix::process::setpriority_process(Some(tid), -20).is_ok());
    raised
}

fn for_each_thread(pid: u32, mut act: impl FnMut(Pid)) {
    for process in std::iter::once(pid).chain(proc::children(pid)) {
        proc::threads(process).into_iter().filter_map(|tid| Pid::from_raw(tid as i32)).for_each(&mut act);
    }
}
