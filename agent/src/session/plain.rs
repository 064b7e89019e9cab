//! Commands that begin and end with nothing to be found out but when they were: neither chosen nor watched.
//!
//! The thread only counts them, and looks again when they have gone by; what it counted is told to those who choose then.

use super::measure::WATCH_ONE_OF;
use super::thread::Thread;

/// So long may commands go by without being looked at: 8 ms.
const PLAIN_NS: u64 = 1 << 23;

/// The commands that go by now, of which `Thread::plain_left` are to come.
#[derive(Clone, Copy)]
pub(super) struct Plain {
    /// So many were to go by.
    given: u32,
    /// How long those took that have gone by.
    query_ns: u64,
    /// Whenever one ends later than this, CLOCK_MONOTONIC, the thread looks again.
    until_ns: u64,
}

impl Plain {
    /// None are to go by.
    pub const NONE: Plain = Plain { given: 0, query_ns: 0, until_ns: 0 };
}

impl Thread {
    /// So many commands are to go by, but none after one that ends later than `until_ns`.
    pub(super) fn begin_plain(&mut self, commands: u32, until_ns: u64) {
        self.plain_left = commands;
        self.plain = Plain { given: commands, query_ns: 0, until_ns };
    }

    /// A command that went by ended at `now_ns` after `inside_ns`.
    #[inline(always)]
    pub(super) fn plain_ended(&mut self, now_ns: u64, inside_ns: u64) {
        self.plain.query_ns = self.plain.query_ns.wrapping_add(inside_ns);
        if now_ns > self.plain.until_ns {
            self.stop_plain();
        }
    }

    #[cold]
    #[inline(never)]
    fn stop_plain(&mut self) {
        self.plain.given -= self.plain_left.min(self.plain.given);
        self.plain_left = 0;
    }

    /// What went by is told to those who choose.
    pub(super) fn settle_plain(&mut self) {
        if self.plain.given == 0 {
            return;
        }
        self.stop_plain();
        let Plain { given, query_ns, .. } = core::mem::replace(&mut self.plain, Plain::NONE);
        if self.budget_ppm != 0 {
            self.sampler.pass(given, query_ns);
        }
        self.measuring.watch = self.measuring.watch.saturating_sub_unsigned(given);
    }

    /// A command that was looked at ended at `now_ns`: how many need not be from now on.
    pub(super) fn plan_plain(&mut self, now_ns: u64) {
        if self.budget_ppm == 0 || self.chooses_by_slice() {
            return;
        }
        // Beside those that are chosen, some are watched.
        let unwatched = u32::try_from(WATCH_ONE_OF - 1 + self.measuring.watch.min(0)).unwrap_or(0);
        let unwatched = if self.measuring.watch > 0 { 0 } else { unwatched };
        self.begin_plain(self.sampler.left().min(unwatched), now_ns + PLAIN_NS);
    }

    /// A command begins that is to be looked at. `None`: nothing at all is wanted, and that for long.
    #[inline]
    pub(super) fn look(&mut self) -> Option<f64> {
        if self.plain.given == 0
            && let Some(weight) = self.weight_of_all()
        {
            return Some(weight);
        }
        if self.wanted.mask == 0 {
            self.begin_plain(u32::MAX, u64::MAX);
            return None;
        }
        Some(self.choose())
    }
}
