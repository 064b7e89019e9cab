//! SQLite connections by address: the sessions of an embedded database.
//!
//! Read at every execution without a lock; described under a `busy` mark, once in each capture.
//!
//! # Safety
//!
//! `unsafe` is used to go back from an address to a connection, which lives in a static, and to a slot, which lives in a
//! mapping that is never given up.
#![allow(unsafe_code)]

use super::Library;
use super::statements::Word;
use crate::hash::content_hash;
use crate::protocol::Dialect;
use crate::segment::layout::SESSION_WORDS;
use crate::segment::{Segment, SessionSlot, TextKind};
use crate::session::{Thread, identity, take_slot};
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

const ENTRIES: usize = 1024;
const PROBES: usize = 32;

/// A connection, in a cache line of its own. All zero: nobody's.
#[repr(C, align(64))]
pub struct Connection {
    /// Its address.
    key: AtomicUsize,
    busy: AtomicU32,
    /// The process that described it.
    pid: AtomicU32,
    /// The capture in which it was described last.
    capture: Word,
    /// Session slot; null: none.
    slot: AtomicPtr<[AtomicU64; SESSION_WORDS]>,
    /// Its session's number.
    pub uid: Word,
    /// Names its identity in the text store.
    pub identity_hash: Word,
    /// Executions so far.
    pub unit: Word,
    /// The text that its slot shows.
    pub shown: Word,
}

const _: () = assert!(size_of::<Connection>() == 64);

impl Connection {
    const fn nobodys() -> Self {
        Connection {
            key: AtomicUsize::new(0),
            busy: AtomicU32::new(0),
            pid: AtomicU32::new(0),
            capture: Word::new(),
            slot: AtomicPtr::new(core::ptr::null_mut()),
            uid: Word::new(),
            identity_hash: Word::new(),
            unit: Word::new(),
            shown: Word::new(),
        }
    }

    /// True when it is connection `key`, described in this capture by this process.
    #[inline(always)]
    pub fn is(&self, key: usize, capture: u64, pid: u32) -> bool {
        self.key.load(Ordering::Acquire) == key
            && self.capture.get() == capture
            && self.pid.load(Ordering::Relaxed) == pid
    }

    /// Where it shows what it runs.
    #[inline(always)]
    pub fn slot(&self) -> Option<SessionSlot<'static>> {
        // SAFETY: null, or the words of a slot of this process's segment, which is mapped for good.
        unsafe { self.slot.load(Ordering::Relaxed).as_ref() }.map(SessionSlot::of)
    }

    fn set_slot(&self, slot: Option<SessionSlot<'static>>) {
        let words = slot.map_or(core::ptr::null(), |slot| core::ptr::from_ref(slot.words()));
        self.slot.store(words.cast_mut(), Ordering::Relaxed);
    }

    /// Runs `work` unless another thread is describing it.
    fn describing<R>(&self, work: impl FnOnce() -> R) -> Option<R> {
        if self.busy.swap(1, Ordering::Acquire) != 0 {
            return None;
        }
        let result = work();
        self.busy.store(0, Ordering::Release);
        Some(result)
    }

    fn describe(&self, t: &Thread, segment: &Segment<'static>, capture: u64, library: &impl Library) {
        let pid = t.pid();
        if self.uid.get() == 0 || self.pid.load(Ordering::Relaxed) != pid {
            self.uid.set(segment.next_uid());
            self.unit.set(0);
            self.pid.store(pid, Ordering::Relaxed);
            let number = take_slot(pid, self.uid.get(), segment);
            self.set_slot(number.checked_sub(1).and_then(|n| segment.session(n as usize)));
        }
        let encoded = identity::encode(b"", library.database(), library.program(), b"");
        self.identity_hash.set(content_hash(encoded.as_slice()));
        segment.texts().put(self.identity_hash.get(), TextKind::Identity, encoded.as_slice());
        if let Some(slot) = self.slot() {
            slot.identify(Dialect::Sqlite, 0, self.identity_hash.get());
        }
        self.shown.set(0);
        self.capture.set(capture);
    }

    /// Becomes nobody's again.
    fn forget(&self, pid: u32) {
        // A forked child has its parent's connections in its memory, but not in its hands.
        if self.pid.load(Ordering::Relaxed) == pid
            && let Some(slot) = self.slot()
        {
            slot.release();
        }
        self.uid.set(0);
        self.set_slot(None);
        self.capture.set(0);
    }
}

/// All connections.
pub struct Connections {
    entries: [Connection; ENTRIES],
}

impl Connections {
    /// None.
    pub const fn new() -> Self {
        Connections { entries: [const { Connection::nobodys() }; ENTRIES] }
    }

    fn places(&self, key: usize) -> impl Iterator<Item = &Connection> {
        let first = (key >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        (0..PROBES).filter_map(move |n| self.entries.get((first + n) % ENTRIES))
    }

    fn find(&self, key: usize) -> Option<&Connection> {
        self.places(key).find(|c| c.key.load(Ordering::Acquire) == key)
    }

    /// Connection `key`, known from now on and described for this capture. `None`: another thread is
    /// just describing it, or there are too many.
    #[cold]
    pub fn know(
        &self,
        t: &Thread,
        segment: &Segment<'static>,
        capture: u64,
        key: usize,
        library: &impl Library,
    ) -> Option<&Connection> {
        let c = self.find(key).or_else(|| self.take(t, capture, key))?;
        if !c.is(key, capture, t.pid()) {
            c.describing(|| c.describe(t, segment, capture, library))?;
        }
        Some(c)
    }

    /// A free place, or that of a connection which was not heard of in this capture.
    fn take(&self, t: &Thread, capture: u64, key: usize) -> Option<&Connection> {
        let take = |c: &Connection, from: usize| {
            c.key.compare_exchange(from, key, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        self.places(key).find(|c| take(c, 0)).or_else(|| {
            self.places(key).find(|c| {
                let from = c.key.load(Ordering::Relaxed);
                let old = c.capture.get() != capture && take(c, from);
                if old {
                    c.forget(t.pid());
                }
                old
            })
        })
    }

    /// Forgets connection `key`.
    pub fn remove(&self, t: &Thread, key: usize) {
        let Some(c) = self.find(key) else { return };
        c.describing(|| c.forget(t.pid()));
        c.key.store(0, Ordering::Release);
    }
}
