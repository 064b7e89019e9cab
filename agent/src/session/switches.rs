//! Was this thread switched between two points? Answered without a system call, through rseq(2).
//!
//! The kernel clears the `rseq_cs` field of a thread's restartable-sequences area whenever it returns to the thread after
//! a preemption, a migration or a signal, and the thread was not inside the section that the field describes. glibc (2.35
//! and later) registers the area. So a thread that points the field at a section which nobody ever executes, and finds
//! it still there later, was not switched in between: its CPU time was wall time, with 0 switches and 0 migrations.
//!
//! A value that is not ours belongs to somebody who uses rseq for real: then nothing is written, and the answer is "not
//! known".
//!
//! # Safety
//!
//! `unsafe` is used to read and write the calling thread's own field, whose address glibc tells.
#![allow(unsafe_code)]

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

#[cfg_attr(target_arch = "x86_64", path = "switches_x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "switches_aarch64.rs")]
mod arch;

/// `struct rseq_cs` (linux/rseq.h): a section of code.
#[repr(C, align(32))]
pub(super) struct Section {
    version: u32,
    flags: u32,
    start: *const u8,
    length: usize,
    abort: *const u8,
}

// SAFETY: the pointers are to code and never changed.
unsafe impl Sync for Section {}

/// The section that nobody executes. The kernel checks that the abort address is outside of it and that the registered
/// signature stands before that address.
static NOWHERE: Section = Section {
    version: 0,
    flags: 0,
    start: &raw const arch::perquery_nowhere_start,
    length: 1,
    abort: &raw const arch::perquery_nowhere_abort,
};

/// `__rseq_offset` of glibc: where the area is, relative to the thread pointer; 0: there is none.
static OFFSET: AtomicUsize = AtomicUsize::new(0);

/// Offset of `rseq_cs` in `struct rseq`.
const FIELD: usize = 8;

/// Notes where glibc has the area: `__rseq_offset` and `__rseq_size`. From the constructor.
pub fn set_area(offset: isize, size: u32) {
    if size as usize >= FIELD + 8 && offset != 0 {
        OFFSET.store(offset as usize, Ordering::Relaxed);
    }
}

/// A span of a thread's time; whether the thread was switched in it is known at its end.
#[derive(Clone, Copy)]
pub struct Span {
    armed: bool,
}

fn field() -> Option<&'static AtomicU64> {
    let offset = OFFSET.load(Ordering::Relaxed);
    if offset == 0 {
        return None;
    }
    let address = arch::thread_pointer().wrapping_add(offset).wrapping_add(FIELD);
    // SAFETY: glibc keeps the area inside the thread's control block for the thread's whole life, 32-byte aligned.
    Some(unsafe { &*(address as *const AtomicU64) })
}

fn ours() -> u64 {
    (&raw const NOWHERE) as u64
}

impl Span {
    /// Of which nothing is known.
    pub const NONE: Span = Span { armed: false };

    /// Begins now.
    #[inline]
    pub fn begin() -> Span {
        let Some(field) = field() else { return Span { armed: false } };
        let found = field.load(Ordering::Relaxed);
        if found != 0 && found != ours() {
            return Span { armed: false };
        }
        field.store(ours(), Ordering::Relaxed);
        core::sync::atomic::compiler_fence(Ordering::SeqCst);
        Span { armed: true }
    }

    /// Ends now: true when the thread was certainly not switched since [`begin`](Self::begin). False: it was, or
    /// nobody knows.
    #[inline]
    pub fn end(self) -> bool {
        core::sync::atomic::compiler_fence(Ordering::SeqCst);
        if !self.armed {
            return false;
        }
        let Some(field) = field() else { return false };
        let unswitched = field.load(Ordering::Relaxed) == ours();
        if unswitched {
            field.store(0, Ordering::Relaxed);
        }
        unswitched
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::time::thread_cpu_ns;
    use std::{eprintln, println, thread, time::Duration};

    fn look_up() -> bool {
        // SAFETY: dlsym with constant strings; the symbols are a ptrdiff_t and an unsigned (glibc manual, rseq).
        unsafe {
            let offset = libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_offset".as_ptr()).cast::<isize>();
            let size = libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_size".as_ptr()).cast::<u32>();
            if offset.is_null() || size.is_null() || *size == 0 {
                return false;
            }
            set_area(*offset, *size);
        }
        true
    }

    #[test]
    fn a_thread_that_slept_was_switched_and_one_that_was_not_has_the_kernels_word_for_it() {
        if !look_up() {
            eprintln!("skipped: no rseq area here (glibc before 2.35, or valgrind)");
            return;
        }
        let span = Span::begin();
        thread::sleep(Duration::from_millis(2));
        assert!(!span.end(), "a sleep is a switch");
        let (mut unswitched, mut worst_ns) = (0, 0);
        for _ in 0..20_000 {
            let cpu_before = thread_cpu_ns().unwrap();
            let span = Span::begin();
            let wall = crate::clock::monotonic_ns();
            core::hint::black_box((0..500u64).sum::<u64>());
            let wall = crate::clock::monotonic_ns() - wall;
            let quiet = span.end();
            // More than the span's own: whoever took the CPU inside the span makes its wall time longer than this.
            let cpu = thread_cpu_ns().unwrap() - cpu_before;
            if quiet {
                unswitched += 1;
                worst_ns = worst_ns.max(wall.saturating_sub(cpu));
            }
        }
        println!("{unswitched} of 20000 spans were known to be unswitched");
        assert!(unswitched > 10_000, "only {unswitched} of 20000");
        assert!(worst_ns < 100_000, "wall time exceeded CPU time by {worst_ns} ns without a switch");
    }
}
