//! What a piece of work costs its thread: chosen, read at its start, read at its end.

use super::budget::Ended;
use super::switches::Span;
use super::thread::Thread;
use crate::clock::monotonic_ns;
use crate::counters::{CHEAP_MASK, CLIENT_WAIT_NS, CPU_NS, SWITCHES_INVOLUNTARY, SWITCHES_VOLUNTARY, delta};
use crate::segment::Lane;

/// Known without a system call when the thread was not switched.
pub(super) const FREE_MASK: u64 = 1 << CPU_NS | 1 << SWITCHES_VOLUNTARY | 1 << SWITCHES_INVOLUNTARY;
/// Counters that need perf events.
pub(super) const PERF_MASK: u64 = !(CHEAP_MASK | 1 << CLIENT_WAIT_NS);

/// What [`Thread::end_work`] found out, beside the counts.
#[derive(Clone, Copy, Default)]
pub(crate) struct Measured {
    /// Counters that are exact, mask.
    pub exact: u64,
    /// CPU time was known without a system call.
    pub cpu_for_free: bool,
}

impl Thread {
    /// Chooses whether the work that starts now has its dear counters read: its weight, or 0.
    #[inline]
    pub(crate) fn choose(&mut self) -> f64 {
        if self.wanted.mask == 0 {
            return 0.0;
        }
        if self.budget_ppm == 0 {
            return 1.0;
        }
        let slices = self.chooses_by_slice();
        self.sampler.choose(slices)
    }

    /// True when executions are chosen slice by slice, because perf events are wanted.
    #[inline]
    pub(crate) fn chooses_by_slice(&self) -> bool {
        self.budget_ppm != 0 && self.wanted.mask & PERF_MASK != 0
    }

    /// The work starts: CLOCK_MONOTONIC, taken last, so that none of this is the work's time.
    #[inline]
    pub(crate) fn begin_work(&mut self, weight: f64) -> u64 {
        if weight > 0.0 {
            let before_ns = monotonic_ns();
            if !self.open {
                self.open_counters(before_ns);
            }
            let reading_ns = monotonic_ns();
            self.counters.read(&mut self.start);
            self.span = Span::begin();
            let now_ns = monotonic_ns();
            self.paid_ns = now_ns.saturating_sub(reading_ns);
            return now_ns;
        }
        if self.open && self.wanted.mask & PERF_MASK != 0 {
            // Open events cost something at each context switch.
            self.counters.release();
            self.open = false;
        }
        self.paid_ns = 0;
        self.span = Span::begin();
        monotonic_ns()
    }

    /// Capture is off: perf events that are still open would go on costing something at each context switch.
    #[inline]
    pub(crate) fn rest(&mut self) {
        if self.open {
            self.close_counters();
        }
    }

    #[cold]
    fn close_counters(&mut self) {
        self.counters.release();
        self.open = false;
        self.generation = 0;
    }

    #[cold]
    fn open_counters(&mut self, before_ns: u64) {
        let wanted = self.wanted;
        self.counters.prepare(&wanted, self.generation as u32);
        self.open = true;
        if wanted.mask & PERF_MASK != 0 {
            self.sampler.opened(monotonic_ns().saturating_sub(before_ns));
        }
    }

    /// The work ended at `now_ns` after `inside_ns`: the differences are in `counts`.
    #[inline]
    pub(crate) fn end_work(&mut self, weight: f64, now_ns: u64, inside_ns: u64) -> Measured {
        let unswitched = self.span.end();
        self.counts.known = 0;
        self.counts.scaled = 0;
        if weight > 0.0 {
            self.counters.read(&mut self.end);
            delta(&self.start, &self.end, &mut self.counts);
            self.paid_ns += monotonic_ns().saturating_sub(now_ns);
        }
        let free = FREE_MASK & self.wanted.mask;
        if !unswitched || free == 0 {
            return Measured::default();
        }
        // Not switched: the thread had the CPU all the time.
        self.counts.set(CPU_NS, inside_ns);
        self.counts.set(SWITCHES_VOLUNTARY, 0);
        self.counts.set(SWITCHES_INVOLUNTARY, 0);
        Measured { exact: free, cpu_for_free: true }
    }

    /// An execution that was asked about ended at `now_ns` after `inside_ns`.
    #[inline]
    pub(crate) fn ended(&mut self, now_ns: u64, inside_ns: u64) {
        let (tid, budget_ppm) = (self.tid, self.budget_ppm);
        if budget_ppm != 0 {
            let slices = self.chooses_by_slice();
            self.sampler.ended(Ended { now_ns, inside_ns, tid, budget_ppm, slices });
        }
    }

    /// Notes what an execution's measurement was, and that it cost `paid_ns` in all.
    #[inline]
    pub(crate) fn account(&mut self, lane: &Lane<'_>, weight: f64, measured: Measured, paid_ns: u64) {
        if weight > 0.0 {
            self.sampler.paid(paid_ns);
        }
        let probability_ppm =
            if self.budget_ppm == 0 { crate::segment::layout::PPM } else { self.sampler.probability_ppm() };
        lane.note_account(weight > 0.0, measured.cpu_for_free, paid_ns, probability_ppm);
    }
}
