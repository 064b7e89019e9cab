//! Commands that begin and end with nothing to be found out but when they were: neither chosen nor watched. And executions of
//! SQLite that are not chosen.
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
    /// How many readings they would have had beyond one each.
    more_readings: u64,
    /// Whenever one ends later than this, CLOCK_MONOTONIC, the thread looks again.
    until_ns: u64,
}

impl Plain {
    /// None are to go by.
    pub const NONE: Plain = Plain { given: 0, query_ns: 0, more_readings: 0, until_ns: 0 };
}

impl Thread {
    /// So many commands are to go by, but none after one that ends later than `until_ns`.
    pub(super) fn begin_plain(&mut self, commands: u32, until_ns: u64) {
        self.plain_left = commands;
        self.plain = Plain { given: commands, until_ns, ..Plain::NONE };
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
        let Plain { given, query_ns, more_readings, .. } = core::mem::replace(&mut self.plain, Plain::NONE);
        if self.budget_ppm != 0 {
            self.sampler.pass(given, query_ns, u64::from(given) + more_readings);
        }
        // As low as that it is watched again.
        self.measuring.watch = self.measuring.watch.saturating_sub_unsigned(given).max(-WATCH_ONE_OF);
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

    /// An execution of SQLite that was not chosen ended at `now_ns` after `inside_ns`, and would have had so many `readings`.
    /// True: nor is the next one chosen, and all of that was noted.
    #[inline(always)]
    pub(crate) fn passes_by(&mut self, now_ns: u64, inside_ns: u64, readings: u64) -> bool {
        if self.plain_left == 0 {
            return false;
        }
        self.plain_left -= 1;
        self.plain.more_readings = self.plain.more_readings.wrapping_add(readings.saturating_sub(1));
        self.plain_ended(now_ns, inside_ns);
        true
    }

    /// The same that has to be looked at: the weight of the next one. Where that is not chosen: how many more are not.
    pub(crate) fn look_ahead(&mut self, now_ns: u64, inside_ns: u64, readings: u64) -> f64 {
        // Chosen before the window may end, with which it is drawn anew: that must not depend on what was drawn, and here is
        // where it has come to its turn.
        let weight = self.choose();
        self.ended(now_ns, inside_ns, readings);
        if self.wanted.mask == 0 {
            self.begin_plain(u32::MAX, u64::MAX);
        } else if weight == 0.0 {
            self.begin_plain(self.sampler.left(), now_ns + PLAIN_NS);
        }
        weight
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::{CHEAP_MASK, Wanted};

    /// The weights of executions of 15 µs and `readings` readings each, as SQLite's steps ask for them.
    fn weights(thread: &mut Thread, executions: u32, readings: u64) -> (f64, u32) {
        let (mut now_ns, mut weight, mut sum, mut looks) = (1 << 40, thread.choose(), 0.0, 0);
        for _ in 0..executions {
            now_ns += 15_000;
            sum += weight;
            if weight > 0.0 {
                thread.sampler.paid(1_000 * readings, readings);
            }
            weight = if weight == 0.0 && thread.passes_by(now_ns, 15_000, readings) {
                0.0
            } else {
                looks += 1;
                thread.look_ahead(now_ns, 15_000, readings)
            };
        }
        (sum, looks)
    }

    #[test]
    fn those_that_were_chosen_stand_for_those_that_went_by() {
        // Three standard errors of the 15 000, 7 500 and 1 360 that are chosen.
        for (readings, most) in [(1, 0.025), (2, 0.035), (11, 0.08)] {
            let mut thread = Thread::new();
            (thread.wanted, thread.budget_ppm) = (Wanted { mask: CHEAP_MASK, ..Wanted::NOTHING }, 20_000);
            weights(&mut thread, 1_000, readings);
            let (sum, looks) = weights(&mut thread, 600_000, readings);
            let error = (sum / 600_000.0 - 1.0).abs();
            assert!(error < most, "{readings} readings: {sum} of 600000");
            assert!(looks < 60_000, "{looks} of 600000 were looked at");
        }
    }

    #[test]
    fn all_go_by_where_nothing_is_wanted_and_none_where_all_are_counted() {
        let mut thread = Thread::new();
        assert_eq!(weights(&mut thread, 1_000, 2), (0.0, 1));
        (thread.wanted, thread.budget_ppm) = (Wanted { mask: CHEAP_MASK, ..Wanted::NOTHING }, 0);
        thread.begin_plain(0, 0);
        assert_eq!(weights(&mut thread, 1_000, 2), (1_000.0, 1_000));
    }
}
