//! The table of built-in counters: one row says everything about a counter that does not depend on the machine.

use super::{COUNTERS_MAX, CUSTOM_FIRST, CounterId, CounterInfo, Source};

/// perf_event_attr.type: an event of the processor that the kernel has a general name for.
pub const KIND_HARDWARE: u32 = 0;
/// perf_event_attr.type: an event of the kernel.
pub const KIND_SOFTWARE: u32 = 1;
/// perf_event_attr.type: cache × operation × result.
pub const KIND_HW_CACHE: u32 = 3;
/// perf_event_attr.type: an event number of the processor itself.
pub const KIND_RAW: u32 = 4;

/// What counting in user mode only makes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserMode {
    /// The event happens in both modes; user mode only is a part of it.
    Part,
    /// The event happens in the kernel only: there would be zero.
    Nothing,
    /// It is a time that the kernel takes whole, whatever the mode asked for.
    Whole,
}

impl UserMode {
    /// For an event of perf.
    pub fn of(kind: u32, config: u64) -> UserMode {
        match (kind, config) {
            (KIND_SOFTWARE, 0 | 1) => UserMode::Whole,
            (KIND_SOFTWARE, 3 | 4 | 11) => UserMode::Nothing,
            _ => UserMode::Part,
        }
    }
}

/// The row of counter `id`; `None` for numbers that nothing built in has.
pub fn info(id: CounterId) -> Option<&'static CounterInfo> {
    TABLE.get(id as usize)
}

/// True for the numbers of events that the user named.
pub fn is_custom(id: CounterId) -> bool {
    (CUSTOM_FIRST..COUNTERS_MAX as CounterId).contains(&id)
        && usize::from(id - CUSTOM_FIRST) < super::CUSTOM_MAX
}

const fn kernel_account(id: CounterId, name: &'static str, about: &'static str) -> CounterInfo {
    CounterInfo { id, name, event_names: &[], unit: "", source: Source::Rusage, perf: (0, 0), about }
}

const fn hardware(
    id: CounterId,
    config: u64,
    name: &'static str,
    event_names: &'static [&'static str],
    about: &'static str,
) -> CounterInfo {
    let perf = (KIND_HARDWARE, config);
    CounterInfo { id, name, event_names, unit: "", source: Source::PerfHardware, perf, about }
}

const fn software(
    id: CounterId,
    config: u64,
    name: &'static str,
    event_names: &'static [&'static str],
    unit: &'static str,
    about: &'static str,
) -> CounterInfo {
    let perf = (KIND_SOFTWARE, config);
    CounterInfo { id, name, event_names, unit, source: Source::PerfSoftware, perf, about }
}

/// Every built-in counter; the row of counter n is at index n. Numbers are part of the segment's layout: rows are
/// appended, never moved.
pub static TABLE: &[CounterInfo] = &[
    CounterInfo {
        id: 0,
        name: "cpu_ns",
        event_names: &[],
        unit: "ns",
        source: Source::ThreadClock,
        perf: (0, 0),
        about: "CPU time of the thread, user and kernel mode. Work that the server hands to other threads or processes \
                (I/O workers, purge) is not in it; time stolen by the hypervisor is.",
    },
    kernel_account(
        1,
        "page_faults_minor",
        "Page faults served without a disk read. Huge pages and fault-around bring many pages with one fault.",
    ),
    kernel_account(
        2,
        "page_faults_major",
        "Page faults that waited for a disk. Reads by read(2) or io_uring are not faults.",
    ),
    kernel_account(
        3,
        "switches_voluntary",
        "Context switches because the thread waited: for I/O, a lock, the network.",
    ),
    kernel_account(
        4,
        "switches_involuntary",
        "Context switches because the scheduler gave the CPU to another thread; depends on the load of the machine.",
    ),
    hardware(
        5,
        0,
        "cycles",
        &["cycles", "cpu-cycles"],
        "Cycles of the core while the thread ran. Frequency scaling changes their length; an SMT sibling makes them worth less.",
    ),
    hardware(
        6,
        1,
        "instructions",
        &["instructions"],
        "Instructions retired. The steadiest counter: interrupts on the thread's time add a few.",
    ),
    hardware(
        7,
        2,
        "cache_references",
        &["cache-references"],
        "Accesses that the processor calls cache references: usually of the last-level cache; differs between models.",
    ),
    hardware(
        8,
        3,
        "cache_misses",
        &["cache-misses"],
        "Accesses that missed the last-level cache; prefetches may or may not count, by model.",
    ),
    hardware(
        9,
        4,
        "branches",
        &["branches", "branch-instructions"],
        "Branch instructions retired; on some models taken ones only.",
    ),
    hardware(
        10,
        5,
        "branch_misses",
        &["branch-misses"],
        "Mispredicted branches; other threads on the core share and disturb the predictor.",
    ),
    hardware(
        11,
        6,
        "bus_cycles",
        &["bus-cycles"],
        "Cycles of the memory bus; its clock, and whether it exists, differ between models.",
    ),
    hardware(
        12,
        9,
        "ref_cycles",
        &["ref-cycles"],
        "Cycles at the reference frequency, independent of frequency scaling; one counter on most Intel models, so it is \
         multiplexed early.",
    ),
    software(
        13,
        0,
        "cpu_clock_ns",
        &["cpu-clock"],
        "ns",
        "Wall time while the event was scheduled on a CPU, from perf's high-resolution timer; cpu_ns says nearly the same, cheaper.",
    ),
    software(
        14,
        1,
        "task_clock_ns",
        &["task-clock"],
        "ns",
        "Time that the thread was on a CPU, from perf; cpu_ns says nearly the same, cheaper.",
    ),
    software(
        15,
        2,
        "page_faults",
        &["page-faults", "faults"],
        "",
        "Page faults, minor and major together; unlike page_faults_minor it can be split into user and kernel mode.",
    ),
    software(
        16,
        5,
        "minor_faults",
        &["minor-faults"],
        "",
        "Page faults without a disk read, as perf counts them.",
    ),
    software(
        17,
        6,
        "major_faults",
        &["major-faults"],
        "",
        "Page faults that waited for a disk, as perf counts them.",
    ),
    software(
        18,
        3,
        "context_switches",
        &["context-switches", "cs"],
        "",
        "Context switches of the thread, voluntary or not. Counted in the kernel: needs the right to count kernel mode.",
    ),
    software(
        19,
        4,
        "cpu_migrations",
        &["cpu-migrations", "migrations"],
        "",
        "Moves to another CPU. Counted in the kernel: needs the right to count kernel mode.",
    ),
    CounterInfo {
        id: 20,
        name: "client_wait_ns",
        event_names: &[],
        unit: "ns",
        source: Source::Session,
        perf: (0, 0),
        about: "How long the server waited in the middle of the query for its client: a slow reader, a LOCAL INFILE. \
                MariaDB and MySQL only.",
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_counters_number_is_its_place_in_the_table_and_fits_the_built_in_range() {
        for (place, row) in TABLE.iter().enumerate() {
            assert_eq!(row.id as usize, place, "{}", row.name);
        }
        assert!(TABLE.len() <= super::super::BUILTIN_MAX);
        assert_eq!(TABLE[super::super::SWITCHES_INVOLUNTARY as usize].name, "switches_involuntary");
    }

    #[test]
    fn no_two_counters_share_a_key_or_an_event_name() {
        let mut names = BTreeSet::new();
        for row in TABLE {
            assert!(names.insert(row.name), "{}", row.name);
            for name in row.event_names.iter().filter(|name| **name != row.name) {
                assert!(names.insert(name), "{name}");
            }
        }
    }

    #[test]
    fn a_counter_in_ns_says_so_in_its_key() {
        for row in TABLE {
            assert_eq!(row.unit == "ns", row.name.ends_with("_ns"), "{}", row.name);
        }
    }

    #[test]
    fn perf_rows_carry_the_kernels_event_numbers() {
        use perf_event_open_sys::bindings::*;
        let config = |name: &str| TABLE.iter().find(|row| row.name == name).unwrap().perf;
        assert_eq!(config("ref_cycles"), (PERF_TYPE_HARDWARE, u64::from(PERF_COUNT_HW_REF_CPU_CYCLES)));
        assert_eq!(config("branch_misses"), (PERF_TYPE_HARDWARE, u64::from(PERF_COUNT_HW_BRANCH_MISSES)));
        assert_eq!(config("bus_cycles"), (PERF_TYPE_HARDWARE, u64::from(PERF_COUNT_HW_BUS_CYCLES)));
        assert_eq!(config("major_faults"), (PERF_TYPE_SOFTWARE, u64::from(PERF_COUNT_SW_PAGE_FAULTS_MAJ)));
        assert_eq!(config("cpu_migrations"), (PERF_TYPE_SOFTWARE, u64::from(PERF_COUNT_SW_CPU_MIGRATIONS)));
        assert_eq!((KIND_RAW, KIND_HW_CACHE), (PERF_TYPE_RAW, PERF_TYPE_HW_CACHE));
    }
}
