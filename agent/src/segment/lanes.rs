//! Lanes: one ring per thread that records.

use super::layout::{LANE_WORDS, lane as at};
use super::ring::{Ring, Slot};
use core::sync::atomic::{AtomicU64, Ordering};

/// What a lane's threads did and paid, since the segment was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneAccount {
    /// Executions recorded.
    pub executions: u64,
    /// Executions whose dear counters were read.
    pub counted: u64,
    /// Executions whose CPU time was known without a system call.
    pub cpu_for_free: u64,
    /// Time spent on readings, ns.
    pub spent_ns: u64,
    /// The present probability of being counted, in millionths.
    pub probability_ppm: u64,
}

/// A lane: its description and its ring.
#[derive(Clone, Copy)]
pub struct Lane<'a> {
    words: &'a [AtomicU64; LANE_WORDS],
    ring: &'a [AtomicU64],
}

static NONE: AtomicU64 = AtomicU64::new(0);

impl<'a> Lane<'a> {
    pub(super) fn new(words: &'a [AtomicU64; LANE_WORDS], ring: &'a [AtomicU64]) -> Self {
        Lane { words, ring }
    }

    #[inline]
    fn word(&self, at: usize) -> &'a AtomicU64 {
        self.words.get(at).unwrap_or(&NONE)
    }

    /// The owner: (pid, tid), or `None` when the lane is free.
    pub fn owner(&self) -> Option<(u32, u32)> {
        let owner = self.word(at::OWNER).load(Ordering::Acquire);
        (owner != 0).then_some(((owner >> 32) as u32, owner as u32))
    }

    /// Takes the lane for a thread if its owner is still `from`. A dead owner's lane goes on where the dead one stopped:
    /// what it had published is still read, in order.
    pub fn take(&self, from: Option<(u32, u32)>, pid: u32, tid: u32, now_ns: u64) -> bool {
        let from = from.map_or(0, |(pid, tid)| (pid as u64) << 32 | tid as u64);
        let to = (pid as u64) << 32 | tid as u64;
        // Acquire: sees the head as the previous owner left it; Release: publishes nothing yet.
        let won =
            self.word(at::OWNER).compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if won {
            self.word(at::TAKEN_NS).store(now_ns, Ordering::Relaxed);
        }
        won
    }

    /// Gives the lane back.
    pub fn release(&self) {
        // Release: the next owner continues at our head.
        self.word(at::OWNER).store(0, Ordering::Release);
    }

    /// The ring.
    #[inline(always)]
    pub fn ring(&self) -> Ring<'a> {
        Ring {
            words: self.ring,
            head: self.word(at::HEAD),
            tail: self.word(at::TAIL),
            skip_from: self.word(at::SKIP_FROM),
            skip_to: self.word(at::SKIP_TO),
        }
    }

    /// Room for a record in the ring; see [`Ring::reserve`].
    #[inline(always)]
    pub fn reserve(&self, n: usize, kind: u16) -> Option<Slot<'a>> {
        let ring = self.ring();
        let begin = match ring.place_here(n) {
            Some(begin) => begin,
            None => (*self).place_elsewhere(n)?,
        };
        ring.slot(begin, n, kind)
    }

    /// The same for a thread that keeps up to which position the ring is known to be free, at first 0: what it is asked for is
    /// nearly always there without a look at the consumer's position.
    #[inline(always)]
    pub fn reserve_within(&self, n: usize, kind: u16, until: &mut u64) -> Option<Slot<'a>> {
        let ring = self.ring();
        let begin = match ring.place_within(n, *until) {
            Some(begin) => begin,
            None => {
                let (begin, free_until) = (*self).place_anew(n)?;
                *until = free_until;
                begin
            }
        };
        ring.slot(begin, n, kind)
    }

    #[cold]
    #[inline(never)]
    fn place_anew(self, n: usize) -> Option<(u64, u64)> {
        let ring = self.ring();
        let begin = ring.place(n)?;
        Some((begin, ring.free_until(begin)))
    }

    /// By value, and with a number as its answer: in the usual case neither the ring nor the slot is put together in memory.
    #[cold]
    #[inline(never)]
    fn place_elsewhere(self, n: usize) -> Option<u64> {
        self.ring().place_elsewhere(n)
    }

    /// Counts a dropped record.
    pub fn count_drop(&self) {
        // Only the owner writes it.
        let drops = self.word(at::DROPS);
        drops.store(drops.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Records dropped since the segment was made.
    pub fn drops(&self) -> u64 {
        self.word(at::DROPS).load(Ordering::Relaxed)
    }

    /// Adds an execution of which nothing dear is asked to the lane's account. Only the owner writes it.
    #[inline(always)]
    pub fn note_execution(&self) {
        let word = self.word(at::EXECUTIONS);
        word.store(word.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Adds to the lane's account. Only the owner writes it.
    #[inline]
    pub fn note_account(&self, counted: bool, cpu_for_free: bool, spent_ns: u64, probability_ppm: u64) {
        let add = |at: usize, n: u64| {
            let word = self.word(at);
            word.store(word.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
        };
        add(at::EXECUTIONS, 1);
        add(at::CPU_FOR_FREE, cpu_for_free.into());
        if counted {
            add(at::COUNTED, 1);
            add(at::SPENT_NS, spent_ns);
            self.word(at::PROBABILITY_PPM).store(probability_ppm, Ordering::Relaxed);
        }
    }

    /// The lane's account.
    pub fn account(&self) -> LaneAccount {
        let read = |at: usize| self.word(at).load(Ordering::Relaxed);
        LaneAccount {
            executions: read(at::EXECUTIONS),
            counted: read(at::COUNTED),
            cpu_for_free: read(at::CPU_FOR_FREE),
            spent_ns: read(at::SPENT_NS),
            probability_ppm: read(at::PROBABILITY_PPM),
        }
    }

    /// Notes which wanted counters this lane's thread can't read, and which only in user mode.
    pub fn note_counters(&self, unavailable: &[u8; 64], user_mode_only: u64) {
        super::view::store_bytes(
            self.words.get(at::UNAVAILABLE..at::UNAVAILABLE + 8).unwrap_or(&[]),
            unavailable,
        );
        self.word(at::USER_MODE_ONLY).store(user_mode_only, Ordering::Relaxed);
    }

    /// What [`note_counters`](Self::note_counters) noted.
    pub fn counters_noted(&self) -> ([u8; 64], u64) {
        let mut unavailable = [0; 64];
        super::view::load_bytes(
            self.words.get(at::UNAVAILABLE..at::UNAVAILABLE + 8).unwrap_or(&[]),
            &mut unavailable,
        );
        (unavailable, self.word(at::USER_MODE_ONLY).load(Ordering::Relaxed))
    }
}
