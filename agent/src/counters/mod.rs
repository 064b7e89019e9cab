//! Counters of the thread that runs a query: one table, several sources.
//!
//! | number | name | unit | source | needs |
//! | --- | --- | --- | --- | --- |
//! | see [`TABLE`] |
//!
//! A counter's number is its bit in every mask of the segment and of records: part of the layout.

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

    /// Adds `other`; a counter stays known only where both know it, unless one of them is empty.
    pub fn add(&mut self, other: &Counts) {
        for (to, from) in self.values.iter_mut().zip(&other.values) {
            *to = to.wrapping_add(*from);
        }
        self.known &= other.known;
        self.scaled |= other.scaled;
    }
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
    /// Explicit padding.
    pub reserved: u32,
}
