//! Session slots: who is connected and what runs there now.
//!
//! One thread at a time writes a slot. A reader takes the start time, the rest, and the start time again: equal and not
//! zero means that what it has belongs together.

use super::Segment;
use super::layout::{SESSION_WORDS, session as at};
use super::record::{SHORT_SESSION_WORDS, short};
use super::view::{load_bytes, store_bytes};
use crate::protocol::{Command, Dialect};
use core::sync::atomic::{AtomicU64, Ordering};

/// A session's slot.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct SessionSlot<'a> {
    words: &'a [AtomicU64; SESSION_WORDS],
}

/// What a slot shows.
#[derive(Clone, Debug)]
pub struct InFlight {
    /// The process that serves the session.
    pub pid: u32,
    /// Its number.
    pub uid: u64,
    /// CLOCK_MONOTONIC at the start of what runs; 0: idle.
    pub start_ns: u64,
    /// Whose grammar.
    pub dialect: Dialect,
    /// What kind of work.
    pub command: Command,
    /// MySQL thread id, PostgreSQL backend pid.
    pub connection_id: u64,
    /// Names the identity in the text store.
    pub identity_hash: u64,
    /// Names the text in the text store; 0: `prefix` is all there is.
    pub text_hash: u64,
    /// Length of the text on the wire.
    pub text_len: u32,
    /// Bytes of `prefix` that mean something.
    pub prefix_len: usize,
    /// The beginning of the text.
    pub prefix: [u8; at::PREFIX_WORDS * 8],
}

impl InFlight {
    /// The text is in the record that begins with `words`, if that is still this unit's.
    fn take_text(&mut self, words: &[AtomicU64]) {
        (self.text_hash, self.text_len, self.prefix_len) = (0, 0, 0);
        let word = |at: usize| words.get(at).map_or(0, |word| word.load(Ordering::Relaxed));
        if word(short::UID) != self.uid || word(short::START_NS) != self.start_ns {
            return;
        }
        self.text_len = word(short::TEXT_LEN) as u32;
        self.prefix_len = self.prefix.len().min(self.text_len as usize);
        let text = words.get(SHORT_SESSION_WORDS..).unwrap_or(&[]);
        let prefix = self.prefix.get_mut(..self.prefix_len).unwrap_or(&mut []);
        load_bytes(text, prefix);
    }
}

/// Where the record's position is in the slot's word of the kind.
const RECORD_SHIFT: u32 = 16;

static NONE: AtomicU64 = AtomicU64::new(0);

impl<'a> SessionSlot<'a> {
    pub(super) fn new(words: &'a [AtomicU64; SESSION_WORDS]) -> Self {
        SessionSlot { words }
    }

    /// The slot of these words.
    #[inline(always)]
    pub(crate) fn of(words: &'a [AtomicU64; SESSION_WORDS]) -> Self {
        SessionSlot { words }
    }

    /// Its words.
    pub(crate) fn words(&self) -> &'a [AtomicU64; SESSION_WORDS] {
        self.words
    }

    #[inline]
    fn word(&self, at: usize) -> &'a AtomicU64 {
        self.words.get(at).unwrap_or(&NONE)
    }

    #[inline]
    fn set(&self, at: usize, value: u64) {
        self.word(at).store(value, Ordering::Relaxed);
    }

    /// The process that holds the slot; 0: free.
    pub fn owner_pid(&self) -> u32 {
        (self.word(at::OWNER).load(Ordering::Acquire) >> 32) as u32
    }

    /// Takes the slot for process `pid` if it is still held by `from`.
    pub fn take(&self, from: u32, pid: u32, uid: u64, now_ns: u64) -> bool {
        let found = self.word(at::OWNER).load(Ordering::Relaxed);
        if (found >> 32) as u32 != from {
            return false;
        }
        let to = (pid as u64) << 32 | (uid & 0xffff_ffff);
        if self.word(at::OWNER).compare_exchange(found, to, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return false;
        }
        self.set(at::START_NS, 0);
        self.set(at::UID, uid);
        self.set(at::IDENTITY, 0);
        self.set(at::TAKEN_NS, now_ns);
        true
    }

    /// Gives the slot back.
    pub fn release(&self) {
        self.set(at::START_NS, 0);
        self.word(at::OWNER).store(0, Ordering::Release);
    }

    /// Notes who the session is.
    pub fn identify(&self, dialect: Dialect, connection_id: u64, identity_hash: u64) {
        self.set(at::KIND, dialect as u64);
        self.set(at::CONNECTION, connection_id);
        self.set(at::IDENTITY, identity_hash);
    }

    /// A unit starts; where `start_ns` is 0, [`start_again`](Self::start_again) says when.
    #[inline]
    pub fn start(&self, start_ns: u64, command: Command, text: &[u8], text_hash: u64, text_len: u32) {
        // Release fence: a reader that sees any word of the new text also sees that the former unit is over.
        core::sync::atomic::fence(Ordering::Release);
        let prefix = text.get(..at::PREFIX_WORDS * 8).unwrap_or(text);
        let kind = self.word(at::KIND);
        kind.store(kind.load(Ordering::Relaxed) & 0xff | (command as u64) << 8, Ordering::Relaxed);
        self.set(at::TEXT, text_hash);
        self.set(at::TEXT_LEN, text_len as u64 | (prefix.len() as u64) << 32);
        store_bytes(self.words.get(at::PREFIX..SESSION_WORDS).unwrap_or(&[]), prefix);
        // Release: the text is there before the start time says so.
        self.word(at::START_NS).store(start_ns, Ordering::Release);
    }

    /// A unit is about to start whose record, of which all but its end is written, stands at `position` in the segment;
    /// [`start_again`](Self::start_again) says when.
    #[inline(always)]
    pub fn show_record(&self, command: Command, position: usize) {
        // Release fence: as in `start`.
        core::sync::atomic::fence(Ordering::Release);
        let kind = self.word(at::KIND);
        let dialect = kind.load(Ordering::Relaxed) & 0xff;
        let place = (position as u64 + 1) << RECORD_SHIFT;
        kind.store(dialect | (command as u64) << 8 | place, Ordering::Relaxed);
    }

    /// The unit that was described last starts, or another one with the same text.
    #[inline]
    pub fn start_again(&self, start_ns: u64) {
        self.word(at::START_NS).store(start_ns, Ordering::Release);
    }

    /// The unit is over.
    #[inline]
    pub fn finish(&self) {
        self.word(at::START_NS).store(0, Ordering::Release);
    }

    /// What the slot shows, or `None` when it is free or changed while it was read. `segment` is the one that it is in.
    pub fn snapshot(&self, segment: &Segment<'_>) -> Option<InFlight> {
        let owner = self.word(at::OWNER).load(Ordering::Acquire);
        if owner == 0 {
            return None;
        }
        let start_ns = self.word(at::START_NS).load(Ordering::Acquire);
        let kind = self.word(at::KIND).load(Ordering::Relaxed);
        let lengths = self.word(at::TEXT_LEN).load(Ordering::Relaxed);
        let mut seen = InFlight {
            pid: (owner >> 32) as u32,
            uid: self.word(at::UID).load(Ordering::Relaxed),
            start_ns,
            dialect: Dialect::from_u8(kind as u8),
            command: Command::from_u8((kind >> 8) as u8),
            connection_id: self.word(at::CONNECTION).load(Ordering::Relaxed),
            identity_hash: self.word(at::IDENTITY).load(Ordering::Relaxed),
            text_hash: self.word(at::TEXT).load(Ordering::Relaxed),
            text_len: lengths as u32,
            prefix_len: ((lengths >> 32) as usize).min(at::PREFIX_WORDS * 8),
            prefix: [0; at::PREFIX_WORDS * 8],
        };
        let place = kind >> RECORD_SHIFT;
        if place == 0 {
            load_bytes(self.words.get(at::PREFIX..SESSION_WORDS).unwrap_or(&[]), &mut seen.prefix);
        } else {
            seen.take_text(segment.words_from(place as usize - 1));
        }
        // Acquire fence: the loads above come before the ones below.
        core::sync::atomic::fence(Ordering::Acquire);
        let same = self.word(at::START_NS).load(Ordering::Relaxed) == start_ns
            && self.word(at::OWNER).load(Ordering::Relaxed) == owner;
        same.then_some(seen)
    }
}
