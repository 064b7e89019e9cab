//! The sessions of a process: cells in chunks that are mapped when needed and never given back.
//!
//! # Safety
//!
//! `unsafe` is used to make cells of zeroed memory, for which all bytes zero is a valid cell (integers, `MaybeUninit`,
//! byte strings, and an `Option` of a reference, whose `None` is zero), and to hand out the session inside a cell while its `busy` word is held.
#![allow(unsafe_code)]

use super::unit::Running;
use crate::protocol::mysql::Mysql;
use crate::protocol::postgres::Postgres;
use crate::protocol::{Dialect, Direction, Machine, Step, Unit};
use crate::segment::SessionSlot;
use crate::strings::Bytes;
use crate::sys::memory;
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// Which machine reads a session's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Protocol {
    /// No byte was seen yet.
    Undetected = 0,
    /// [`Mysql`].
    MySql = 1,
    /// [`Postgres`].
    Postgres = 2,
    /// Not followed: another protocol, a replication stream, lost, not a session.
    Ignored = 3,
}

/// One session. In the order of use: what every query touches is in the first few cache lines, the machine's too.
#[repr(C)]
pub struct Session {
    /// Its unique number in the segment.
    pub uid: u64,
    /// Its descriptor.
    pub fd: i32,
    /// Which machine.
    pub(super) protocol: u8,
    /// 1: the plain text is at the TLS library.
    pub(super) tls: u8,
    /// 1: the client is logged in.
    pub(super) logged_in: u8,
    /// 1: a thread pool's poller watches the descriptor.
    pub(super) pooled: u8,
    /// Its slot in the segment.
    pub(super) slot: Option<SessionSlot<'static>>,
    /// The TLS connection, 0: none.
    pub(super) ssl: usize,
    /// Name of the identity in the text store; 0: not stored in this generation.
    pub(super) identity_hash: u64,
    /// The capture generation in which the identity was stored last.
    pub(super) identity_generation: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) running: Running,
    machines_made: u8,
    mysql: MaybeUninit<Mysql>,
    postgres: MaybeUninit<Postgres>,
    pub(super) evicted: u64,
    pub(super) client: Bytes<64>,
}

impl Session {
    /// Becomes a new session.
    pub(super) fn open(&mut self, fd: i32, uid: u64, client: &[u8]) {
        self.fd = fd;
        self.uid = uid;
        self.slot = None;
        self.protocol = Protocol::Undetected as u8;
        self.tls = 0;
        self.logged_in = 0;
        self.pooled = 0;
        self.ssl = 0;
        self.identity_hash = 0;
        self.identity_generation = 0;
        self.evicted = 0;
        self.client.set(client);
        self.running = Running::default();
        self.bytes_in = 0;
        self.bytes_out = 0;
    }

    /// Chooses the machine, in its initial state.
    pub(super) fn speak(&mut self, protocol: Protocol) {
        self.protocol = protocol as u8;
        let made = self.machines_made;
        match protocol {
            Protocol::MySql if made & 1 == 0 => {
                self.mysql.write(Mysql::new());
                self.machines_made |= 1;
            }
            Protocol::Postgres if made & 2 == 0 => {
                self.postgres.write(Postgres::new());
                self.machines_made |= 2;
            }
            // SAFETY: the bit says that it was written.
            Protocol::MySql => unsafe { self.mysql.assume_init_mut() }.reset(),
            // SAFETY: the bit says that it was written.
            Protocol::Postgres => unsafe { self.postgres.assume_init_mut() }.reset(),
            _ => {}
        }
    }

    /// Which machine.
    #[inline(always)]
    pub fn protocol(&self) -> Protocol {
        match self.protocol {
            1 => Protocol::MySql,
            2 => Protocol::Postgres,
            3 => Protocol::Ignored,
            _ => Protocol::Undetected,
        }
    }

    /// The machine, if there is one.
    #[inline]
    pub(super) fn machine(&mut self) -> Option<&mut dyn Machine> {
        match self.protocol() {
            // SAFETY: `speak` wrote the machine before it set the protocol.
            Protocol::MySql => Some(unsafe { self.mysql.assume_init_mut() }),
            // SAFETY: as above.
            Protocol::Postgres => Some(unsafe { self.postgres.assume_init_mut() }),
            _ => None,
        }
    }

    /// The machine's answer to bytes that went in `direction`; `None` without a machine.
    #[inline(always)]
    pub(super) fn step(&mut self, direction: Direction, input: &mut &[u8]) -> Option<Step> {
        match self.protocol() {
            // SAFETY: `speak` wrote the machine before it set the protocol.
            Protocol::MySql => Some(unsafe { self.mysql.assume_init_mut() }.step(direction, input)),
            // SAFETY: as above.
            Protocol::Postgres => Some(unsafe { self.postgres.assume_init_mut() }.step(direction, input)),
            _ => None,
        }
    }

    /// Whose grammar, and the unit that runs or ran last; `None` without a machine.
    #[inline(always)]
    pub(super) fn unit(&self) -> Option<(Dialect, Unit<'_>)> {
        match self.protocol() {
            Protocol::MySql => {
                // SAFETY: `speak` wrote the machine before it set the protocol.
                let machine = unsafe { self.mysql.assume_init_ref() };
                Some((machine.dialect(), machine.unit()))
            }
            Protocol::Postgres => {
                // SAFETY: as above.
                let machine = unsafe { self.postgres.assume_init_ref() };
                Some((machine.dialect(), machine.unit()))
            }
            _ => None,
        }
    }

    /// True when the MySQL machine, at rest, took a whole command that starts a unit; see [`Mysql::whole_command`].
    #[inline(always)]
    pub(super) fn whole_command(&mut self, header: [u8; 4], body: &[u8], capturing: bool) -> bool {
        self.protocol() == Protocol::MySql
            // SAFETY: `speak` wrote the machine before it set the protocol.
            && unsafe { self.mysql.assume_init_mut() }.whole_command(header, body, capturing)
    }

    /// The machine's answer to a read of at most `requested` bytes; `None` without a machine.
    #[inline(always)]
    pub(super) fn read_entered(&mut self, requested: usize, capturing: bool) -> Option<Step> {
        match self.protocol() {
            Protocol::MySql => {
                // SAFETY: `speak` wrote the machine before it set the protocol.
                let machine = unsafe { self.mysql.assume_init_mut() };
                machine.set_capturing(capturing);
                Some(machine.read_entered(requested))
            }
            Protocol::Postgres => {
                // SAFETY: as above.
                let machine = unsafe { self.postgres.assume_init_mut() };
                machine.set_capturing(capturing);
                Some(machine.read_entered(requested))
            }
            _ => None,
        }
    }

    /// True when the machine is between two commands of a protocol whose sessions can stand aside.
    #[inline(always)]
    pub(super) fn can_rest(&self) -> bool {
        match self.protocol() {
            // SAFETY: `speak` wrote the machine before it set the protocol.
            Protocol::MySql => unsafe { self.mysql.assume_init_ref() }.is_at_rest(),
            // SAFETY: as above.
            Protocol::Postgres => unsafe { self.postgres.assume_init_ref() }.is_at_rest(),
            _ => false,
        }
    }

    /// The machine of a PostgreSQL session.
    #[inline(always)]
    pub(super) fn postgres(&mut self) -> Option<&mut Postgres> {
        // SAFETY: `speak` wrote the machine before it set the protocol.
        (self.protocol() == Protocol::Postgres).then(|| unsafe { self.postgres.assume_init_mut() })
    }

    /// Whose grammar.
    pub fn dialect(&mut self) -> Dialect {
        self.machine().map_or(Dialect::Unknown, |m| m.dialect())
    }
}

/// A place for a session.
#[repr(C, align(64))]
pub struct Cell {
    /// 1 while a thread is inside.
    busy: AtomicU32,
    /// Counts up with every session in this cell.
    generation: AtomicU32,
    /// Next free cell + 1.
    next_free: AtomicU32,
    /// Bits of what happened while another thread was inside.
    missed: AtomicU32,
    /// The session's state while it stands aside; see `quiet.rs`.
    pub(super) quiet: AtomicU64,
    session: UnsafeCell<Session>,
}

// SAFETY: the session is reached through `enter` only, by one thread at a time.
unsafe impl Sync for Cell {}

/// Bytes went by unseen.
pub const MISSED_BYTES: u32 = 1;
/// The descriptor was closed.
pub const MISSED_CLOSE: u32 = 2;

impl Cell {
    /// Enters the cell; `None`: another thread, or the code that this signal handler interrupted, is inside.
    #[inline]
    pub fn enter(&self) -> Option<Inside<'_>> {
        // Acquire: sees what the previous thread left.
        (self.busy.swap(1, Ordering::Acquire) == 0).then_some(Inside { cell: self })
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

    /// Takes the notes.
    #[inline]
    pub fn take_missed(&self) -> u32 {
        if self.missed.load(Ordering::Relaxed) == 0 { 0 } else { self.missed.swap(0, Ordering::Relaxed) }
    }

    /// True when the session stands aside.
    #[inline]
    pub(super) fn stands_aside(&self) -> bool {
        self.quiet.load(Ordering::Relaxed) != super::quiet::LOUD
    }

    /// The number of this cell's present session.
    #[inline]
    pub fn generation(&self) -> u32 {
        self.generation.load(Ordering::Acquire)
    }
}

/// A session while this thread is inside; leaves when dropped.
pub struct Inside<'a> {
    cell: &'a Cell,
}

impl core::ops::Deref for Inside<'_> {
    type Target = Session;
    fn deref(&self) -> &Session {
        // SAFETY: `busy` is ours.
        unsafe { &*self.cell.session.get() }
    }
}

impl core::ops::DerefMut for Inside<'_> {
    fn deref_mut(&mut self) -> &mut Session {
        // SAFETY: `busy` is ours.
        unsafe { &mut *self.cell.session.get() }
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        // Release: the next thread sees what we did.
        self.cell.busy.store(0, Ordering::Release);
    }
}

const CHUNK_CELLS: usize = 16;
const CHUNKS: usize = 4096;

/// All sessions of the process, at most 65,536 at the same time.
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
    pub fn cell(&self, n: u32) -> Option<&Cell> {
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
        let generation = cell.generation.fetch_add(1, Ordering::AcqRel).wrapping_add(1);
        cell.missed.store(0, Ordering::Relaxed);
        cell.quiet.store(super::quiet::LOUD, Ordering::Relaxed);
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
        drop(inside);
        assert_eq!(cell.enter().unwrap().uid, 1);
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
