//! A wait-free ring of records with one producer and one consumer, over plain borrowed words.
//!
//! Positions (`head`, `tail`) are counts of words since the beginning and only grow; a position's place in the ring is
//! its remainder by the ring's length, a power of two. A record is contiguous: where it would cross the end, a pad
//! record fills the rest. Invariant of an honest pair: `tail <= head <= tail + length`.
//!
//! - The producer writes a record's words, then publishes them by storing `head` with Release. Killed in between, it
//!   leaves `head` where it was, and what it wrote is overwritten by the next producer.
//! - The consumer loads `head` with Acquire, reads up to there, then stores `tail` with Release, which gives the words
//!   back: its reads happen before the producer, having loaded `tail` with Acquire, writes there again.
//!
//! Both sides live in different processes and may be hostile or dead: each checks the other's position before use, and
//! a full ring drops the record.
//!
//! An empty ring starts over at its beginning once it has passed [`REWIND_WORDS`], so that a lightly loaded lane keeps
//! using the same few pages: they stay in the processor's cache, and the rest of the segment is never touched. The
//! positions jump to the next lap then; from where to where stands in `skip_from` and `skip_to`, and not in the ring, so
//! that the jump takes none of its room: the whole ring is free after it.

use super::record::{KIND_PAD, RECORD_MAX_WORDS};
use crate::strings::rest_word;
use crate::sync::{AtomicU64, Ordering};

/// An empty ring goes back to its beginning when the position in it is beyond this: 64 KiB. In the model's tiny ring the
/// jump has to happen too.
pub const REWIND_WORDS: u64 = if cfg!(loom) { 1 } else { 8192 };

/// A producer looks at the consumer's position again after so many words, 4 KiB.
const KNOWN_FREE_WORDS: u64 = 512;

/// The words and the two positions of a ring.
#[derive(Clone, Copy)]
pub struct Ring<'a> {
    /// The ring itself; its length is a power of two.
    pub words: &'a [AtomicU64],
    /// Written by the producer.
    pub head: &'a AtomicU64,
    /// Written by the consumer.
    pub tail: &'a AtomicU64,
    /// Written by the producer: the position of its last jump. The consumer was there when it jumped.
    pub skip_from: &'a AtomicU64,
    /// Written by the producer: where that jump led, the beginning of the next lap.
    pub skip_to: &'a AtomicU64,
}

/// Room for one record. It is the producer's until it publishes this record or another one.
#[derive(Clone, Copy)]
pub struct Slot<'a> {
    words: &'a [AtomicU64],
    head: &'a AtomicU64,
    end: u64,
}

impl<'a> Slot<'a> {
    /// Sets word `at` of the record. Outside the record: nothing happens.
    #[inline]
    pub fn set(&self, at: usize, value: u64) {
        if let Some(word) = self.words.get(at) {
            // Relaxed: nobody reads the word before `publish` has released it.
            word.store(value, Ordering::Relaxed);
        }
    }

    /// Sets words 1 to `N`, those after the header. A record that has not so many stays as it is.
    #[inline(always)]
    pub fn set_fixed<const N: usize>(&self, values: &[u64; N]) {
        let Some(words) = self.words.get(1..).and_then(|words| words.first_chunk::<N>()) else { return };
        for (word, value) in words.iter().zip(values) {
            word.store(*value, Ordering::Relaxed);
        }
    }

    /// Sets these words. A record that has not the last of them stays as it is.
    #[inline(always)]
    pub fn set_some<const N: usize>(&self, values: [(usize, u64); N]) {
        // One look for all of them: positions are constants, in ascending order.
        let Some(words) = values.last().and_then(|(last, _)| self.words.get(..*last + 1)) else { return };
        for (at, value) in values {
            if let Some(word) = words.get(at) {
                word.store(value, Ordering::Relaxed);
            }
        }
    }

    /// Writes `bytes` from word `at` on, the last word filled up with zeros.
    #[inline(always)]
    pub fn set_bytes(&self, at: usize, bytes: &[u8]) {
        if let Some(words) = self.words.get(at..) {
            Self::store(words, bytes);
        }
    }

    /// Fills `words` with `bytes`. Of the words alone, so that whoever has their slot keeps it in registers.
    #[inline(never)]
    fn store(words: &[AtomicU64], bytes: &[u8]) {
        let (chunks, rest) = bytes.as_chunks::<8>();
        for (word, chunk) in words.iter().zip(chunks) {
            word.store(u64::from_le_bytes(*chunk), Ordering::Relaxed);
        }
        if let Some(word) = words.get(chunks.len()).filter(|_| !rest.is_empty()) {
            word.store(rest_word(bytes), Ordering::Relaxed);
        }
    }

    /// Sets the words from `at` on, which are the record's last ones: it becomes shorter if there is more room.
    #[inline(always)]
    pub fn end_with<const N: usize>(&mut self, at: usize, values: [u64; N]) {
        let Some(words) = self.words.get(at..).and_then(|words| words.first_chunk::<N>()) else { return };
        for (word, value) in words.iter().zip(values) {
            word.store(value, Ordering::Relaxed);
        }
        if self.words.len() != at + N {
            self.shorten(at + N);
        }
    }

    /// Word `at` of the record; 0 outside of it.
    pub fn get(&self, at: usize) -> u64 {
        self.words.get(at).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// The record's words.
    #[inline(always)]
    pub fn words(&self) -> &'a [AtomicU64] {
        self.words
    }

    /// The record, which became shorter than there is room for, has `n` words.
    #[inline]
    pub fn shorten(&mut self, n: usize) {
        if let Some(words) = self.words.get(..n)
            && let Some(first) = words.first()
        {
            self.end = self.end.wrapping_sub((self.words.len() - n) as u64);
            self.words = words;
            let kind = first.load(Ordering::Relaxed) >> 32;
            first.store(header(n, kind as u16), Ordering::Relaxed);
        }
    }

    /// Hands the record to the consumer.
    #[inline(always)]
    pub fn publish(self) {
        // Release: the record's words are visible to whoever sees the new head.
        self.head.store(self.end, Ordering::Release);
    }
}

impl<'a> Ring<'a> {
    fn length(&self) -> u64 {
        self.words.len() as u64
    }

    /// The page of memory that the producer wrote to last.
    #[inline]
    pub fn page(&self) -> usize {
        // Relaxed: only this side writes `head`.
        let last = self.head.load(Ordering::Relaxed).wrapping_sub(1) & (self.length() - 1);
        (self.words.as_ptr().addr() + last as usize * 8) / 4096
    }

    /// Room for a record of `n` words, its header word already set, or `None`: the ring is full, or the other side's
    /// position makes no sense.
    #[inline(always)]
    pub fn reserve(&self, n: usize, kind: u16) -> Option<Slot<'a>> {
        let begin = self.place(n)?;
        self.slot(begin, n, kind)
    }

    /// The position of `n` words in one piece, wherever they are free.
    #[inline(always)]
    pub(super) fn place(&self, n: usize) -> Option<u64> {
        self.place_here(n).or_else(|| self.place_elsewhere(n))
    }

    /// The position of `n` words in one piece behind the last record, where they are usually free. (A jump that the consumer
    /// has not seen only makes the ring look fuller.)
    #[inline(always)]
    pub(super) fn place_here(&self, n: usize) -> Option<u64> {
        let length = self.length();
        // Relaxed: only this side writes `head`.
        let head = self.head.load(Ordering::Relaxed);
        // Acquire: pairs with the consumer's Release; its reads of the words given back are done.
        let used = head.wrapping_sub(self.tail.load(Ordering::Acquire));
        let place = head & (length - 1);
        let free = length.wrapping_sub(used);
        // More used than there is makes more free than there is.
        let is_free = free <= length && n as u64 <= free && n as u64 <= length - place;
        (is_free && (used != 0 || place <= REWIND_WORDS)).then_some(head)
    }

    /// The same where the words before position `until` are known to be free, and in one piece, behind the last record. The
    /// other side's position need not be looked at.
    #[inline(always)]
    pub(super) fn place_within(&self, n: usize, until: u64) -> Option<u64> {
        // Relaxed: only this side writes `head`.
        let head = self.head.load(Ordering::Relaxed);
        until.checked_sub(head).filter(|free| *free >= n as u64).map(|_| head)
    }

    /// Up to which position the words from `begin` on are free, and in one piece; not far, so that an empty ring is noticed and
    /// starts over.
    pub(super) fn free_until(&self, begin: u64) -> u64 {
        let length = self.length();
        // Acquire: as in `place_here`. (A jump that the consumer has not seen only makes the ring look fuller.)
        let free = self.tail.load(Ordering::Acquire).wrapping_add(length).wrapping_sub(begin);
        let in_one_piece = length - (begin & (length - 1));
        let known = if free <= length { free } else { 0 };
        begin.saturating_add(known.min(in_one_piece).min(KNOWN_FREE_WORDS))
    }

    /// Room for a record of `n` words at position `begin`, where one of these two has found it free.
    #[inline(always)]
    pub(super) fn slot(&self, begin: u64, n: usize, kind: u16) -> Option<Slot<'a>> {
        let place = (begin & (self.length() - 1)) as usize;
        let words = self.words.get(place..)?.get(..n)?;
        words.first()?.store(header(n, kind), Ordering::Relaxed);
        Some(Slot { words, head: self.head, end: begin.wrapping_add(n as u64) })
    }

    /// The position of `n` words in all other cases.
    pub(super) fn place_elsewhere(&self, n: usize) -> Option<u64> {
        let length = self.length();
        let head = self.head.load(Ordering::Relaxed);
        let mut tail = self.tail.load(Ordering::Acquire);
        // Relaxed: only this side writes them.
        let (skip_from, skip_to) =
            (self.skip_from.load(Ordering::Relaxed), self.skip_to.load(Ordering::Relaxed));
        if tail == skip_from && head.wrapping_sub(skip_to) <= length {
            // The consumer has not looked since the jump: it is as good as there already.
            tail = skip_to;
        }
        let used = head.wrapping_sub(tail);
        if used > length || n as u64 > length {
            return None;
        }
        let place = head & (length - 1);
        let free = length - used;
        let mut begin = head;
        if used == 0 && place > REWIND_WORDS && self.tail.load(Ordering::Relaxed) == head {
            begin = head.wrapping_add(length - place);
            self.skip_from.store(head, Ordering::Relaxed);
            self.skip_to.store(begin, Ordering::Relaxed);
        } else if place + n as u64 > length {
            let pad = length - place;
            if pad + n as u64 > free {
                return None;
            }
            let first = self.words.get(place as usize)?;
            first.store(header(pad as usize, KIND_PAD), Ordering::Relaxed);
            begin = head.wrapping_add(pad);
        } else if n as u64 > free {
            return None;
        }
        // Release: a jump, or a pad, is seen with the position behind it. Published at once: both stand whether or not the
        // record follows.
        self.head.store(begin, Ordering::Release);
        Some(begin)
    }

    /// Hands the published records to `take`, each as `to[..]`, at most as many as there were at the call; gives their
    /// room back. `to` must have room for [`RECORD_MAX_WORDS`]. The number of records, or what is wrong with the ring.
    pub fn drain(&self, to: &mut [u64], mut take: impl FnMut(&[u64])) -> Result<usize, Corrupt> {
        let length = self.length();
        // Relaxed: only this side writes `tail`.
        let mut tail = self.tail.load(Ordering::Relaxed);
        // Acquire: pairs with `publish`.
        let head = self.head.load(Ordering::Acquire);
        // Relaxed: a jump that `head` has made was stored before it. One that it has not made yet leads beyond it.
        let (skip_from, skip_to) =
            (self.skip_from.load(Ordering::Relaxed), self.skip_to.load(Ordering::Relaxed));
        let jump = skip_to.wrapping_sub(skip_from);
        let jumped = jump != 0 && jump <= length && head.wrapping_sub(skip_to) <= length;
        let mut records = 0;
        while tail != head {
            if jumped && tail == skip_from {
                tail = skip_to;
                self.tail.store(tail, Ordering::Release);
                continue;
            }
            if head.wrapping_sub(tail) > length {
                return Err(Corrupt);
            }
            let place = tail & (length - 1);
            let first = self.words.get(place as usize).ok_or(Corrupt)?.load(Ordering::Relaxed);
            let (n, kind) = (first as u32 as u64, (first >> 32) as u16);
            if n == 0 || n > head.wrapping_sub(tail) || place + n > length {
                return Err(Corrupt);
            }
            if kind != KIND_PAD {
                let n = n as usize;
                if n > RECORD_MAX_WORDS {
                    return Err(Corrupt);
                }
                let copy = to.get_mut(..n).ok_or(Corrupt)?;
                let from = self.words.get(place as usize..).ok_or(Corrupt)?;
                for (to, from) in copy.iter_mut().zip(from) {
                    *to = from.load(Ordering::Relaxed);
                }
                // The length is taken from the check above, not from a second look at shared memory.
                take(copy);
                records += 1;
            }
            tail = tail.wrapping_add(n);
            // Release: the reads above are done before the producer may write there again.
            self.tail.store(tail, Ordering::Release);
        }
        Ok(records)
    }

    /// After [`Corrupt`]: skips everything that was published.
    pub fn skip_all(&self) {
        self.tail.store(self.head.load(Ordering::Acquire), Ordering::Release);
    }

    /// How many words are published and not yet consumed; nonsense positions count as a full ring.
    pub fn backlog_words(&self) -> u64 {
        let head = self.head.load(Ordering::Relaxed);
        let mut tail = self.tail.load(Ordering::Relaxed);
        let skip_to = self.skip_to.load(Ordering::Relaxed);
        if tail == self.skip_from.load(Ordering::Relaxed) && head.wrapping_sub(skip_to) <= self.length() {
            tail = skip_to;
        }
        head.wrapping_sub(tail).min(self.length())
    }
}

/// The ring's content contradicts itself: a hostile or broken writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt;

fn header(words: usize, kind: u16) -> u64 {
    words as u64 | (kind as u64) << 32
}

#[cfg(all(test, not(loom)))]
#[path = "ring_tests.rs"]
mod tests;

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::segment::record::KIND_EXECUTION;
    use loom::sync::Arc;

    type Memory = (std::vec::Vec<AtomicU64>, AtomicU64, AtomicU64, AtomicU64, AtomicU64);

    fn ring_of(memory: &Memory) -> Ring<'_> {
        let (words, head, tail, skip_from, skip_to) = memory;
        Ring { words, head, tail, skip_from, skip_to }
    }

    #[test]
    fn loom_every_interleaving_delivers_whole_records_in_order() {
        loom::model(|| {
            let words: std::vec::Vec<AtomicU64> = (0..4).map(|_| AtomicU64::new(0)).collect();
            let zero = || AtomicU64::new(0);
            let shared = Arc::new((words, zero(), zero(), zero(), zero()));
            let producer = Arc::clone(&shared);
            let thread = loom::thread::spawn(move || {
                let ring = ring_of(&producer);
                let mut sent = 0u64;
                for n in 1..=3u64 {
                    if let Some(slot) = ring.reserve(2, KIND_EXECUTION) {
                        slot.set(1, n);
                        slot.publish();
                        sent |= 1 << n;
                    }
                }
                sent
            });
            let ring = ring_of(&shared);
            let mut buffer = [0; RECORD_MAX_WORDS];
            let mut last = 0;
            let mut seen = 0u64;
            let mut take = |record: &[u64]| {
                assert_eq!(record.len(), 2);
                assert!(record[1] > last);
                last = record[1];
                seen |= 1 << record[1];
            };
            for _ in 0..2 {
                ring.drain(&mut buffer, &mut take).unwrap();
            }
            let sent = thread.join().unwrap();
            ring.drain(&mut buffer, &mut take).unwrap();
            assert_eq!(seen, sent);
        });
    }
}
