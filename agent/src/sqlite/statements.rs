//! Statements by address: a cache that never fills up.
//!
//! SQLite frees statements that it made itself (`sqlite3_exec`) without a call that we see, and gives their addresses
//! out again; so an entry is dropped when a prepare answers with its address, and an idle one makes room when a new
//! statement needs its place.
//!
//! # Safety
//!
//! `unsafe` is used to make entries of zeroed memory (integers only) and to hand out an entry while its `busy` word is
//! held.
#![allow(unsafe_code)]

use crate::counters::Counts;
use crate::sys::memory;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};

const ENTRIES: usize = 8192;
const PROBES: usize = 16;

/// A statement. All zero is a valid value.
#[repr(C)]
pub struct Statement {
    /// An execution has begun and is not over.
    pub active: bool,
    /// The capture generation of that execution.
    pub generation: u64,
    /// Its connection.
    pub connection: usize,
    /// Name of its text; 0: not computed yet.
    pub text_hash: u64,
    /// The capture generation in which the text was stored.
    pub text_generation: u64,
    /// Length of its text.
    pub text_len: u32,
    /// Steps of this execution.
    pub steps: u32,
    /// Rows of this execution.
    pub rows: u64,
    /// CLOCK_MONOTONIC at the first step.
    pub start_ns: u64,
    /// CLOCK_MONOTONIC at the present step.
    pub step_start_ns: u64,
    /// Time inside steps.
    pub inside_ns: u64,
    /// Time inside steps up to the first row; 0: no row yet.
    pub first_row_ns: u64,
    /// The execution's weight; 0: its dear counters are not read.
    pub weight: f64,
    /// What the readings of all its steps have cost, ns.
    pub paid_ns: u64,
    /// Counters that were exact in each step so far, mask.
    pub exact: u64,
    /// Counters inside steps.
    pub counts: Counts,
}

#[repr(C)]
struct Entry {
    key: AtomicUsize,
    busy: AtomicU32,
    statement: UnsafeCell<Statement>,
}

/// The cache, mapped at its first use.
pub struct Statements {
    entries: AtomicPtr<Entry>,
}

// SAFETY: a statement is reached only while its `busy` word is held.
unsafe impl Sync for Statements {}

/// A statement while this thread holds it.
pub struct Held<'a> {
    entry: &'a Entry,
}

impl core::ops::Deref for Held<'_> {
    type Target = Statement;
    fn deref(&self) -> &Statement {
        // SAFETY: `busy` is ours.
        unsafe { &*self.entry.statement.get() }
    }
}

impl core::ops::DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut Statement {
        // SAFETY: `busy` is ours.
        unsafe { &mut *self.entry.statement.get() }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.entry.busy.store(0, Ordering::Release);
    }
}

impl Entry {
    fn hold(&self) -> Option<Held<'_>> {
        (self.busy.swap(1, Ordering::Acquire) == 0).then_some(Held { entry: self })
    }
}

impl Statements {
    /// Empty.
    pub const fn new() -> Self {
        Statements { entries: AtomicPtr::new(core::ptr::null_mut()) }
    }

    fn entry(&self, n: usize) -> Option<&Entry> {
        let entries = self.entries.load(Ordering::Acquire);
        if entries.is_null() {
            return None;
        }
        // SAFETY: the table has ENTRIES entries of zeroed memory, mapped for good; all zero is a valid entry.
        Some(unsafe { &*entries.add(n % ENTRIES) })
    }

    fn places(&self, stmt: usize) -> impl Iterator<Item = &Entry> {
        let first = (stmt >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        (0..PROBES).filter_map(move |n| self.entry(first + n))
    }

    /// Statement `stmt`, if it is known and no other thread holds it.
    pub fn find(&self, stmt: usize) -> Option<Held<'_>> {
        self.places(stmt).find(|e| e.key.load(Ordering::Acquire) == stmt)?.hold()
    }

    /// Statement `stmt`, known from now on. `None`: its places are all taken by running statements.
    pub fn find_or_insert(&self, stmt: usize) -> Option<Held<'_>> {
        if let Some(found) = self.places(stmt).find(|e| e.key.load(Ordering::Acquire) == stmt) {
            return found.hold();
        }
        self.make()?;
        for pass in 0..2 {
            for entry in self.places(stmt) {
                let key = entry.key.load(Ordering::Relaxed);
                if pass == 0 && key != 0 {
                    continue;
                }
                let Some(mut held) = entry.hold() else { continue };
                if held.active || entry.key.load(Ordering::Relaxed) != key {
                    continue;
                }
                held.text_hash = 0;
                entry.key.store(stmt, Ordering::Release);
                return Some(held);
            }
        }
        None
    }

    /// Forgets statement `stmt`.
    pub fn remove(&self, stmt: usize) {
        for entry in self.places(stmt) {
            if entry.key.load(Ordering::Relaxed) == stmt
                && let Some(mut held) = entry.hold()
            {
                held.active = false;
                held.text_hash = 0;
                entry.key.store(0, Ordering::Release);
            }
        }
    }

    fn make(&self) -> Option<()> {
        if self.entries.load(Ordering::Acquire).is_null() {
            let fresh = memory::map_private(ENTRIES * size_of::<Entry>()).ok()?.cast::<Entry>();
            // The loser of a race leaves its table unused and untouched.
            let _ = self.entries.compare_exchange(
                core::ptr::null_mut(),
                fresh,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_statements_make_room_and_running_ones_do_not() {
        static STATEMENTS: Statements = Statements::new();
        assert!(STATEMENTS.find(0x1000).is_none());
        STATEMENTS.find_or_insert(0x1000).unwrap().active = true;
        for n in 1..100_000usize {
            let stmt = 0x1000 + n * 16;
            let mut held = STATEMENTS.find_or_insert(stmt).unwrap();
            assert_eq!(held.text_hash, 0, "a new statement has no text yet");
            held.text_hash = n as u64;
        }
        assert!(STATEMENTS.find(0x1000).unwrap().active);
        STATEMENTS.remove(0x1000);
        assert!(STATEMENTS.find(0x1000).is_none());
    }
}
