//! Counters of the thread that runs a query: one table, several sources.
//!
//! | number | name | unit | source | needs | what makes it wrong |
//! | --- | --- | --- | --- | --- | --- |
//! | 0 | `cpu_ns` | ns | thread CPU clock | nothing | work handed to other threads is missing |
//! | 1 | `page_faults_minor` | | getrusage | nothing | huge pages and fault-around: many pages, one fault |
//! | 2 | `page_faults_major` | | getrusage | nothing | read(2) from disk is no fault |
//! | 3 | `switches_voluntary` | | getrusage | nothing | |
//! | 4 | `switches_involuntary` | | getrusage | nothing | depends on the machine's load |
//! | 5 | `cycles` | | perf hardware | a PMU; `perf_event_paranoid` ≤ 2 (user mode), ≤ 1 (both) | frequency scaling, SMT |
//! | 6 | `instructions` | | perf hardware | as 5 | interrupts |
//! | 7 | `cache_references` | | perf hardware | as 5 | which cache: by model |
//! | 8 | `cache_misses` | | perf hardware | as 5 | prefetches: by model |
//! | 9 | `branches` | | perf hardware | as 5 | taken ones only on some models |
//! | 10 | `branch_misses` | | perf hardware | as 5 | predictor shared with others |
//! | 11 | `bus_cycles` | | perf hardware | as 5 | clock differs by model |
//! | 12 | `ref_cycles` | | perf hardware | as 5 | few registers have it: multiplexed early |
//! | 13 | `cpu_clock_ns` | ns | perf software | perf_event_open | 0 says nearly the same |
//! | 14 | `task_clock_ns` | ns | perf software | perf_event_open | 0 says nearly the same |
//! | 15 | `page_faults` | | perf software | perf_event_open | user mode only: faults of system calls are missing |
//! | 16 | `minor_faults` | | perf software | perf_event_open | as 15; 1 says it cheaper |
//! | 17 | `major_faults` | | perf software | perf_event_open | as 15; 2 says it cheaper |
//! | 18 | `context_switches` | | perf software | the right to count kernel mode | 3 + 4 say it cheaper |
//! | 19 | `cpu_migrations` | | perf software | the right to count kernel mode | |
//! | 20 | `client_wait_ns` | ns | session | MariaDB or MySQL | a wait for its client that the server hides in one send |
//! | 48–55 | named by the user | | perf | what the event needs | |
//!
//! Any perf counter can be multiplexed: it is then scaled by time enabled / time running and marked. [`TABLE`] says the
//! same to programs. A counter's number is its bit in every mask of the segment and of records: part of the layout.
//!
//! The way of use: [`probe_seccomp`] once in the constructor; on each thread a [`ThreadCounters`]; a [`Reading`] at each
//! end of a query; [`delta`] of the two gives [`Counts`].

mod budget;
mod kernel;
mod open;
#[cfg(feature = "reader")]
mod parse;
#[cfg_attr(target_arch = "x86_64", path = "rdpmc_x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "rdpmc_aarch64.rs")]
mod rdpmc;
mod reading;
mod seccomp;
#[cfg(feature = "reader")]
mod survey;
mod table;
mod thread;
mod unavailable;
mod user_space;

#[cfg(all(test, feature = "reader"))]
mod hardware_tests;
#[cfg(test)]
mod scripted;
#[cfg(test)]
mod scripted_tests;

pub use budget::{Budget, PROCESS as DESCRIPTOR_BUDGET};
#[cfg(feature = "reader")]
pub use parse::{EventError, HwCacheEvent, Selection, hw_cache_events, parse_events};
pub use reading::{PERF_EVENTS_MAX, PerfReading, Reading, delta};
pub use seccomp::{probe_seccomp, verdict as seccomp_verdict};
#[cfg(feature = "reader")]
pub use survey::{Availability, Survey, survey, user_space_reads};
pub use table::{TABLE, info};
pub use thread::ThreadCounters;
pub(crate) use thread::USAGE_MASK;
pub use unavailable::Unavailable;
pub use user_space::UserSpaceReads;

/// Numbers of counters: bits in masks. 0–31 are built in, 48–55 are events that the user named (`-e r01c2`).
pub type CounterId = u8;

/// How many built-in numbers there can be.
pub const BUILTIN_MAX: usize = 32;
/// First number of the events named by the user.
pub const CUSTOM_FIRST: CounterId = 48;
/// How many events the user may name beside the built-in ones.
pub const CUSTOM_MAX: usize = 8;
/// How many counters a reading can hold.
pub const COUNTERS_MAX: usize = 64;

/// Where a counter's value comes from. Ordered by price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// getrusage(RUSAGE_THREAD).
    Rusage,
    /// clock_gettime(CLOCK_THREAD_CPUTIME_ID).
    ThreadClock,
    /// The session itself: what the hooks saw on its socket.
    Session,
    /// perf_event_open(2), a software event.
    PerfSoftware,
    /// perf_event_open(2), an event of the processor.
    PerfHardware,
}

/// A row of the counter table.
#[derive(Clone, Copy, Debug)]
pub struct CounterInfo {
    /// Its number.
    pub id: CounterId,
    /// Its key in reports, with its unit where it has one: `cpu_ns`, `page_faults_minor`, `cycles`.
    pub name: &'static str,
    /// What `-e` calls it (perf's event name) and its aliases; empty when it can't be named.
    pub event_names: &'static [&'static str],
    /// Unit: "ns" or "" for a count.
    pub unit: &'static str,
    /// Where it comes from.
    pub source: Source,
    /// perf type and config for perf sources; zeros otherwise.
    pub perf: (u32, u64),
    /// What it counts and what makes it wrong, in a sentence.
    pub about: &'static str,
}

/// CPU time of the thread, ns.
pub const CPU_NS: CounterId = 0;
/// Page faults served without a disk read.
pub const PAGE_FAULTS_MINOR: CounterId = 1;
/// Page faults that waited for a disk.
pub const PAGE_FAULTS_MAJOR: CounterId = 2;
/// Context switches because the thread waited.
pub const SWITCHES_VOLUNTARY: CounterId = 3;
/// Context switches because the scheduler took the CPU away.
pub const SWITCHES_INVOLUNTARY: CounterId = 4;

/// How long the server waited for its client in the middle of the unit, ns (MariaDB and MySQL: poll of the session's own
/// socket).
pub const CLIENT_WAIT_NS: CounterId = 20;

/// The counters read without perf, always available: mask of numbers 0–4.
pub const CHEAP_MASK: u64 = 0b1_1111;

/// Values of counters by number; only those in `known` mean something.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Counts {
    /// Bit n: counter n was read.
    pub known: u64,
    /// Bit n: counter n was multiplexed; its value is scaled by time enabled / time running.
    pub scaled: u64,
    /// The values.
    pub values: [u64; COUNTERS_MAX],
}

impl Counts {
    /// Nothing known.
    pub const fn new() -> Self {
        Counts { known: 0, scaled: 0, values: [0; COUNTERS_MAX] }
    }

    /// The value of counter `id`, if it is known.
    pub fn get(&self, id: CounterId) -> Option<u64> {
        if self.known & (1 << (id & 63)) == 0 { None } else { self.values.get(id as usize).copied() }
    }

    /// Sets counter `id`.
    pub fn set(&mut self, id: CounterId, value: u64) {
        if let Some(slot) = self.values.get_mut(id as usize) {
            *slot = value;
            self.known |= 1 << id;
        }
    }

    /// Becomes `other`, copying only what is known.
    #[inline]
    pub fn copy_known(&mut self, other: &Counts) {
        self.known = other.known;
        self.scaled = other.scaled;
        let mut left = other.known;
        while left != 0 {
            let id = left.trailing_zeros() as usize;
            if let (Some(to), Some(from)) = (self.values.get_mut(id), other.values.get(id)) {
                *to = *from;
            }
            left &= left - 1;
        }
    }

    /// Adds `other`; a counter stays known only where both know it.
    #[inline]
    pub fn add_known(&mut self, other: &Counts) {
        self.known &= other.known;
        self.scaled |= other.scaled;
        let mut left = self.known;
        while left != 0 {
            let id = left.trailing_zeros() as usize;
            if let (Some(to), Some(from)) = (self.values.get_mut(id), other.values.get(id)) {
                *to = to.wrapping_add(*from);
            }
            left &= left - 1;
        }
    }
}

impl Wanted {
    /// Nothing is wanted.
    pub const NOTHING: Wanted = Wanted {
        mask: 0,
        user_only: 0,
        kernel_only: 0,
        custom: [CustomEvent { kind: 0, modifiers: 0, config: 0 }; CUSTOM_MAX],
        user_space_reads: 0,
        budget_ppm: 0,
    };
}

impl Default for Counts {
    fn default() -> Self {
        Self::new()
    }
}

/// An event named by the user that the table does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct CustomEvent {
    /// perf_event_attr.type.
    pub kind: u32,
    /// Bit 0: exclude user, bit 1: exclude kernel (`:k`, `:u`).
    pub modifiers: u32,
    /// perf_event_attr.config.
    pub config: u64,
}

/// What the collector wants counted; travels in the control page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Wanted {
    /// Bit n: counter n is wanted (custom events included).
    pub mask: u64,
    /// Bit n: count user mode only (`:u`); bits of built-in perf counters.
    pub user_only: u64,
    /// Bit n: count kernel mode only (`:k`).
    pub kernel_only: u64,
    /// Numbers [`CUSTOM_FIRST`]… in order.
    pub custom: [CustomEvent; CUSTOM_MAX],
    /// Use user-space counter reads (rdpmc) where the kernel offers them.
    pub user_space_reads: u32,
    /// The share of time that readings may cost, in millionths; 0: every execution is counted, whatever it costs.
    pub budget_ppm: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_knows_only_what_all_its_parts_know() {
        let mut first = Counts::new();
        first.set(CPU_NS, 5);
        first.set(PAGE_FAULTS_MINOR, 1);
        let mut second = Counts::new();
        second.set(CPU_NS, 7);
        second.scaled = 1;
        let mut sum = Counts::new();
        sum.copy_known(&first);
        assert_eq!((sum.get(CPU_NS), sum.get(PAGE_FAULTS_MINOR)), (Some(5), Some(1)));
        sum.add_known(&second);
        assert_eq!((sum.get(CPU_NS), sum.get(PAGE_FAULTS_MINOR), sum.scaled), (Some(12), None, 1));
    }

    #[test]
    fn a_number_beyond_the_last_counter_is_never_set() {
        let mut counts = Counts::new();
        counts.set(64, 1);
        counts.set(255, 1);
        assert_eq!((counts.known, counts.get(63)), (0, None));
    }
}
