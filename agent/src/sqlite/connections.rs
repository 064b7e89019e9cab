//! SQLite connections by address: the sessions of an embedded database.
//!
//! # Safety
//!
//! `unsafe` is used to hand out an entry while its `busy` word is held.
#![allow(unsafe_code)]

use super::Library;
use crate::hash::content_hash;
use crate::protocol::Dialect;
use crate::segment::{Segment, SessionSlot, TextKind};
use crate::session::{Thread, identity, take_slot};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

const ENTRIES: usize = 1024;
const PROBES: usize = 32;

/// A connection.
#[derive(Clone, Copy)]
pub struct Connection {
    uid: u64,
    slot: u32,
    pid: u32,
    identity_hash: u64,
    identity_generation: u64,
    unit: u32,
}

impl Connection {
    const NONE: Connection =
        Connection { uid: 0, slot: 0, pid: 0, identity_hash: 0, identity_generation: 0, unit: 0 };

    /// Where the connection shows what it runs.
    pub fn slot<'a>(&self, segment: &Segment<'a>) -> Option<SessionSlot<'a>> {
        segment.session(self.slot.checked_sub(1)? as usize)
    }
}

struct Entry {
    key: AtomicUsize,
    busy: AtomicU32,
    connection: UnsafeCell<Connection>,
}

/// All connections.
pub struct Connections {
    entries: [Entry; ENTRIES],
}

// SAFETY: a connection is reached only while its `busy` word is held.
unsafe impl Sync for Connections {}

impl Connections {
    /// None.
    pub const fn new() -> Self {
        let entries = [const {
            Entry {
                key: AtomicUsize::new(0),
                busy: AtomicU32::new(0),
                connection: UnsafeCell::new(Connection::NONE),
            }
        }; ENTRIES];
        Connections { entries }
    }

    fn places(&self, key: usize) -> impl Iterator<Item = &Entry> {
        let first = (key >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        (0..PROBES).filter_map(move |n| self.entries.get((first + n) % ENTRIES))
    }

    fn with<R>(entry: &Entry, work: impl FnOnce(&mut Connection) -> R) -> Option<R> {
        if entry.busy.swap(1, Ordering::Acquire) != 0 {
            return None;
        }
        // SAFETY: `busy` is ours until the store below.
        let result = work(unsafe { &mut *entry.connection.get() });
        entry.busy.store(0, Ordering::Release);
        Some(result)
    }

    fn entry(&self, key: usize, insert: bool) -> Option<&Entry> {
        if let Some(found) = self.places(key).find(|e| e.key.load(Ordering::Acquire) == key) {
            return Some(found);
        }
        if !insert {
            return None;
        }
        self.places(key).find(|e| {
            e.key.load(Ordering::Relaxed) == 0
                && e.key.compare_exchange(0, key, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        })
    }

    /// Runs `work` with connection `key`, known from now on, its identity stored for this capture.
    pub fn visit(
        &self,
        t: &Thread,
        segment: &Segment<'static>,
        capture: u64,
        key: usize,
        library: &impl Library,
        work: impl FnOnce(&Connection),
    ) {
        let Some(entry) = self.entry(key, true) else { return };
        Self::with(entry, |c| {
            if c.uid == 0 || c.pid != t.pid() {
                *c = Connection { uid: segment.next_uid(), pid: t.pid(), ..Connection::NONE };
                c.slot = take_slot(t.pid(), c.uid, segment);
            }
            if c.identity_hash == 0 || c.identity_generation != capture {
                let encoded = identity::encode(b"", library.database(), library.program(), b"");
                c.identity_hash = content_hash(encoded.as_slice());
                c.identity_generation = capture;
                segment.texts().put(c.identity_hash, TextKind::Identity, encoded.as_slice());
                if let Some(slot) = c.slot(segment) {
                    slot.identify(Dialect::Sqlite, 0, c.identity_hash);
                }
            }
            work(c);
        });
    }

    /// A unit of connection `key` is over: its session's uid, identity and the unit's number.
    pub fn finish_unit(&self, segment: &Segment<'static>, key: usize) -> Option<(u64, u64, u32)> {
        Self::with(self.entry(key, false)?, |c| {
            if let Some(slot) = c.slot(segment) {
                slot.finish();
            }
            c.unit = c.unit.wrapping_add(1);
            (c.uid, c.identity_hash, c.unit)
        })
    }

    /// Forgets connection `key`.
    pub fn remove(&self, segment: &Segment<'static>, key: usize) {
        let Some(entry) = self.entry(key, false) else { return };
        Self::with(entry, |c| {
            if let Some(slot) = c.slot(segment) {
                slot.release();
            }
            *c = Connection::NONE;
        });
        entry.key.store(0, Ordering::Release);
    }
}
