//! The control page: what the collector asks for.

use super::layout::{CONTROL_WORDS, control as at};
use crate::counters::{CustomEvent, Wanted};
use core::sync::atomic::{AtomicU64, Ordering};

/// A collector that gave no sign of life for so long is taken for dead, and capture is switched off: 1 s. It beats fifty
/// times a second.
pub const HEARTBEAT_LIMIT_NS: u64 = 1_000_000_000;

/// The control page.
#[derive(Clone, Copy)]
pub struct Control<'a> {
    words: &'a [AtomicU64; CONTROL_WORDS],
}

impl<'a> Control<'a> {
    #[inline]
    pub(crate) fn new(words: &'a [AtomicU64; CONTROL_WORDS]) -> Self {
        Control { words }
    }

    #[inline]
    fn word(&self, at: usize) -> &'a AtomicU64 {
        static NONE: AtomicU64 = AtomicU64::new(0);
        self.words.get(at).unwrap_or(&NONE)
    }

    #[inline]
    fn load(&self, at: usize) -> u64 {
        self.word(at).load(Ordering::Relaxed)
    }

    /// 0 while capture is off, else the generation of what is wanted.
    #[inline]
    pub fn capture(&self) -> u64 {
        // Acquire: the wanted counters were stored before the generation.
        self.word(at::CAPTURE).load(Ordering::Acquire)
    }

    /// The word that [`capture`](Self::capture) reads.
    pub fn capture_word(&self) -> &'a AtomicU64 {
        self.word(at::CAPTURE)
    }

    /// The generation of the present or last capture.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.load(at::GENERATION)
    }

    /// What is wanted; read it after [`capture`](Self::capture) showed a new generation.
    pub fn wanted(&self) -> Wanted {
        let mut custom = [CustomEvent::default(); crate::counters::CUSTOM_MAX];
        for (n, event) in custom.iter_mut().enumerate() {
            let word = self.load(at::CUSTOM + 2 * n);
            event.kind = word as u32;
            event.modifiers = (word >> 32) as u32;
            event.config = self.load(at::CUSTOM + 2 * n + 1);
        }
        Wanted {
            mask: self.load(at::WANTED),
            user_only: self.load(at::USER_ONLY),
            kernel_only: self.load(at::KERNEL_ONLY),
            custom,
            user_space_reads: self.load(at::USER_SPACE_READS) as u32,
            budget_ppm: self.load(at::BUDGET_PPM) as u32,
        }
    }

    /// True where no budget limits the executions whose counters are read, and some are wanted.
    #[inline]
    pub fn reads_all(&self) -> bool {
        self.load(at::BUDGET_PPM) == 0 && self.load(at::WANTED) != 0
    }

    /// Not 0: only this connection is captured.
    #[inline]
    pub fn only_connection(&self) -> u64 {
        self.load(at::ONLY_CONNECTION)
    }

    /// Collector: captures only the session with this connection id; 0: all. Before [`switch_on`](Self::switch_on).
    pub fn set_only_connection(&self, connection_id: u64) {
        self.word(at::ONLY_CONNECTION).store(connection_id, Ordering::Relaxed);
    }

    /// Collector: asks for `wanted` and switches capture on.
    pub fn switch_on(&self, wanted: &Wanted, now_ns: u64) {
        let set = |at: usize, value: u64| self.word(at).store(value, Ordering::Relaxed);
        set(at::WANTED, wanted.mask);
        set(at::USER_ONLY, wanted.user_only);
        set(at::KERNEL_ONLY, wanted.kernel_only);
        set(at::USER_SPACE_READS, wanted.user_space_reads as u64);
        set(at::BUDGET_PPM, wanted.budget_ppm as u64);
        for (n, event) in wanted.custom.iter().enumerate() {
            set(at::CUSTOM + 2 * n, event.kind as u64 | (event.modifiers as u64) << 32);
            set(at::CUSTOM + 2 * n + 1, event.config);
        }
        set(at::OFF_REASON, 0);
        set(at::HEARTBEAT_NS, now_ns);
        let generation = self.word(at::GENERATION).fetch_add(1, Ordering::Relaxed).wrapping_add(1).max(1);
        // Release: pairs with the Acquire in `capture`.
        self.word(at::CAPTURE).store(generation, Ordering::Release);
    }

    /// Switches capture off.
    pub fn switch_off(&self) {
        self.set_only_connection(0);
        self.word(at::CAPTURE).store(0, Ordering::Release);
    }

    /// Collector: a sign of life.
    pub fn beat(&self, now_ns: u64) {
        self.word(at::HEARTBEAT_NS).store(now_ns, Ordering::Relaxed);
    }

    /// True when the collector has been silent for too long at `now_ns`.
    #[inline]
    pub fn is_collector_silent(&self, now_ns: u64) -> bool {
        // A heartbeat after `now` is a collector that beat in between, not one from the future.
        now_ns.saturating_sub(self.load(at::HEARTBEAT_NS)) > HEARTBEAT_LIMIT_NS
    }

    /// Agent: switches capture off because the collector is silent.
    pub fn give_up(&self, generation: u64) {
        // Only this generation: a new collector may just have switched on.
        let off =
            self.word(at::CAPTURE).compare_exchange(generation, 0, Ordering::Relaxed, Ordering::Relaxed);
        if off.is_ok() {
            self.word(at::OFF_REASON).store(1, Ordering::Relaxed);
        }
    }

    /// True when the agent switched capture off because the collector was silent.
    pub fn has_given_up(&self) -> bool {
        self.load(at::OFF_REASON) == 1
    }

    /// The collector that claimed the segment: pid (0: none) and start time in ticks since boot.
    pub fn collector(&self) -> (u32, u64) {
        (self.word(at::COLLECTOR_PID).load(Ordering::Acquire) as u32, self.load(at::COLLECTOR_START))
    }

    /// Collector: claims the segment if its claim is still `expected`; false when another one was faster.
    pub fn claim(&self, expected: u32, pid: u32, start_ticks: u64) -> bool {
        let word = self.word(at::COLLECTOR_PID);
        let won =
            word.compare_exchange(expected as u64, pid as u64, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if won {
            self.word(at::COLLECTOR_START).store(start_ticks, Ordering::Relaxed);
        }
        won
    }

    /// Collector: gives the segment up.
    pub fn unclaim(&self, pid: u32) {
        let word = self.word(at::COLLECTOR_PID);
        let _ = word.compare_exchange(pid as u64, 0, Ordering::AcqRel, Ordering::Relaxed);
    }
}
