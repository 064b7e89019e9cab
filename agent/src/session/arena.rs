//! The sessions of a process: cells in chunks that are mapped when needed and never given back.
//!
//! # Safety
//!
//! `unsafe` is used to make cells of zeroed memory, for which all bytes zero is a valid cell (integers, `MaybeUninit`,
//! byte strings, and an `Option` of a reference, whose `None` is zero), and to hand out the session inside a cell while its
//! `busy` word is held.
#![allow(unsafe_code)]

use super::quiet::{ANSWERED, ASIDE, ASKED, LOUD, TLS};
use super::quiet_postgres::{ANSWERING, POSTGRES};
use super::state::Session;
use super::written::Written;
use crate::sys::memory;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// A place for a session. What every query touches of it is in its first three cache lines.
#[repr(C, align(64))]
pub struct Cell {
    /// 1 while a thread is inside.
    busy: AtomicU32,
    /// Counts up with every session in this cell.
    generation: AtomicU32,
    /// Bits of what happened while another thread was inside.
    missed: AtomicU32,
    /// Its number + 1.
    entry: AtomicU32,
    /// The session's state while it stands aside; see `quiet.rs`.
    pub(super) quiet: AtomicU64,
    /// What was written to its socket.
    pub(super) written: Written,
    session: UnsafeCell<Session>,
    /// Next free cell + 1.
    next_free: AtomicU32,
}

// SAFETY: the session is reached through `enter` only, by one thread at a time.
unsafe impl Sync for Cell {}

/// What a write to a session's socket is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Writing {
    /// Nobody's business.
    Passes,
    /// That of a PostgreSQL session which stands aside.
    Aside,
    /// That of a MySQL session in which a query goes the direct way, answered or not, and is not measured.
    Asked,
    /// That of all others.
    Watched,
}

/// Bytes went by unseen.
pub const MISSED_BYTES: u32 = 1;
/// The descriptor was closed.
pub const MISSED_CLOSE: u32 = 2;
/// The socket was shut down.
pub const MISSED_SHUT: u32 = 4;

impl Cell {
    /// Enters the cell; `None`: another thread, or the code that this signal handler interrupted, is inside.
    #[inline]
    pub fn enter(&'static self) -> Option<Inside> {
        // Acquire: sees what the previous thread left.
        if self.busy.swap(1, Ordering::Acquire) != 0 {
            // Nothing may be made here that leaves when it is dropped.
            return None;
        }
        Some(Inside { cell: self })
    }

    /// The same of the only thread of a process, while it is [inside the agent](super::Thread::enter): nobody can come in
    /// between, so it takes no locked instruction, which would wait for all that the server has stored before.
    #[inline]
    pub(super) fn enter_alone(&'static self) -> Option<Inside> {
        if self.busy.load(Ordering::Relaxed) != 0 {
            return None;
        }
        self.busy.store(1, Ordering::Relaxed);
        Some(Inside { cell: self })
    }

    /// Leaves a note for the thread that is inside, or the next one.
    pub fn note_missed(&self, what: u32) {
        self.missed.fetch_or(what, Ordering::Relaxed);
    }

    /// True when there are notes.
    #[inline(always)]
    pub fn has_missed(&self) -> bool {
        self.missed.load(Ordering::Relaxed) != 0
    }

    /// Takes the note that its socket was shut down; true: there was one.
    #[inline]
    pub fn takes_shut(&self) -> bool {
        self.has_missed() && self.missed.fetch_and(!MISSED_SHUT, Ordering::Relaxed) & MISSED_SHUT != 0
    }

    /// Takes the notes.
    #[inline]
    pub fn take_missed(&self) -> u32 {
        if self.missed.load(Ordering::Relaxed) == 0 { 0 } else { self.missed.swap(0, Ordering::Relaxed) }
    }

    /// True when the session stands aside.
    #[inline(always)]
    pub(super) fn stands_aside(&self) -> bool {
        self.quiet.load(Ordering::Relaxed) & ASIDE != 0
    }

    /// True when the session stands aside, and its plain text is on the socket.
    #[inline(always)]
    pub fn is_plainly_aside(&self) -> bool {
        // Relaxed: a session is handed from thread to thread by the server's own synchronisation.
        self.quiet.load(Ordering::Relaxed) & (ASIDE | TLS) == ASIDE
    }

    /// What a write to its socket is. A glance.
    #[inline(always)]
    pub fn writing(&self) -> Writing {
        let word = self.quiet.load(Ordering::Relaxed);
        if word & ASIDE == 0 {
            if word == ASKED || word == ANSWERED { Writing::Asked } else { Writing::Watched }
        } else if word & (POSTGRES | TLS) == POSTGRES {
            Writing::Aside
        } else {
            Writing::Passes
        }
    }

    /// True when `len` bytes at `buffer`, which are about to be written to its socket, may be looked at; see `written.rs`.
    #[inline(always)]
    pub fn may_be_seen_ahead(&self, buffer: usize, len: usize) -> bool {
        self.written.may_be_seen(buffer, len)
    }

    /// True when these bytes are the rest of what was looked at before the kernel had taken it, and nobody's business.
    #[inline]
    pub fn is_rest(&self, buffer: usize, len: usize) -> bool {
        let word = self.quiet.load(Ordering::Relaxed);
        if word & ASIDE == 0 {
            return word == ANSWERED
                && (self.written.is_rest(buffer, len) || self.written.is_again(buffer, len));
        }
        // What is written again from its beginning is looked at again.
        word & ANSWERING == 0 && self.written.is_rest(buffer, len)
    }

    /// True while a unit goes the direct way: the session's machine does not know of it.
    #[inline(always)]
    pub(super) fn is_direct(&self) -> bool {
        let word = self.quiet.load(Ordering::Relaxed);
        word != LOUD && word & ASIDE == 0
    }

    /// Its number + 1, by which everything else names the session.
    #[inline(always)]
    pub fn entry(&self) -> u32 {
        // Relaxed: written once, before anybody is told of the cell.
        self.entry.load(Ordering::Relaxed)
    }

    /// The number of this cell's present session.
    #[inline(always)]
    pub fn generation(&self) -> u32 {
        self.generation.load(Ordering::Acquire)
    }
}

/// A session while this thread is inside; leaves when dropped.
pub struct Inside {
    cell: &'static Cell,
}

/// A thread that has looked away from its session, but has not left it. Between the steps of a query nobody else has any
/// business in there, and coming back needs no locked instruction, which would wait for all that the server has just stored.
pub struct Stay {
    cell: &'static Cell,
}

impl Inside {
    /// The thread stays; it has to come [`back`](Stay::back).
    #[inline(always)]
    pub fn stay(self) -> Stay {
        let cell = self.cell;
        core::mem::forget(self);
        Stay { cell }
    }
}

impl Stay {
    /// True when it is in this cell.
    #[inline(always)]
    pub fn is_in(&self, cell: &Cell) -> bool {
        core::ptr::eq(self.cell, cell)
    }

    /// The thread looks at its session again.
    #[inline(always)]
    pub fn back(self) -> Inside {
        Inside { cell: self.cell }
    }
}

impl core::ops::Deref for Inside {
    type Target = Session;
    fn deref(&self) -> &Session {
        // SAFETY: `busy` is ours.
        unsafe { &*self.cell.session.get() }
    }
}

impl core::ops::DerefMut for Inside {
    fn deref_mut(&mut self) -> &mut Session {
        // SAFETY: `busy` is ours.
        unsafe { &mut *self.cell.session.get() }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        // Release: the next thread sees what we did.
        self.cell.busy.store(0, Ordering::Release);
    }
}

const CHUNK_CELLS: usize = 16;
const CHUNKS: usize = 4096;

/// All sessions of the process, at most 65,536 at the same time.
#[repr(C)]
pub struct Arena {
    chunks: [AtomicPtr<Cell>; CHUNKS],
    /// Free cells as a stack: number + 1 in the low half, a count against ABA in the high half.
    free: AtomicU64,
    /// Cells that were ever used.
    used: AtomicU32,
}

impl Arena {
    /// No sessions.
    pub const fn new() -> Self {
        Arena {
            chunks: [const { AtomicPtr::new(core::ptr::null_mut()) }; CHUNKS],
            free: AtomicU64::new(0),
            used: AtomicU32::new(0),
        }
    }

    /// Cell `n`.
    #[inline]
    pub fn cell(&self, n: u32) -> Option<&'static Cell> {
        let chunk = self.chunks.get(n as usize / CHUNK_CELLS)?.load(Ordering::Acquire);
        if chunk.is_null() {
            return None;
        }
        // SAFETY: a chunk has CHUNK_CELLS cells of zeroed memory, mapped for good; all zero is a valid cell.
        Some(unsafe { &*chunk.add(n as usize % CHUNK_CELLS) })
    }

    /// Takes a free cell and opens a session in it; its number and generation.
    pub fn open(&self, fd: i32, uid: u64, client: &[u8]) -> Option<(u32, u32)> {
        let n = self.pop().or_else(|| self.fresh())?;
        let cell = self.cell(n)?;
        cell.entry.store(n + 1, Ordering::Relaxed);
        let generation = cell.generation.fetch_add(1, Ordering::AcqRel).wrapping_add(1);
        cell.missed.store(0, Ordering::Relaxed);
        cell.quiet.store(LOUD, Ordering::Relaxed);
        cell.written.forget();
        let mut session = cell.enter()?;
        session.open(fd, uid, client);
        Some((n, generation))
    }

    /// Gives a cell back whose session is over. The caller has left it.
    pub fn close(&self, n: u32) {
        let Some(cell) = self.cell(n) else { return };
        cell.generation.fetch_add(1, Ordering::AcqRel);
        let mut top = self.free.load(Ordering::Relaxed);
        loop {
            cell.next_free.store(top as u32, Ordering::Relaxed);
            let new = (top >> 32).wrapping_add(1) << 32 | (n + 1) as u64;
            match self.free.compare_exchange_weak(top, new, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => top = now,
            }
        }
    }

    /// True while any session is open.
    pub fn has_sessions(&self) -> bool {
        // A generation is odd while its session lives.
        (0..self.used.load(Ordering::Relaxed)).any(|n| self.cell(n).is_some_and(|c| c.generation() % 2 == 1))
    }

    fn pop(&self) -> Option<u32> {
        let mut top = self.free.load(Ordering::Acquire);
        loop {
            let n = (top as u32).checked_sub(1)?;
            let next = self.cell(n)?.next_free.load(Ordering::Relaxed);
            let new = (top >> 32).wrapping_add(1) << 32 | next as u64;
            match self.free.compare_exchange_weak(top, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(n),
                Err(now) => top = now,
            }
        }
    }

    fn fresh(&self) -> Option<u32> {
        let all = (CHUNKS * CHUNK_CELLS) as u32;
        let n = self
            .used
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |n| (n < all).then_some(n + 1))
            .ok()?;
        let slot = self.chunks.get(n as usize / CHUNK_CELLS)?;
        if slot.load(Ordering::Acquire).is_null() {
            let chunk = memory::map_private(CHUNK_CELLS * size_of::<Cell>()).ok()?.cast::<Cell>();
            // The loser of a race leaves its chunk unused and untouched.
            let _ = slot.compare_exchange(core::ptr::null_mut(), chunk, Ordering::AcqRel, Ordering::Acquire);
        }
        Some(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_used_again_under_a_new_generation_and_entered_by_one_at_a_time() {
        static ARENA: Arena = Arena::new();
        let (first, generation) = ARENA.open(5, 1, b"local").unwrap();
        let (second, _) = ARENA.open(6, 2, b"local").unwrap();
        assert_ne!(first, second);
        let cell = ARENA.cell(first).unwrap();
        let inside = cell.enter().unwrap();
        assert!(cell.enter().is_none());
        assert!(cell.enter().is_none(), "who was turned away has let go of what is another one's");
        assert!(cell.enter_alone().is_none());
        drop(inside);
        assert_eq!(cell.enter().unwrap().uid, 1);
        let inside = cell.enter_alone().unwrap();
        assert!(cell.enter_alone().is_none() && cell.enter().is_none());
        drop(inside);
        assert_eq!(cell.enter_alone().unwrap().uid, 1);
        ARENA.close(first);
        assert_ne!(cell.generation(), generation);
        let (again, later) = ARENA.open(7, 3, b"").unwrap();
        assert_eq!(again, first);
        assert_eq!(cell.generation(), later);
        for n in 0..1000 {
            ARENA.open(n, n as u64, b"").unwrap();
        }
    }
}
