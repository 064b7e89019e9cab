//! Texts and identities by content hash, each stored once.
//!
//! The arena is a circular log: an entry is `hash`, `length u32 | kind u32`, `bytes`, appended by whoever needs it; the
//! oldest make room for new ones. The index maps a hash to the entry's position. Nothing is ever locked or freed: an
//! entry is its own proof, because its bytes must have the hash that names it. A writer killed in the middle, a race of
//! two writers, an entry overwritten while it is read: each shows as "not there".

use super::view::{load_bytes, store_bytes};
use core::sync::atomic::{AtomicU64, Ordering};

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum TextKind {
    /// A statement's text.
    Statement = 1,
    /// A session's identity, as [`session::identity`](crate::session::identity) writes it.
    Identity = 2,
}

/// How many places of the index a hash may stand in.
const PROBES: usize = 8;
const ENTRY_WORDS: usize = 2;

/// The text store of a segment.
#[derive(Clone, Copy)]
pub struct Texts<'a> {
    index: &'a [AtomicU64],
    arena: &'a [AtomicU64],
    head: &'a AtomicU64,
}

impl<'a> Texts<'a> {
    pub(super) fn new(index: &'a [AtomicU64], arena: &'a [AtomicU64], head: &'a AtomicU64) -> Self {
        Texts { index, arena, head }
    }

    /// The index entries where `hash` may stand, each as (hash, position).
    fn places(&self, hash: u64) -> impl Iterator<Item = (&'a AtomicU64, &'a AtomicU64)> + use<'a> {
        let index = self.index;
        let entries = (index.len() / 2).max(1);
        (0..PROBES).filter_map(move |n| {
            let place = (hash as usize).wrapping_add(n) & (entries - 1);
            Some((index.get(place * 2)?, index.get(place * 2 + 1)?))
        })
    }

    /// The words of the entry at `position`, if it has not been overwritten and names `hash`.
    fn entry(&self, hash: u64, position: u64) -> Option<(u64, &'a [AtomicU64])> {
        let length = self.arena.len() as u64;
        // Acquire: pairs with the Release in `put`; the entry's words are there.
        if self.head.load(Ordering::Acquire).wrapping_sub(position) > length {
            return None;
        }
        let words = self.arena.get((position & (length - 1)) as usize..)?;
        if words.first()?.load(Ordering::Acquire) != hash {
            return None;
        }
        Some((words.get(1)?.load(Ordering::Relaxed), words.get(ENTRY_WORDS..)?))
    }

    /// True when `hash` is in the store (as far as a look without reading the bytes can tell).
    pub fn contains(&self, hash: u64) -> bool {
        self.places(hash).any(|(stored, position)| {
            stored.load(Ordering::Relaxed) == hash
                && self.entry(hash, position.load(Ordering::Relaxed)).is_some()
        })
    }

    /// Stores `bytes` under their `hash` unless they are there. False when they are too long for the arena.
    pub fn put(&self, hash: u64, kind: TextKind, bytes: &[u8]) -> bool {
        if self.contains(hash) {
            return true;
        }
        let length = self.arena.len() as u64;
        let n = (ENTRY_WORDS + bytes.len().div_ceil(8)) as u64;
        if n > length / 4 {
            return false;
        }
        // An entry does not wrap: what crosses the end is given up, and another place is drawn. Twice is enough unless
        // others draw at the same time.
        for _ in 0..4 {
            let position = self.head.fetch_add(n, Ordering::AcqRel);
            let place = position & (length - 1);
            if place + n > length {
                continue;
            }
            let Some(words) = self.arena.get(place as usize..(place + n) as usize) else { return false };
            let [first, second, rest @ ..] = words else { return false };
            // 0 names nothing: a reader that comes now finds no entry.
            first.store(0, Ordering::Relaxed);
            store_bytes(rest, bytes);
            second.store(bytes.len() as u64 | (kind as u64) << 32, Ordering::Relaxed);
            // Release: the bytes are there before the name is.
            first.store(hash, Ordering::Release);
            self.enter(hash, position);
            return true;
        }
        false
    }

    /// Enters a position into the index: in the place of the same hash, of an entry that is gone, or of the oldest.
    fn enter(&self, hash: u64, position: u64) {
        let mut best: Option<(&AtomicU64, &AtomicU64)> = None;
        let mut best_age = 0;
        let head = self.head.load(Ordering::Relaxed);
        for (stored, at) in self.places(hash) {
            let found = stored.load(Ordering::Relaxed);
            let age = if found == 0 || found == hash {
                u64::MAX
            } else {
                head.wrapping_sub(at.load(Ordering::Relaxed))
            };
            if age > best_age {
                best_age = age;
                best = Some((stored, at));
            }
            if age == u64::MAX {
                break;
            }
        }
        if let Some((stored, at)) = best {
            at.store(position, Ordering::Relaxed);
            stored.store(hash, Ordering::Release);
        }
    }

    /// Copies the bytes named `hash` to `to` if they are there, whole and of `kind`; their number.
    pub fn copy(&self, hash: u64, kind: TextKind, to: &mut [u8]) -> Option<usize> {
        for (stored, position) in self.places(hash) {
            if stored.load(Ordering::Acquire) != hash {
                continue;
            }
            let Some((about, words)) = self.entry(hash, position.load(Ordering::Relaxed)) else { continue };
            let len = about as u32 as usize;
            if (about >> 32) as u32 != kind as u32 || words.len() < len.div_ceil(8) {
                continue;
            }
            let Some(to) = to.get_mut(..len) else { continue };
            load_bytes(words, to);
            if crate::hash::content_hash(to) == hash {
                return Some(len);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::view::tests::{SMALL, words};
    use super::*;
    use crate::hash::content_hash;
    use crate::segment::Segment;
    use std::format;

    #[test]
    fn a_text_is_stored_once_and_found_until_newer_ones_need_its_room() {
        let words = words(SMALL);
        let texts = Segment::format(&words, SMALL, 1, 1, b"").unwrap().texts();
        let mut buffer = [0; 4096];
        let first = b"select 1 from t where a = 2";
        let hash = content_hash(first);
        assert!(texts.put(hash, TextKind::Statement, first));
        let used = texts.head.load(Ordering::Relaxed);
        assert!(texts.put(hash, TextKind::Statement, first));
        assert_eq!(texts.head.load(Ordering::Relaxed), used, "the second time nothing is written");
        let n = texts.copy(hash, TextKind::Statement, &mut buffer).unwrap();
        assert_eq!(&buffer[..n], first);
        assert_eq!(texts.copy(hash, TextKind::Identity, &mut buffer), None);
        for n in 0..5000 {
            let text = format!("select {n} from a_table_with_a_long_name where column = {n}");
            let hash = content_hash(text.as_bytes());
            assert!(texts.put(hash, TextKind::Statement, text.as_bytes()));
            let len = texts.copy(hash, TextKind::Statement, &mut buffer).unwrap();
            assert_eq!(&buffer[..len], text.as_bytes());
        }
        assert_eq!(texts.copy(hash, TextKind::Statement, &mut buffer), None);
        assert!(!texts.contains(hash));
    }

    #[test]
    fn a_damaged_entry_is_not_there() {
        let words = words(SMALL);
        let texts = Segment::format(&words, SMALL, 1, 1, b"").unwrap().texts();
        let hash = content_hash(b"select secret");
        texts.put(hash, TextKind::Statement, b"select secret");
        texts.arena[2].store(7, Ordering::Relaxed);
        assert_eq!(texts.copy(hash, TextKind::Statement, &mut [0; 4096]), None);
        texts.arena[1].store(u64::MAX, Ordering::Relaxed);
        assert_eq!(texts.copy(hash, TextKind::Statement, &mut [0; 4096]), None);
    }
}
