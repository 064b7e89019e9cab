//! A ring in one process: order, laps, fullness, nonsense.

use super::*;
use crate::segment::record::KIND_EXECUTION;
use std::{sync::Arc, vec, vec::Vec};

struct Memory {
    words: Vec<AtomicU64>,
    positions: [AtomicU64; 4],
}

fn memory(words: usize) -> Memory {
    Memory {
        words: (0..words).map(|_| AtomicU64::new(0)).collect(),
        positions: [const { AtomicU64::new(0) }; 4],
    }
}

impl Memory {
    fn ring(&self) -> Ring<'_> {
        let [head, tail, skip_from, skip_to] = &self.positions;
        Ring { words: &self.words, head, tail, skip_from, skip_to }
    }
}

fn push(ring: &Ring<'_>, n: usize, value: u64) -> bool {
    let Some(slot) = ring.reserve(n, KIND_EXECUTION) else { return false };
    for at in 1..n {
        slot.set(at, value);
    }
    slot.publish();
    true
}

#[test]
fn what_a_producer_knows_to_be_free_is_free_and_in_one_piece() {
    // The larger one starts over where it was emptied.
    [1024, 16_384].into_iter().for_each(known_to_be_free);
}

fn known_to_be_free(length: u64) {
    let memory = memory(length as usize);
    let ring = memory.ring();
    let mut buffer = [0; RECORD_MAX_WORDS];
    let (mut until, mut looks, mut drops, mut seed) = (0, 0, 0, 7u64);
    for _ in 0..40_000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let n = 2 + (seed >> 60) as usize;
        let begin = ring.place_within(n, until).or_else(|| {
            looks += 1;
            let begin = ring.place(n)?;
            until = ring.free_until(begin);
            Some(begin)
        });
        if let Some(begin) = begin {
            assert!(begin + n as u64 <= ring.tail.load(Ordering::Relaxed) + length, "nothing is overwritten");
            assert!(begin % length + n as u64 <= length, "nothing goes over the end");
            ring.slot(begin, n, KIND_EXECUTION).expect("it is free").publish();
        } else {
            drops += 1;
        }
        if seed >> 40 & 127 == 0 {
            ring.drain(&mut buffer, |record| assert!(record.len() < 18)).expect("an honest ring");
        }
    }
    std::println!("{looks} looks, {drops} drops");
    assert!(looks - drops < 4_000 && drops < 20_000, "{looks} looks, {drops} drops");
}

#[test]
fn records_come_out_whole_and_in_order_across_many_laps() {
    let memory = memory(64);
    let ring = memory.ring();
    let mut buffer = [0; RECORD_MAX_WORDS];
    let mut expected = 0;
    let mut sent = 0;
    for round in 0..1000u64 {
        while push(&ring, 3 + (sent % 5) as usize, sent) {
            sent += 1;
        }
        assert!(sent > round, "an empty ring takes at least one record");
        ring.drain(&mut buffer, |record| {
            assert_eq!(record.len(), 3 + (expected % 5) as usize);
            assert!(record[1..].iter().all(|w| *w == expected));
            expected += 1;
        })
        .unwrap();
        assert_eq!(expected, sent);
    }
}

#[test]
fn a_record_that_was_not_published_is_never_seen() {
    let memory = memory(64);
    let ring = memory.ring();
    // The writer is killed before it publishes.
    ring.reserve(8, KIND_EXECUTION).unwrap().set(1, 7);
    let mut buffer = [0; RECORD_MAX_WORDS];
    assert_eq!(ring.drain(&mut buffer, |_| panic!("nothing was published")), Ok(0));
    assert!(push(&ring, 4, 9));
    assert_eq!(ring.drain(&mut buffer, |r| assert_eq!(r.len(), 4)), Ok(1));
}

#[test]
fn an_empty_ring_starts_over_so_that_few_pages_are_used() {
    let memory = memory(1 << 16);
    let ring = memory.ring();
    let mut buffer = [0; RECORD_MAX_WORDS];
    for n in 0..10_000 {
        assert!(push(&ring, 30, n));
        ring.drain(&mut buffer, |_| ()).unwrap();
    }
    let touched = memory.words.iter().rposition(|w| w.load(Ordering::Relaxed) != 0).unwrap();
    assert!(touched < REWIND_WORDS as usize + 60, "touched {touched} words");
}

#[test]
fn after_starting_over_the_whole_ring_is_free() {
    let memory = memory(1 << 16);
    let ring = memory.ring();
    let mut buffer = [0; RECORD_MAX_WORDS];
    for lap in 0..5u64 {
        // Just beyond the mark, empty: the next record starts over.
        while ring.head.load(Ordering::Relaxed) % (1 << 16) <= REWIND_WORDS {
            assert!(push(&ring, 30, lap));
            ring.drain(&mut buffer, |_| ()).unwrap();
        }
        let mut sent = 0;
        while push(&ring, 30, sent) {
            sent += 1;
        }
        assert_eq!(sent, (1 << 16) / 30, "lap {lap}");
        assert!(ring.backlog_words() > (1 << 16) - 30);
        let mut seen = 0;
        ring.drain(&mut buffer, |record| {
            assert_eq!(record[1], seen);
            seen += 1;
        })
        .unwrap();
        assert_eq!(seen, sent);
    }
}

#[test]
fn a_producer_killed_between_the_jump_and_its_record_leaves_nothing_behind() {
    let memory = memory(1 << 16);
    let ring = memory.ring();
    let mut buffer = [0; RECORD_MAX_WORDS];
    while ring.head.load(Ordering::Relaxed) <= REWIND_WORDS {
        assert!(push(&ring, 30, 1));
        ring.drain(&mut buffer, |_| ()).unwrap();
    }
    ring.reserve(30, KIND_EXECUTION).unwrap().set(1, 7);
    assert_eq!(ring.drain(&mut buffer, |_| panic!("nothing was published")), Ok(0));
    assert_eq!(ring.backlog_words(), 0);
    for n in 0..3000 {
        assert!(push(&ring, 30, n), "{n}");
        assert_eq!(ring.drain(&mut buffer, |r| assert_eq!(r[1], n)), Ok(1));
    }
}

#[test]
fn nonsense_in_the_ring_is_reported_and_can_be_skipped() {
    let memory = memory(64);
    let ring = memory.ring();
    let mut buffer = [0; RECORD_MAX_WORDS];
    for (first, published) in [(0u64, 8u64), (9, 8), (u64::MAX, 8), (4, 1000), (70, 64)] {
        ring.tail.store(0, Ordering::Relaxed);
        ring.words[0].store(first | 1 << 32, Ordering::Relaxed);
        ring.head.store(published, Ordering::Relaxed);
        assert_eq!(ring.drain(&mut buffer, |_| ()), Err(Corrupt), "header {first:x}, head {published}");
        ring.skip_all();
        assert_eq!(ring.drain(&mut buffer, |_| ()), Ok(0));
    }
    // A consumer's position ahead of ours: nothing can be written, nothing is.
    ring.head.store(0, Ordering::Relaxed);
    ring.tail.store(5, Ordering::Relaxed);
    assert!(ring.reserve(4, KIND_EXECUTION).is_none());
}

#[test]
fn two_threads_lose_and_invent_nothing() {
    let rounds = if cfg!(miri) { 300 } else { 200_000 };
    let shared = Arc::new(memory(256));
    let producer = Arc::clone(&shared);
    let thread = std::thread::spawn(move || {
        let ring = producer.ring();
        for n in 0..rounds {
            while !push(&ring, 2 + (n % 20) as usize, n) {
                std::thread::yield_now();
            }
        }
    });
    let ring = shared.ring();
    let mut buffer = vec![0; RECORD_MAX_WORDS];
    let mut expected = 0;
    while expected < rounds {
        ring.drain(&mut buffer, |record| {
            assert!(record[1..].iter().all(|w| *w == expected), "record {expected}");
            expected += 1;
        })
        .unwrap();
    }
    thread.join().unwrap();
}
