//! A thread's CPU clock, read seldom: while the thread is not switched the clock goes as fast as wall time.
//!
//! One reading of the clock is a system call of half a microsecond. A thread that was not switched since its last
//! reading knows the clock from the wall time that has gone by. So one reading, at the end of a piece of work in which
//! the thread was switched, also says what the clock was at its beginning and what it is at the beginning of the next.
//!
//! A reading is noted with the wall time right before the call. The kernel takes the clock's value some time later,
//! always the same: that drops out of each difference of two.

use super::switches::Span;

/// A reading is carried so far and no further: the clocks drift apart (by up to 500 parts in a million while the time is
/// adjusted), and interrupts and a hypervisor take time that the CPU clock may leave out.
const CARRY_MAX_NS: u64 = 1 << 20;

/// What is known of a thread's CPU clock.
#[derive(Clone, Copy)]
pub(super) struct CpuClock {
    span: Span,
    /// Whose clock: the number of the thread's counters. 0: nothing is known.
    thread: u32,
    /// CLOCK_MONOTONIC at the reading.
    at_ns: u64,
    /// What the clock said.
    cpu_ns: u64,
}

impl CpuClock {
    /// Nothing is known.
    pub const fn new() -> Self {
        CpuClock { span: Span::NONE, thread: 0, at_ns: 0, cpu_ns: 0 }
    }

    /// True when the thread was certainly not switched since [`watch`](Self::watch).
    #[inline]
    pub fn holds(&self) -> bool {
        self.span.holds()
    }

    /// True when the thread was switched since [`watch`](Self::watch): seen, not only unknown.
    #[inline]
    pub fn was_switched(&self) -> bool {
        self.span.is_armed() && !self.span.holds()
    }

    /// True when a switch will be seen.
    #[inline]
    pub fn is_watched(&self) -> bool {
        self.span.is_armed()
    }

    /// Nobody asks about the next piece of work: what was known is over.
    #[inline]
    pub fn forget(&mut self) {
        self.thread = 0;
        self.span.forget();
    }

    /// Nobody watches until the next [`watch`](Self::watch), as far as the watch [holds](Self::holds) now: what was known is over,
    /// and a switch costs no more than without.
    #[inline]
    pub fn rest(&mut self) {
        self.thread = 0;
        self.span.end();
    }

    /// Watches for switches from now on, where they have to be watched for anew: what was known is over.
    #[inline]
    pub fn watch(&mut self) {
        if !self.span.holds() {
            self.thread = 0;
            self.span.begin_long();
        }
    }

    /// The clock of `thread` was `cpu_ns` at `at_ns`, since when switches are watched for.
    #[inline]
    pub fn know(&mut self, thread: u32, at_ns: u64, cpu_ns: u64) {
        (self.thread, self.at_ns, self.cpu_ns) = (thread, at_ns, cpu_ns);
    }

    /// The clock of `thread` at `now_ns`, if that is known without a call.
    #[inline]
    pub fn at(&self, thread: u32, now_ns: u64) -> Option<u64> {
        let gone_ns = now_ns.wrapping_sub(self.at_ns);
        let known = self.thread == thread && thread != 0 && gone_ns <= CARRY_MAX_NS && self.holds();
        known.then(|| self.cpu_ns + gone_ns)
    }
}
