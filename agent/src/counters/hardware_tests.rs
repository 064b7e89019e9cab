//! The counters against the kernel that the tests run on: software events for real, hardware events where there are any.
//!
//! # Safety
//!
//! `unsafe` is used for system calls of the tests: memory, pipes and forks of their own.
#![allow(unsafe_code)]

use super::{
    Availability, CHEAP_MASK, Counts, Reading, ThreadCounters, Unavailable, Wanted, delta, probe_seccomp,
};
use super::{CustomEvent, Source, TABLE, survey};
use std::hint::black_box;
use std::vec::Vec;
use std::{eprintln, vec};

const CYCLES: u8 = 5;
const INSTRUCTIONS: u8 = 6;
const TASK_CLOCK: u8 = 14;
const PAGE_FAULTS: u8 = 15;
const MINOR_FAULTS: u8 = 16;

/// Counts `mask` over `work` on this thread; `None`, with a visible line, where it can't be counted here.
fn counted(wanted: &Wanted, work: impl FnOnce()) -> Option<(Counts, ThreadCounters)> {
    let _ = probe_seccomp();
    let mut counters = ThreadCounters::new();
    counters.prepare(wanted, 1);
    let missing = wanted.mask & !counters.available_mask();
    if missing != 0 {
        let id = missing.trailing_zeros() as usize;
        let why = Unavailable::from_code(counters.unavailable()[id]).map_or("", Unavailable::why);
        let name = TABLE.get(id).map_or("a raw event", |row| row.name);
        eprintln!("skipped: {name} can't be counted here: {why}");
        counters.release();
        return None;
    }
    let (mut start, mut end, mut counts) = (Reading::new(), Reading::new(), Counts::new());
    counters.read(&mut start);
    work();
    counters.read(&mut end);
    delta(&start, &end, &mut counts);
    Some((counts, counters))
}

fn touch_fresh_memory(pages: usize) {
    let bytes = pages * 4096;
    // SAFETY: a private mapping of our own, written within its length, unmapped at the end.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let memory =
            libc::mmap(core::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        assert_ne!(memory, libc::MAP_FAILED);
        // Small pages, so that each touch is a fault.
        libc::madvise(memory, bytes, libc::MADV_NOHUGEPAGE);
        for page in 0..pages {
            memory.cast::<u8>().add(page * 4096).write_volatile(1);
        }
        libc::munmap(memory, bytes);
    }
}

fn spin(rounds: u64) {
    let mut x = 1u64;
    for _ in 0..rounds {
        x = black_box(x.wrapping_mul(3));
    }
}

#[test]
fn the_faults_of_fresh_memory_are_counted_alike_by_getrusage_and_perf() {
    let wanted = Wanted { mask: CHEAP_MASK | 1 << PAGE_FAULTS | 1 << MINOR_FAULTS, ..Wanted::default() };
    let Some((counts, mut counters)) = counted(&wanted, || touch_fresh_memory(2000)) else { return };
    let rusage = counts.get(super::PAGE_FAULTS_MINOR).unwrap();
    assert!((2000..2040).contains(&rusage), "{rusage}");
    for id in [PAGE_FAULTS, MINOR_FAULTS] {
        let perf = counts.get(id).unwrap();
        assert!(perf.abs_diff(rusage) <= 20, "perf {perf}, getrusage {rusage}");
    }
    assert_eq!(counts.scaled, 0);
    counters.release();
}

#[test]
fn perfs_task_clock_agrees_with_the_threads_cpu_clock() {
    let wanted = Wanted { mask: CHEAP_MASK | 1 << TASK_CLOCK, ..Wanted::default() };
    // Time that a hypervisor takes from the CPU is in perf's clock and not in the thread's: it does not do so every time.
    let mut apart = std::vec::Vec::new();
    for _ in 0..20 {
        let Some((counts, mut counters)) = counted(&wanted, || spin(4_000_000)) else { return };
        let (cpu, task) = (counts.get(super::CPU_NS).unwrap(), counts.get(TASK_CLOCK).unwrap());
        counters.release();
        if cpu > 1_000_000 && cpu.abs_diff(task) < cpu / 20 + 200_000 {
            return;
        }
        apart.push((cpu, task));
    }
    panic!("clock and perf: {apart:?}");
}

#[test]
fn instructions_and_cycles_grow_with_the_work() {
    let wanted = Wanted { mask: 1 << CYCLES | 1 << INSTRUCTIONS, ..Wanted::default() };
    let Some((less, mut counters)) = counted(&wanted, || spin(1_000_000)) else { return };
    counters.release();
    let Some((more, mut counters)) = counted(&wanted, || spin(10_000_000)) else { return };
    counters.release();
    let ratio = more.get(INSTRUCTIONS).unwrap() as f64 / less.get(INSTRUCTIONS).unwrap() as f64;
    assert!((8.0..12.0).contains(&ratio), "{ratio}");
    assert!(more.get(CYCLES) > less.get(CYCLES));
}

#[test]
fn instructions_read_in_user_space_are_those_read_by_the_kernel() {
    let mask = 1 << INSTRUCTIONS;
    let user_only = mask;
    let Some((by_call, mut one)) =
        counted(&Wanted { mask, user_only, ..Wanted::default() }, || spin(10_000_000))
    else {
        return;
    };
    one.release();
    let wanted = Wanted { mask, user_only, user_space_reads: 1, ..Wanted::default() };
    let Some((by_page, mut two)) = counted(&wanted, || spin(10_000_000)) else { return };
    if two.user_space_reads() != super::UserSpaceReads::Used {
        eprintln!("skipped: user-space reads: {}", two.user_space_reads().why());
    }
    two.release();
    let (by_call, by_page) = (by_call.get(INSTRUCTIONS).unwrap(), by_page.get(INSTRUCTIONS).unwrap());
    assert!(by_call.abs_diff(by_page) < by_call / 100, "{by_call} {by_page}");
}

/// The processor's own number for instructions retired.
const INSTRUCTIONS_RAW: u64 = if cfg!(target_arch = "aarch64") { 0x08 } else { 0xc0 };

#[test]
fn more_events_than_the_processor_has_counters_are_all_counted_and_agree_after_scaling() {
    let mut wanted = Wanted { mask: 1 << CYCLES | 1 << INSTRUCTIONS | 0xff << 48, ..Wanted::default() };
    wanted.user_only = 1 << CYCLES | 1 << INSTRUCTIONS;
    wanted.custom = [CustomEvent { kind: 4, modifiers: 2, config: INSTRUCTIONS_RAW }; 8];
    let Some((counts, mut counters)) = counted(&wanted, || spin(300_000_000)) else { return };
    assert_eq!(counts.known, wanted.mask);
    let expected = counts.get(INSTRUCTIONS).unwrap();
    for id in 48..56 {
        let scaled = counts.get(id).unwrap();
        assert!(scaled.abs_diff(expected) < expected / 5, "{id}: {scaled}, {expected}");
    }
    if counts.scaled == 0 {
        eprintln!(
            "skipped: this processor has counters enough for ten events at once, so nothing was multiplexed"
        );
    }
    counters.release();
}

#[test]
fn a_read_in_user_space_asks_the_kernel_nothing() {
    let wanted = Wanted {
        mask: 1 << INSTRUCTIONS,
        user_only: 1 << INSTRUCTIONS,
        user_space_reads: 1,
        ..Wanted::default()
    };
    let Some((_, mut counters)) = counted(&wanted, || ()) else { return };
    if counters.user_space_reads() != super::UserSpaceReads::Used {
        eprintln!("skipped: user-space reads: {}", counters.user_space_reads().why());
        counters.release();
        return;
    }
    let (mut start, mut end) = (Reading::new(), Reading::new());
    // The page's times stand still as long as the thread is not switched; the kernel's own answer always moves on.
    let mut still = 0;
    for _ in 0..100 {
        counters.read(&mut start);
        spin(1000);
        counters.read(&mut end);
        assert!(end.perf()[0].value > start.perf()[0].value);
        still += u32::from(start.perf()[0].enabled_ns == end.perf()[0].enabled_ns);
    }
    assert!(still > 50, "{still}");
    counters.release();
}

#[test]
fn descriptors_are_high_close_on_exec_and_gone_after_release() {
    let _ = probe_seccomp();
    let mut counters = ThreadCounters::new();
    counters.prepare(&Wanted { mask: 1 << PAGE_FAULTS | 1 << MINOR_FAULTS, ..Wanted::default() }, 1);
    let fds: Vec<(i32, u64)> = counters.open_events().iter().map(|event| (event.fd, event.id)).collect();
    if fds.is_empty() {
        eprintln!("skipped: no perf events here");
        return;
    }
    for (fd, _) in &fds {
        // SAFETY: asks for flags only.
        assert_eq!(unsafe { libc::fcntl(*fd, libc::F_GETFD) } & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
        assert!(*fd >= crate::sys::process::high_descriptor_floor(), "{fd}");
    }
    counters.release();
    for (fd, id) in fds {
        assert_ne!(crate::sys::perf::event_id(fd), Ok(id));
    }
}

#[test]
fn a_descriptor_that_the_host_replaced_by_a_pipe_keeps_its_bytes() {
    let _ = probe_seccomp();
    let mut counters = ThreadCounters::new();
    counters.prepare(&Wanted { mask: 1 << PAGE_FAULTS, ..Wanted::default() }, 1);
    let Some(fd) = counters.open_events().first().map(|event| event.fd) else {
        eprintln!("skipped: no perf events here");
        return;
    };
    let mut pipe = [0; 2];
    let mut byte = 0u8;
    let mut reading = Reading::new();
    // SAFETY: descriptors of our own; buffers of one byte.
    unsafe {
        assert_eq!(libc::pipe(pipe.as_mut_ptr()), 0);
        assert_eq!(libc::dup2(pipe[0], fd), fd);
        assert_eq!(libc::write(pipe[1], (&raw const byte).cast(), 1), 1);
    }
    counters.read(&mut reading);
    assert!(!reading.perf()[0].known);
    assert_eq!(counters.unavailable()[PAGE_FAULTS as usize], Unavailable::Stolen as u8);
    counters.release();
    // SAFETY: as above; the number is still the pipe, and the byte still in it.
    unsafe {
        assert_eq!(libc::read(fd, (&raw mut byte).cast(), 1), 1);
        for fd in [fd, pipe[0], pipe[1]] {
            libc::close(fd);
        }
    }
}

#[test]
fn a_forked_child_counts_itself_after_forgetting_and_the_parent_keeps_its_counters() {
    let _ = probe_seccomp();
    let mut counters = ThreadCounters::new();
    let wanted = Wanted { mask: 1 << MINOR_FAULTS, ..Wanted::default() };
    counters.prepare(&wanted, 1);
    if counters.available_mask() == 0 {
        eprintln!("skipped: no perf events here");
        return;
    }
    let (mut start, mut end, mut counts) = (Reading::new(), Reading::new(), Counts::new());
    // SAFETY: the child makes system calls only, then exits without running destructors.
    let status = unsafe {
        let pid = libc::fork();
        if pid == 0 {
            counters.forget();
            counters.prepare(&wanted, 1);
            counters.read(&mut start);
            touch_fresh_memory(500);
            counters.read(&mut end);
            delta(&start, &end, &mut counts);
            let faults = counts.get(MINOR_FAULTS).unwrap_or(0);
            libc::_exit(i32::from((500..600).contains(&faults)));
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(pid, &mut status, 0), pid);
        status
    };
    assert_eq!((libc::WIFEXITED(status), libc::WEXITSTATUS(status)), (true, 1));
    counters.read(&mut start);
    assert!(start.perf()[0].known);
    counters.release();
}

#[test]
fn a_thousand_generations_leak_no_descriptor() {
    let _ = probe_seccomp();
    let mut counters = ThreadCounters::new();
    for generation in 1..1000 {
        counters.prepare(&Wanted { mask: 0b11 << PAGE_FAULTS, ..Wanted::default() }, generation);
        assert!(counters.descriptors() <= 2);
    }
    let numbers = vec![0; counters.descriptors()];
    counters.release();
    assert!(numbers.len() <= 2 && counters.descriptors() == 0);
}

#[test]
fn the_survey_agrees_with_what_can_be_counted() {
    for (row, found) in TABLE.iter().zip(survey()) {
        assert_eq!(row.name, found.name);
        if row.source == Source::Session {
            // Not read here at all.
            continue;
        }
        let Some((counts, mut counters)) = counted(&Wanted { mask: 1 << row.id, ..Wanted::default() }, || ())
        else {
            assert!(matches!(found.availability, Availability::Unavailable(_)), "{}", row.name);
            continue;
        };
        assert!(counts.get(row.id).is_some(), "{}", row.name);
        counters.release();
    }
}

#[test]
fn valgrind_is_noticed_and_nothing_else_is_taken_for_it() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    assert_eq!(super::rdpmc::on_valgrind(), maps.contains("vgpreload"));
}
