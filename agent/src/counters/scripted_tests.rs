//! The counters against a scripted kernel: permissions, limits, multiplexing, theft, and a failure at every call.

use super::budget::Budget;
use super::scripted::Scripted;
use super::thread::ThreadCounters;
use super::unavailable::Unavailable;
use super::user_space::UserSpaceReads;
use super::{CHEAP_MASK, CPU_NS, Counts, CustomEvent, PAGE_FAULTS_MINOR, Reading, Wanted, delta};
use perf_event_open_sys::bindings::perf_event_mmap_page;
use std::{format, vec};

const CYCLES: u8 = 5;
const INSTRUCTIONS: u8 = 6;
const PAGE_FAULTS: u8 = 15;
const CONTEXT_SWITCHES: u8 = 18;
const CUSTOM: u8 = 48;

/// Everything built in.
const ALL: u64 = (1 << 20) - 1;
/// cycles … branches: four events, as many as the scripted PMU has counters.
const FOUR_HARDWARE: u64 = 0b1111 << 5;

fn wanted(mask: u64) -> Wanted {
    Wanted { mask, ..Wanted::default() }
}

/// A thread with a scripted kernel and an account of its own.
struct Stage {
    k: Scripted,
    budget: Budget,
    counters: ThreadCounters,
}

impl Stage {
    fn new() -> Self {
        Stage { k: Scripted::new(), budget: Budget::new(), counters: ThreadCounters::new() }
    }

    fn prepare(&mut self, wanted: &Wanted) {
        self.counters.prepare_with(&mut self.k, &self.budget, wanted, 1);
    }

    fn read(&mut self) -> Reading {
        let mut reading = Reading::new();
        self.counters.read_with(&mut self.k, &self.budget, 0, &mut reading);
        reading
    }

    fn reason(&self, id: u8) -> Option<Unavailable> {
        Unavailable::from_code(self.counters.unavailable()[id as usize])
    }

    /// One query.
    fn query(&mut self) -> Counts {
        let start = self.read();
        let end = self.read();
        let mut counts = Counts::new();
        delta(&start, &end, &mut counts);
        counts
    }

    /// Gives everything back and checks that nothing is left over.
    fn end(mut self) {
        self.counters.release_with(&mut self.k, &self.budget);
        assert!(self.k.events.is_empty(), "leaked: {:?}", self.k.events);
        assert_eq!(self.budget.held(), 0);
        assert_eq!(self.k.pages_mapped, 0);
        assert_eq!(self.k.sins, vec![""; 0]);
    }
}

#[test]
fn the_cheap_counters_take_two_system_calls_and_nothing_wanted_takes_none() {
    let mut stage = Stage::new();
    stage.prepare(&wanted(0));
    assert_eq!(stage.read().cheap_known, 0);
    assert_eq!(stage.k.log, vec![""; 0]);
    stage.prepare(&wanted(CHEAP_MASK));
    stage.read();
    assert_eq!(stage.k.log, vec!["clock", "usage"]);
    stage.prepare(&wanted(1 << PAGE_FAULTS_MINOR));
    let counts = stage.query();
    assert_eq!((counts.known, stage.k.log.len()), (1 << PAGE_FAULTS_MINOR, 4));
    stage.end();
}

#[test]
fn a_generation_already_prepared_is_not_opened_again() {
    let mut counters = ThreadCounters::new();
    let mut stage = Stage::new();
    counters.prepare_with(&mut stage.k, &stage.budget, &wanted(FOUR_HARDWARE), 7);
    let calls = stage.k.log.len();
    // With the real kernel: the same generation returns before any system call.
    counters.prepare(&wanted(0), 7);
    assert_eq!((counters.descriptors(), stage.k.log.len()), (4, calls));
    stage.counters = counters;
    stage.end();
}

#[test]
fn hardware_and_software_events_are_two_groups_read_with_two_calls_each() {
    let mut stage = Stage::new();
    stage.prepare(&wanted(FOUR_HARDWARE | 1 << PAGE_FAULTS | 1 << CONTEXT_SWITCHES));
    let before = stage.k.log.len();
    stage.read();
    assert_eq!(stage.k.log[before..], ["id", "read", "id", "read"]);
    let counts = stage.query();
    // The script: (config + 1) per ns; 2 readings of 1000 ns lie between those of one group.
    assert_eq!((counts.get(CYCLES), counts.get(INSTRUCTIONS)), (Some(2000), Some(4000)));
    assert_eq!((counts.get(PAGE_FAULTS), counts.get(CONTEXT_SWITCHES)), (Some(6000), Some(8000)));
    assert_eq!(counts.scaled, 0);
    stage.end();
}

#[test]
fn descriptors_are_moved_to_high_numbers() {
    let mut stage = Stage::new();
    stage.prepare(&wanted(ALL));
    assert!(stage.k.events.keys().all(|fd| *fd >= 900), "{:?}", stage.k.events);
    stage.end();
}

#[test]
fn a_group_too_large_for_the_processor_becomes_several_and_none_is_lost() {
    let mut stage = Stage::new();
    stage.prepare(&wanted(0xff << 5));
    stage.k.running_percent = 50;
    let counts = stage.query();
    assert_eq!(counts.known, 0xff << 5);
    assert_eq!(counts.scaled, 0xff << 5);
    // Two groups are read in turn, 1000 ns each: 2000 ns pass between two readings of one.
    assert_eq!(counts.get(CYCLES), Some(2000));
    stage.end();
}

#[test]
fn a_group_that_never_gets_onto_the_counters_is_taken_apart() {
    let mut stage = Stage::new();
    stage.k.groups_never_run = true;
    stage.prepare(&wanted(FOUR_HARDWARE));
    assert!(stage.k.events.iter().all(|(fd, event)| event.leader == *fd && event.enabled));
    assert_eq!(stage.query().known, FOUR_HARDWARE);
    stage.end();
}

#[test]
fn without_the_right_to_kernel_mode_user_mode_is_counted_and_said() {
    for errno in [libc::EACCES, libc::EPERM] {
        let mut stage = Stage::new();
        stage.k.kernel_mode_refused = Some(errno);
        stage.prepare(&wanted(1 << CYCLES | 1 << INSTRUCTIONS | 1 << PAGE_FAULTS));
        assert_eq!(stage.counters.user_mode_only(), 1 << CYCLES | 1 << INSTRUCTIONS | 1 << PAGE_FAULTS);
        assert_eq!(stage.counters.available_mask(), 1 << CYCLES | 1 << INSTRUCTIONS | 1 << PAGE_FAULTS);
        // Refused once, not asked for again: cycles twice, the other two once.
        assert_eq!(stage.k.log.iter().filter(|call| **call == "open").count(), 4);
        stage.end();
    }
}

#[test]
fn user_mode_of_a_thing_that_only_the_kernel_does_is_unavailable_not_zero() {
    let mut stage = Stage::new();
    stage.k.kernel_mode_refused = Some(libc::EACCES);
    stage.prepare(&wanted(1 << CONTEXT_SWITCHES | 1 << 13));
    assert_eq!(stage.reason(CONTEXT_SWITCHES), Some(Unavailable::KernelModeOnly));
    // cpu-clock takes both modes whatever is asked: not marked.
    assert_eq!((stage.reason(13), stage.counters.user_mode_only()), (None, 0));
    stage.end();
}

#[test]
fn modes_that_were_asked_for_reach_the_kernel() {
    let mut stage = Stage::new();
    let mut both = wanted(1 << CYCLES | 1 << INSTRUCTIONS | 1 << CUSTOM);
    both.user_only = 1 << CYCLES;
    both.kernel_only = 1 << INSTRUCTIONS;
    both.custom[0] = CustomEvent { kind: 4, modifiers: 2, config: 0x1c2 };
    stage.prepare(&both);
    let mode = |config: u64| {
        let event = stage.k.events.values().find(|event| event.request.config == config).unwrap();
        (event.request.exclude_user, event.request.exclude_kernel)
    };
    assert_eq!((mode(0), mode(1), mode(0x1c2)), ((false, true), (true, false), (false, true)));
    assert_eq!(stage.counters.user_mode_only(), 1 << CYCLES | 1 << CUSTOM);
    stage.end();
}

#[test]
fn an_event_asked_for_in_user_mode_takes_kernel_mode_from_no_other() {
    let mut stage = Stage::new();
    let wanted = Wanted { user_only: 1 << CYCLES, ..wanted(1 << CYCLES | 1 << INSTRUCTIONS) };
    stage.prepare(&wanted);
    assert_eq!(stage.counters.user_mode_only(), 1 << CYCLES);
    stage.end();
}

#[test]
fn every_errno_of_an_open_becomes_its_reason() {
    for (errno, reason) in [
        (libc::ENOENT, Unavailable::NoSuchEvent),
        (libc::ENODEV, Unavailable::NoSuchEvent),
        (libc::EACCES, Unavailable::Paranoid),
        (libc::EPERM, Unavailable::NotPermitted),
        (libc::EMFILE, Unavailable::DescriptorLimit),
        (libc::ENFILE, Unavailable::DescriptorLimit),
        (libc::ENOSYS, Unavailable::NoPerfEvents),
        (libc::ENOMEM, Unavailable::OutOfMemory),
        (libc::EINVAL, Unavailable::NotSupported),
        (libc::EOPNOTSUPP, Unavailable::NotSupported),
        (libc::EBUSY, Unavailable::Busy),
        (libc::EIO, Unavailable::Failed),
    ] {
        let mut stage = Stage::new();
        stage.k.open_fails = Some(errno);
        stage.prepare(&wanted(CHEAP_MASK | 1 << CYCLES | 1 << PAGE_FAULTS));
        assert_eq!((stage.reason(CYCLES), stage.reason(PAGE_FAULTS)), (Some(reason), Some(reason)));
        // What needs no perf is counted all the same.
        assert_eq!(stage.query().known, CHEAP_MASK);
        stage.end();
    }
}

#[test]
fn a_filter_that_kills_means_that_nothing_is_tried() {
    let mut stage = Stage::new();
    stage.k.forbidden = Some(Unavailable::SeccompKills);
    stage.prepare(&wanted(ALL));
    assert_eq!(stage.k.log, vec![""; 0]);
    assert_eq!(stage.reason(CYCLES), Some(Unavailable::SeccompKills));
    assert_eq!(stage.query().known, CHEAP_MASK);
    stage.end();
}

#[test]
fn a_tenth_of_the_descriptors_is_taken_and_hardware_events_come_first() {
    let mut stage = Stage::new();
    stage.k.descriptor_limit = 64;
    stage.prepare(&wanted(ALL));
    assert_eq!((stage.counters.descriptors(), stage.budget.held()), (6, 6));
    assert_eq!(stage.reason(CYCLES), None);
    assert_eq!(stage.reason(12), Some(Unavailable::DescriptorBudget));
    assert_eq!(stage.reason(PAGE_FAULTS), Some(Unavailable::DescriptorBudget));
    stage.end();
}

#[test]
fn a_postgres_backend_holds_five_descriptors_at_most() {
    let mut stage = Stage::new();
    stage.budget.set_single_threaded_backend(true);
    stage.prepare(&wanted(ALL));
    assert_eq!(stage.counters.descriptors(), 5);
    stage.end();
}

#[test]
fn a_number_that_the_host_took_over_is_neither_read_nor_closed() {
    let mut stage = Stage::new();
    stage.prepare(&wanted(CHEAP_MASK | 1 << CYCLES | 1 << INSTRUCTIONS | 1 << PAGE_FAULTS));
    let start = stage.read();
    let leader = *stage.k.events.keys().next().unwrap();
    stage.k.host_takes(leader);
    let end = stage.read();
    let mut counts = Counts::new();
    delta(&start, &end, &mut counts);
    assert_eq!(counts.known, CHEAP_MASK | 1 << PAGE_FAULTS);
    assert_eq!(stage.reason(CYCLES), Some(Unavailable::Stolen));
    assert_eq!(stage.reason(INSTRUCTIONS), Some(Unavailable::Stolen));
    // The member, still ours, was given back; the next readings do not look at the group any more.
    assert_eq!((stage.counters.descriptors(), stage.budget.held(), stage.k.events.len()), (1, 1, 1));
    let before = stage.k.log.len();
    stage.read();
    assert_eq!(stage.k.log[before..], ["clock", "usage", "id", "read"]);
    stage.end();
}

#[test]
fn a_member_that_the_host_closed_does_not_lend_its_value_to_another() {
    let mut stage = Stage::new();
    stage.prepare(&wanted(FOUR_HARDWARE));
    let start = stage.read();
    let second = *stage.k.events.keys().nth(1).unwrap();
    stage.k.host_takes(second);
    let end = stage.read();
    let mut counts = Counts::new();
    delta(&start, &end, &mut counts);
    assert_eq!(counts.known, FOUR_HARDWARE & !(1 << INSTRUCTIONS));
    assert_eq!((counts.get(CYCLES), counts.get(7), counts.get(8)), (Some(1000), Some(3000), Some(4000)));
    assert_eq!(stage.reason(INSTRUCTIONS), Some(Unavailable::Stolen));
    stage.end();
}

#[test]
fn a_new_generation_opens_anew_what_was_stolen() {
    let mut stage = Stage::new();
    stage.prepare(&wanted(1 << CYCLES));
    let fd = *stage.k.events.keys().next().unwrap();
    stage.k.host_takes(fd);
    stage.read();
    stage.counters.prepare_with(&mut stage.k, &stage.budget, &wanted(1 << CYCLES), 2);
    assert_eq!(stage.reason(CYCLES), None);
    assert_eq!(stage.query().known, 1 << CYCLES);
    stage.end();
}

#[test]
fn what_was_read_before_a_new_opening_is_not_compared_with_what_comes_after() {
    let mut stage = Stage::new();
    stage.prepare(&wanted(CHEAP_MASK | 1 << CYCLES));
    let start = stage.read();
    stage.prepare(&wanted(CHEAP_MASK | 1 << CYCLES));
    let end = stage.read();
    let mut counts = Counts::new();
    delta(&start, &end, &mut counts);
    assert_eq!(counts.known, CHEAP_MASK);
    stage.end();
}

#[test]
fn a_forked_child_closes_what_it_inherited_and_touches_no_page() {
    let mut stage = Stage::new();
    stage.k.page = Some(offering_page());
    stage.prepare(&Wanted { user_space_reads: 1, ..wanted(FOUR_HARDWARE) });
    assert_eq!(stage.k.pages_mapped, 4);
    let start = stage.read();
    stage.counters.forget_with(&mut stage.k, &stage.budget);
    assert!(!stage.k.log.contains(&"munmap"));
    assert!(stage.k.events.is_empty());
    stage.k.pages_mapped = 0;
    stage.prepare(&wanted(FOUR_HARDWARE));
    let end = stage.read();
    let mut counts = Counts::new();
    delta(&start, &end, &mut counts);
    assert_eq!(counts.known, 0);
    stage.end();
}

#[test]
fn what_a_hostile_control_page_asks_for_is_not_opened() {
    let mut stage = Stage::new();
    let mut hostile = wanted(u64::MAX);
    // Tracepoint, breakpoint, a PMU of its own, no mode at all.
    for (slot, kind) in hostile.custom.iter_mut().zip([2, 5, 8, u32::MAX]) {
        *slot = CustomEvent { kind, modifiers: u32::MAX, config: u64::MAX };
    }
    hostile.custom[4] = CustomEvent { kind: 4, modifiers: 3, config: 1 };
    stage.prepare(&hostile);
    assert_eq!(stage.reason(super::CLIENT_WAIT_NS), None);
    for id in [21, 31, 47, 48, 49, 50, 51, 56, 63] {
        assert_eq!(stage.reason(id), Some(Unavailable::Unknown), "{id}");
    }
    assert_eq!(stage.reason(52), Some(Unavailable::NotSupported));
    assert!(stage.k.events.values().all(|event| matches!(event.request.kind, 0 | 1 | 3 | 4)));
    stage.end();
}

/// A page that offers register 1: 100 in the kernel's account, 24 bits wide.
fn offering_page() -> perf_event_mmap_page {
    let mut page = perf_event_mmap_page { index: 1, offset: 100, pmc_width: 24, ..Default::default() };
    (page.time_enabled, page.time_running) = (5000, 5000);
    page.__bindgen_anon_1.capabilities = 1 << 2;
    page
}

/// A thread that counts cycles, and reads them in user space where `page` lets it.
fn with_page(page: Option<perf_event_mmap_page>, register: u64) -> Stage {
    let mut stage = Stage::new();
    stage.k.page = page;
    stage.k.register = register;
    stage.prepare(&Wanted { user_space_reads: 1, ..wanted(1 << CYCLES) });
    stage
}

#[test]
fn a_user_space_read_takes_no_system_call_and_adds_the_register_to_the_offset() {
    let mut stage = with_page(Some(offering_page()), 23);
    assert_eq!(stage.counters.user_space_reads(), UserSpaceReads::Used);
    let before = stage.k.log.len();
    assert_eq!(stage.read().perf()[0].value, 123);
    assert_eq!(stage.k.log.len(), before);
    // Bit 23 is the sign of a 24-bit register; bits above do not count.
    stage.k.register = 0xffff_fff0;
    assert_eq!(stage.read().perf()[0].value, 84);
    let (start, end) = (stage.read(), {
        stage.k.register = 0xffff_fff8;
        stage.read()
    });
    let mut counts = Counts::new();
    delta(&start, &end, &mut counts);
    assert_eq!((counts.get(CYCLES), counts.scaled), (Some(8), 0));
    stage.end();
}

#[test]
fn any_doubt_about_the_page_means_the_system_call() {
    let doubtful: [fn(&mut perf_event_mmap_page); 6] = [
        |page| page.index = 0,
        |page| page.pmc_width = 0,
        |page| page.pmc_width = 65,
        |page| page.time_running = 4000,
        |page| page.lock = 1,
        |page| page.offset = -24,
    ];
    for change in doubtful {
        let mut page = offering_page();
        change(&mut page);
        let mut stage = with_page(Some(page), 23);
        assert_eq!(stage.counters.user_space_reads(), UserSpaceReads::Used);
        let before = stage.k.log.len();
        assert_eq!(stage.read().perf().len(), 1);
        assert_eq!(stage.k.log[before..], ["id", "read"]);
        stage.end();
    }
}

#[test]
fn pages_that_cannot_be_had_leave_the_system_call_and_the_reason() {
    let not_offered = perf_event_mmap_page::default();
    for (page, reason) in
        [(None, UserSpaceReads::LockedMemory), (Some(not_offered), UserSpaceReads::NotOffered)]
    {
        let mut stage = with_page(page, 0);
        assert_eq!((stage.counters.user_space_reads(), stage.k.pages_mapped), (reason, 0));
        assert_eq!(stage.query().known, 1 << CYCLES);
        stage.end();
    }
    let mut stage = Stage::new();
    stage.k.user_reads = Some(UserSpaceReads::Valgrind);
    stage.prepare(&Wanted { user_space_reads: 1, ..wanted(1 << CYCLES) });
    assert_eq!(stage.counters.user_space_reads(), UserSpaceReads::Valgrind);
    assert!(!stage.k.log.contains(&"mmap"));
    stage.end();
}

#[test]
fn software_events_are_never_mapped() {
    let mut stage = Stage::new();
    stage.prepare(&Wanted { user_space_reads: 1, ..wanted(1 << PAGE_FAULTS) });
    assert_eq!(stage.counters.user_space_reads(), UserSpaceReads::NotOffered);
    assert!(!stage.k.log.contains(&"mmap"));
    stage.end();
}

/// Everything once: open, count, open another set, count, give back.
fn life(stage: &mut Stage, groups_never_run: bool) -> (Counts, Counts) {
    stage.k.groups_never_run = groups_never_run;
    stage.k.page = Some(offering_page());
    let mut all = Wanted { user_space_reads: 1, ..wanted(ALL | 1 << CUSTOM) };
    all.custom[0] = CustomEvent { kind: 3, modifiers: 0, config: 0x10000 };
    stage.prepare(&all);
    let first = stage.query();
    stage.counters.prepare_with(&mut stage.k, &stage.budget, &wanted(ALL), 2);
    let second = stage.query();
    (first, second)
}

#[test]
fn a_failure_at_any_call_leaks_nothing_breaks_nothing_and_is_never_a_wrong_number() {
    for groups_never_run in [false, true] {
        let mut stage = Stage::new();
        let (whole_first, whole_second) = life(&mut stage, groups_never_run);
        assert_eq!((whole_first.known, whole_second.known), (ALL | 1 << CUSTOM, ALL));
        let calls = stage.k.log.len();
        stage.end();
        let errnos =
            [libc::EACCES, libc::EPERM, libc::EMFILE, libc::EINVAL, libc::ENOMEM, libc::ENOENT, libc::EINTR];
        for (call, errno) in (0..calls + 60).flat_map(|call| errnos.map(|errno| (call, errno))) {
            let mut stage = Stage::new();
            stage.k.fail = Some((call, errno));
            let (first, second) = life(&mut stage, groups_never_run);
            // One failure costs at most the group that it hit, and never the counters without perf but its own.
            let lost = (ALL & !first.known).count_ones() + (ALL & !second.known).count_ones();
            assert!(lost <= 8, "{:?} {errno}: {lost} lost", stage.k.log.get(call));
            for (id, reason) in stage.counters.unavailable().iter().enumerate() {
                assert_eq!(*reason != 0, Unavailable::from_code(*reason).is_some(), "{id}");
            }
            // A failed check of identity means: not ours, so not closed. That descriptor is the price.
            let failed_id = stage.k.log.get(call) == Some(&"id");
            stage.counters.release_with(&mut stage.k, &stage.budget);
            assert!(stage.k.events.len() <= usize::from(failed_id || stage.k.log.get(call) == Some(&"id")));
            assert_eq!((stage.budget.held(), stage.k.pages_mapped), (0, 0));
            assert!(stage.k.sins.is_empty(), "{:?}", stage.k.sins);
        }
    }
}

#[test]
fn a_clock_that_fails_is_unknown_with_its_reason() {
    let mut stage = Stage::new();
    stage.prepare(&wanted(CHEAP_MASK));
    stage.k.fail = Some((0, libc::EPERM));
    let counts = stage.query();
    assert_eq!(counts.known, CHEAP_MASK & !(1 << CPU_NS));
    assert_eq!(stage.reason(CPU_NS), Some(Unavailable::NotPermitted));
    assert_eq!(format!("{:?}", stage.reason(PAGE_FAULTS_MINOR)), "None");
    stage.end();
}
