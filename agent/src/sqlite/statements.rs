//! Statements by address: a cache that never fills up, and that nobody locks.
//!
//! SQLite frees statements that it made itself (`sqlite3_exec`) without a call that we see, and gives their addresses
//! out again; so an entry is dropped when a prepare answers with its address, and an idle one makes room when a new
//! statement needs its place.
//!
//! A statement is stepped by one thread at a time, and an application that hands it to another thread makes that one
//! see what the first one wrote; so a statement's words are plain loads and stores. Where two threads step the same
//! statement at once, which SQLite allows in its serialized mode, the numbers of these executions may mix; nothing else
//! can happen. What is too long for a word is behind a `busy` mark.
//!
//! # Safety
//!
//! `unsafe` is used to make the table of zeroed memory (integers only) and to reach sums while their `busy` mark is
//! held, and to go back from an address to a connection, which lives in a static.
#![allow(unsafe_code)]

use super::connections::Connection;
use crate::counters::Counts;
use crate::sys::memory;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

const ENTRIES: usize = 8192;
const PROBES: usize = 16;

/// A word that is read and written, never both at once.
#[repr(transparent)]
pub struct Word(AtomicU64);

impl Word {
    /// 0.
    pub const fn new() -> Self {
        Word(AtomicU64::new(0))
    }

    /// Its value.
    #[inline(always)]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets it.
    #[inline(always)]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds to it; the sum.
    #[inline(always)]
    pub fn add(&self, more: u64) -> u64 {
        let sum = self.get().wrapping_add(more);
        self.set(sum);
        sum
    }
}

/// A statement. All zero is a valid value: not described, not running. What each step looks at comes first.
#[repr(C, align(64))]
pub struct Statement {
    /// Its address; 0: this is no statement.
    key: AtomicUsize,
    /// The capture generation of the execution that runs; 0: none does.
    pub running: Word,
    /// Its weight, f64 bits; 0: its dear counters are not read.
    pub weight: Word,
    /// Counters that were exact in each step so far, mask.
    pub exact: Word,
    /// Time inside steps.
    pub inside_ns: Word,
    /// Rows so far.
    pub rows: Word,
    /// Time inside steps up to the first row; 0: no row yet.
    pub first_row_ns: Word,
    /// CLOCK_MONOTONIC at the first step.
    pub start_ns: Word,
    /// What the readings of all its steps have cost, ns.
    pub paid_ns: Word,
    /// 1: the sums hold something.
    pub summed: Word,
    /// The capture generation in which the words below were found out.
    pub described: Word,
    /// Its connection's address.
    pub connection: Word,
    /// What is known of its connection; null: nothing yet.
    known_connection: AtomicPtr<Connection>,
    /// Name of its text.
    pub text_hash: Word,
    /// Length of its text.
    pub text_len: Word,
    /// 1: the library is to be asked for the number of rows that it changed.
    pub changes_rows: Word,
}

const _: () = assert!(size_of::<Statement>() == 128 && core::mem::offset_of!(Statement, paid_ns) == 64);

impl Statement {
    /// False: it had to make room while nobody ran it.
    #[inline(always)]
    pub fn is(&self, stmt: usize) -> bool {
        self.key.load(Ordering::Relaxed) == stmt
    }

    /// A row, `inside_ns` after the start.
    #[inline(always)]
    pub fn add_row(&self, inside_ns: u64) {
        self.rows.add(1);
        if self.first_row_ns.get() == 0 {
            self.first_row_ns.set(inside_ns);
        }
    }

    /// What is known of its connection.
    #[inline(always)]
    pub fn known_connection(&self) -> Option<&'static Connection> {
        // SAFETY: null, or what `know_connection` stored.
        unsafe { self.known_connection.load(Ordering::Relaxed).as_ref() }
    }

    /// Its connection, from now on.
    pub fn know_connection(&self, connection: Option<&'static Connection>) {
        let address = connection.map_or(core::ptr::null(), core::ptr::from_ref);
        self.known_connection.store(address.cast_mut(), Ordering::Relaxed);
    }

    fn leave(&self, stmt: usize) {
        self.running.set(0);
        self.described.set(0);
        let _ = self.key.compare_exchange(stmt, 0, Ordering::AcqRel, Ordering::Relaxed);
    }
}

/// Sums of the dear counters of the steps of an execution.
#[repr(C)]
struct Sums {
    busy: AtomicU32,
    counts: UnsafeCell<Counts>,
}

#[repr(C)]
struct Table {
    statements: [Statement; ENTRIES],
    /// The keys once more, together: a search that finds nothing reads two cache lines and not sixteen.
    keys: [AtomicUsize; ENTRIES],
    sums: [Sums; ENTRIES],
}

/// The cache, mapped at its first use.
pub struct Statements {
    table: AtomicPtr<Table>,
}

// SAFETY: sums are reached only while their `busy` mark is held; the rest consists of atomics.
unsafe impl Sync for Table {}

impl Statements {
    /// Empty.
    pub const fn new() -> Self {
        Statements { table: AtomicPtr::new(core::ptr::null_mut()) }
    }

    #[inline(always)]
    fn table(&self) -> Option<&Table> {
        // SAFETY: null, or zeroed memory of the table's size, mapped for good; all zero is a valid table.
        unsafe { self.table.load(Ordering::Acquire).as_ref() }
    }

    #[inline(always)]
    fn first_place(stmt: usize) -> usize {
        (stmt >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40
    }

    /// Statement `stmt`, if it is known.
    #[inline(always)]
    pub fn find(&self, stmt: usize) -> Option<&Statement> {
        let table = self.table()?;
        let first = table.statements.get(Self::first_place(stmt) % ENTRIES)?;
        if first.is(stmt) { Some(first) } else { Self::find_elsewhere(table, stmt) }
    }

    fn places(stmt: usize) -> impl Iterator<Item = usize> {
        let first = Self::first_place(stmt);
        (0..PROBES).map(move |n| (first + n) % ENTRIES)
    }

    #[inline(never)]
    fn find_elsewhere(table: &Table, stmt: usize) -> Option<&Statement> {
        let place = Self::places(stmt)
            .find(|place| table.keys.get(*place).is_some_and(|key| key.load(Ordering::Relaxed) == stmt))?;
        table.statements.get(place).filter(|s| s.is(stmt))
    }

    /// Statement `stmt`, known from now on, described by nobody. `None`: its places are all taken by statements that run
    /// in this `capture`.
    #[cold]
    pub fn insert(&self, stmt: usize, capture: u64) -> Option<&Statement> {
        self.make()?;
        let table = self.table()?;
        for pass in 0..2 {
            for place in Self::places(stmt) {
                let (Some(s), Some(key)) = (table.statements.get(place), table.keys.get(place)) else {
                    continue;
                };
                let found = s.key.load(Ordering::Relaxed);
                if pass == 0 && found != 0 || s.running.get() == capture {
                    continue;
                }
                if s.key.compare_exchange(found, stmt, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                    key.store(stmt, Ordering::Relaxed);
                    s.described.set(0);
                    s.running.set(0);
                    return Some(s);
                }
            }
        }
        None
    }

    /// Forgets statement `stmt`.
    #[inline]
    pub fn remove(&self, stmt: usize) {
        if let Some(s) = self.find(stmt) {
            s.leave(stmt);
        }
    }

    /// Runs `work` with the sums of a statement, unless another thread is at them.
    pub fn with_sums<R>(&self, s: &Statement, work: impl FnOnce(&mut Counts) -> R) -> Option<R> {
        let table = self.table()?;
        let offset = core::ptr::from_ref(s) as usize - table.statements.as_ptr() as usize;
        let sums = table.sums.get(offset / size_of::<Statement>())?;
        if sums.busy.swap(1, Ordering::Acquire) != 0 {
            return None;
        }
        // SAFETY: `busy` is ours until the store below.
        let result = work(unsafe { &mut *sums.counts.get() });
        sums.busy.store(0, Ordering::Release);
        Some(result)
    }

    fn make(&self) -> Option<()> {
        if self.table.load(Ordering::Acquire).is_null() {
            let fresh = memory::map_private(size_of::<Table>()).ok()?.cast::<Table>();
            // The loser of a race leaves its table unused and untouched.
            let _ = self.table.compare_exchange(
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
        STATEMENTS.insert(0x1000, 1).unwrap().running.set(1);
        for n in 1..100_000usize {
            let stmt = 0x1000 + n * 16;
            assert!(STATEMENTS.find(stmt).is_none());
            let known = STATEMENTS.insert(stmt, 1).unwrap();
            assert_eq!(known.described.get(), 0, "a new statement has no text yet");
            known.described.set(1);
            assert!(STATEMENTS.find(stmt).unwrap().is(stmt));
        }
        assert_eq!(STATEMENTS.find(0x1000).unwrap().running.get(), 1);
        STATEMENTS.remove(0x1000);
        assert!(STATEMENTS.find(0x1000).is_none());
    }

    #[test]
    fn a_statement_that_ran_in_an_earlier_capture_makes_room() {
        static STATEMENTS: Statements = Statements::new();
        for capture in 1..=2 {
            for n in 0..100_000usize {
                let known = STATEMENTS.insert(capture as usize * 0x100_0000 + n * 16, capture);
                assert!(known.is_some() || n > ENTRIES / 4, "statement {n} of capture {capture}");
                known.inspect(|known| known.running.set(capture));
            }
        }
    }

    #[test]
    fn sums_are_reached_by_one_at_a_time() {
        static STATEMENTS: Statements = Statements::new();
        let known = STATEMENTS.insert(0x1000, 1).unwrap();
        let inside = STATEMENTS.with_sums(known, |_| STATEMENTS.with_sums(known, |_| ()));
        assert_eq!(inside, Some(None));
        assert_eq!(STATEMENTS.with_sums(known, |counts| counts.known), Some(0));
    }
}
