//! Was this thread switched between two points? Answered without a system call, through rseq(2).
//!
//! The kernel clears the `rseq_cs` field of a thread's restartable-sequences area whenever it returns to the thread after
//! a preemption, a migration or a signal, and the thread was not inside the section that the field describes. glibc (2.35
//! and later) registers the area. So a thread that points the field at a section which nobody ever executes, and finds
//! it still there later, was not switched in between: its CPU time was wall time, with 0 switches and 0 migrations.
//!
//! The field stays set from one span to the next: the kernel looks at it only when it switches the thread, and a span
//! that still holds needs no new beginning.
//!
//! A value that is not ours belongs to somebody who uses rseq for real: then nothing is written, and the answer is "not
//! known".
//!
//! # Safety
//!
//! `unsafe` is used to read and write the calling thread's own field, whose address glibc tells.
#![allow(unsafe_code)]

use core::marker::PhantomData;
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

impl Section {
    /// The section that nobody executes. The kernel checks that the abort address is outside of it and that the
    /// registered signature stands before that address.
    const NOWHERE: Section = Section {
        version: 0,
        flags: 0,
        start: &raw const arch::perquery_nowhere_start,
        length: 1,
        abort: &raw const arch::perquery_nowhere_abort,
    };

    fn address(&self) -> u64 {
        core::ptr::from_ref(self).addr() as u64
    }
}

/// One for each of two who watch, so that neither takes the other's beginning for its own.
static SECTIONS: [Section; 2] = [Section::NOWHERE, Section::NOWHERE];

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

/// A span of a thread's time, of which is known at any later moment whether the thread was switched in it, until another
/// span begins. It stays with its thread.
#[derive(Clone, Copy)]
pub struct Span {
    /// What the field holds as long as the span does; 0: nobody watches.
    ours: u64,
    /// The thread's field, once it was looked for. (To look for it again is another cache line, in another page.)
    field: Option<&'static AtomicU64>,
    only_here: PhantomData<*const ()>,
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

impl Span {
    /// Of which nothing is known.
    pub const NONE: Span = Span { ours: 0, field: None, only_here: PhantomData };

    /// Begins now, for one piece of work.
    #[inline]
    pub fn begin() -> Span {
        let [short, _] = &SECTIONS;
        Self::begin_as(short)
    }

    /// Begins anew, for a time that goes on from one piece of work to the next.
    #[inline]
    pub fn begin_long(&mut self) {
        let [_, long] = &SECTIONS;
        *self = match self.field {
            Some(field) => Self::begin_at(field, long),
            None => Self::begin_as(long),
        };
    }

    #[inline]
    fn begin_as(section: &'static Section) -> Span {
        field().map_or(Span::NONE, |field| Self::begin_at(field, section))
    }

    #[inline]
    fn begin_at(field: &'static AtomicU64, section: &'static Section) -> Span {
        let found = field.load(Ordering::Relaxed);
        if found != 0 && !SECTIONS.iter().any(|ours| found == ours.address()) {
            return Span { field: Some(field), ..Span::NONE };
        }
        field.store(section.address(), Ordering::Relaxed);
        core::sync::atomic::compiler_fence(Ordering::SeqCst);
        Span { ours: section.address(), field: Some(field), only_here: PhantomData }
    }

    /// Nothing is known any more.
    #[inline]
    pub fn forget(&mut self) {
        self.ours = 0;
    }

    /// Nobody watches any more, after it was just seen to hold: the next switch costs no more than without.
    #[inline]
    pub fn end(&mut self) {
        if let Some(field) = self.field.filter(|_| self.is_armed()) {
            // A switch since then has done the same.
            field.store(0, Ordering::Relaxed);
        }
        self.forget();
    }

    /// True when somebody watches: glibc has an area, and nobody else uses it now.
    #[inline]
    pub fn is_armed(self) -> bool {
        self.ours != 0
    }

    /// True when the thread was certainly not switched since the beginning. False: it was, or nobody knows. The span
    /// goes on.
    #[inline]
    pub fn holds(self) -> bool {
        core::sync::atomic::compiler_fence(Ordering::SeqCst);
        self.ours != 0 && self.field.is_some_and(|field| field.load(Ordering::Relaxed) == self.ours)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::sys::time::thread_cpu_ns;
    use std::{eprintln, println, thread, time::Duration};

    pub(in super::super) fn look_up() -> bool {
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
        assert!(!span.holds(), "a sleep is a switch");
        let mut long = Span::NONE;
        long.begin_long();
        thread::yield_now();
        assert!(Span::begin().is_armed() && !long.holds(), "another span has begun");
        let (mut unswitched, mut worst_ns) = (0, 0);
        for _ in 0..20_000 {
            let cpu_before = thread_cpu_ns().unwrap();
            let span = Span::begin();
            let wall = crate::clock::monotonic_ns();
            core::hint::black_box((0..500u64).sum::<u64>());
            let wall = crate::clock::monotonic_ns() - wall;
            let quiet = span.holds();
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
