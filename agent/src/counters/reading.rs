//! Readings of a thread's counters, and the difference of two of them.

use super::thread::USAGE_MASK;
use super::{COUNTERS_MAX, CPU_NS, Counts, SWITCHES_VOLUNTARY};
use crate::sys::time::ThreadUsage;

/// How many perf events a thread can have open.
pub const PERF_EVENTS_MAX: usize = 24;
/// How many counters come without perf.
pub(super) const CHEAP_COUNTERS: usize = 5;

/// One perf event in a reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerfReading {
    /// Counter value since the event was opened.
    pub value: u64,
    /// How long its group was enabled while the thread ran, ns.
    pub enabled_ns: u64,
    /// How long of that it was on the counters, ns.
    pub running_ns: u64,
    /// The counter's number.
    pub counter: u8,
    /// False: it could not be read this time.
    pub known: bool,
}

/// The state of a thread's counters at one moment: plain data, to be kept from the start of a query to its end.
///
/// Two readings can be compared where the same [`super::ThreadCounters`] made them.
///
/// What comes without perf is in the first cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Reading {
    /// Which thread state made it; 0: none.
    pub(super) thread: u32,
    /// Which opening of perf events it belongs to.
    pub(super) opening: u32,
    /// Bit n: `cheap[n]` was read, n = counters 0–4.
    pub(super) cheap_known: u8,
    /// How many of `perf` are in use.
    pub(super) len: u8,
    pub(super) cheap: [u64; CHEAP_COUNTERS],
    /// What getrusage(2) said of CPU time, ns; 0: it was not asked.
    pub(super) account_ns: u64,
    pub(super) perf: [PerfReading; PERF_EVENTS_MAX],
}

impl Reading {
    /// A reading that knows nothing.
    pub const fn new() -> Self {
        let none = PerfReading { value: 0, enabled_ns: 0, running_ns: 0, counter: 0, known: false };
        Reading {
            thread: 0,
            opening: 0,
            cheap_known: 0,
            len: 0,
            cheap: [0; CHEAP_COUNTERS],
            account_ns: 0,
            perf: [none; PERF_EVENTS_MAX],
        }
    }

    /// Becomes what `end` says of the counters that getrusage(2) gives, and of nothing else: the end of one query as the
    /// start of the next.
    #[inline]
    pub fn begin_from(&mut self, end: &Reading) {
        (self.thread, self.opening, self.cheap) = (end.thread, end.opening, end.cheap);
        self.cheap_known = end.cheap_known & !(1 << CPU_NS);
        self.len = 0;
    }

    /// The CPU clock in it, which is then no longer in it: [`delta`] leaves CPU time to the caller.
    #[inline]
    pub fn take_cpu_ns(&mut self) -> Option<u64> {
        let known = self.cheap_known & 1 << CPU_NS != 0;
        self.cheap_known &= !(1 << CPU_NS);
        let [cpu_ns, ..] = self.cheap;
        known.then_some(cpu_ns)
    }

    /// CPU time as getrusage(2) says it (see [`crate::sys::time::ThreadUsage`]), where that was asked.
    #[inline]
    pub fn account_ns(&self) -> Option<u64> {
        (self.account_ns != 0).then_some(self.account_ns)
    }

    /// True where the thread may have waited since `before`, an earlier reading of the same counters: all but when both know
    /// that it did not.
    #[inline]
    pub fn waited_since(&self, before: &Reading) -> bool {
        let known = self.cheap_known & before.cheap_known & 1 << SWITCHES_VOLUNTARY != 0;
        let [_, _, _, waits, _] = self.cheap;
        let [_, _, _, waits_before, _] = before.cheap;
        !known || waits != waits_before
    }

    /// The switches in it, voluntary and involuntary, where getrusage(2) was asked.
    #[inline]
    pub fn switches(&self) -> [u64; 2] {
        let [_, _, _, voluntary, involuntary] = self.cheap;
        [voluntary, involuntary]
    }

    /// Has so many more switches, voluntary and involuntary.
    #[inline]
    pub fn add_switches(&mut self, more: [u64; 2]) {
        let ([_, _, _, voluntary, involuntary], [more_voluntary, more_involuntary]) = (&mut self.cheap, more);
        *voluntary = voluntary.wrapping_add(more_voluntary);
        *involuntary = involuntary.wrapping_add(more_involuntary);
    }

    /// The perf events in it.
    pub fn perf(&self) -> &[PerfReading] {
        self.perf.get(..usize::from(self.len)).unwrap_or(&[])
    }

    /// Takes what getrusage(2) says, but for which of it is wanted.
    #[inline(always)]
    pub(super) fn take_usage(&mut self, usage: &ThreadUsage) {
        let [_, minor, major, voluntary, involuntary] = &mut self.cheap;
        *minor = usage.page_faults_minor;
        *major = usage.page_faults_major;
        *voluntary = usage.switches_voluntary;
        *involuntary = usage.switches_involuntary;
        self.account_ns = usage.cpu_ns;
    }

    pub(super) fn push(&mut self, reading: PerfReading) {
        if let Some(slot) = self.perf.get_mut(usize::from(self.len)) {
            *slot = reading;
            self.len += 1;
        }
    }
}

impl Default for Reading {
    fn default() -> Self {
        Self::new()
    }
}

/// What was counted from `start` to `end`, both readings of the same thread; replaces what `out` knew.
///
/// A counter that one of them does not know is unknown. A counter that was multiplexed away for a part of the interval
/// is scaled by time enabled / time running; if it was away for the whole interval it is unknown. A counter never runs
/// backwards: where the values would, the difference is 0.
#[inline(always)]
pub fn delta(start: &Reading, end: &Reading, out: &mut Counts) {
    out.known = 0;
    out.scaled = 0;
    if start.thread != end.thread || start.thread == 0 {
        return;
    }
    let both = start.cheap_known & end.cheap_known;
    if u64::from(both) == USAGE_MASK && (start.len | end.len) == 0 {
        // The usual case, in one piece.
        let [_, minor, major, voluntary, involuntary] = end.cheap;
        let [_, minor_before, major_before, voluntary_before, involuntary_before] = start.cheap;
        if let Some([_, to @ ..]) = out.values.first_chunk_mut::<CHEAP_COUNTERS>() {
            *to = [
                minor.saturating_sub(minor_before),
                major.saturating_sub(major_before),
                voluntary.saturating_sub(voluntary_before),
                involuntary.saturating_sub(involuntary_before),
            ];
            out.known = USAGE_MASK;
        }
        return;
    }
    delta_at_length(start, end, out);
}

/// What [`delta`] does where there is more than that.
#[inline(never)]
fn delta_at_length(start: &Reading, end: &Reading, out: &mut Counts) {
    let both = start.cheap_known & end.cheap_known;
    for (id, (from, to)) in start.cheap.iter().zip(&end.cheap).enumerate() {
        if both & (1 << id) != 0 {
            out.set(id as u8, to.saturating_sub(*from));
        }
    }
    if start.opening != end.opening {
        return;
    }
    for (from, to) in start.perf().iter().zip(end.perf()) {
        if !from.known || !to.known || from.counter != to.counter || usize::from(to.counter) >= COUNTERS_MAX {
            continue;
        }
        let value = to.value.saturating_sub(from.value);
        let enabled = to.enabled_ns.saturating_sub(from.enabled_ns);
        let running = to.running_ns.saturating_sub(from.running_ns);
        if running >= enabled {
            out.set(to.counter, value);
        } else if running > 0 {
            let scaled = u128::from(value) * u128::from(enabled) / u128::from(running);
            out.set(to.counter, u64::try_from(scaled).unwrap_or(u64::MAX));
            out.scaled |= 1 << to.counter;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::{CPU_NS, PAGE_FAULTS_MINOR};

    fn perf(counter: u8, value: u64, enabled_ns: u64, running_ns: u64) -> PerfReading {
        PerfReading { value, enabled_ns, running_ns, counter, known: true }
    }

    fn reading(perf: &[PerfReading]) -> Reading {
        let mut reading = Reading { thread: 1, opening: 1, ..Reading::new() };
        perf.iter().for_each(|one| reading.push(*one));
        reading
    }

    fn difference(start: &Reading, end: &Reading) -> Counts {
        let mut out = Counts::new();
        delta(start, end, &mut out);
        out
    }

    #[test]
    fn a_counter_that_always_ran_is_the_plain_difference() {
        let counts = difference(&reading(&[perf(5, 100, 10, 10)]), &reading(&[perf(5, 350, 30, 30)]));
        assert_eq!((counts.get(5), counts.scaled), (Some(250), 0));
    }

    #[test]
    fn a_counter_that_ran_a_quarter_of_the_time_is_scaled_by_four_and_marked() {
        // Before the interval it had run half of the time: only the interval's own times count.
        let counts = difference(&reading(&[perf(5, 100, 2000, 1000)]), &reading(&[perf(5, 150, 2400, 1100)]));
        assert_eq!((counts.get(5), counts.scaled), (Some(200), 1 << 5));
    }

    #[test]
    fn a_counter_that_did_not_run_at_all_is_unknown_not_zero() {
        let counts = difference(&reading(&[perf(5, 100, 10, 10)]), &reading(&[perf(5, 100, 20, 10)]));
        assert_eq!((counts.get(5), counts.known), (None, 0));
    }

    #[test]
    fn an_interval_too_short_for_the_clock_keeps_its_count() {
        let counts = difference(&reading(&[perf(5, 100, 10, 7)]), &reading(&[perf(5, 103, 10, 7)]));
        assert_eq!(counts.get(5), Some(3));
    }

    #[test]
    fn scaling_cannot_overflow() {
        let end = reading(&[perf(5, u64::MAX, u64::MAX, 1)]);
        assert_eq!(difference(&reading(&[perf(5, 0, 0, 0)]), &end).get(5), Some(u64::MAX));
    }

    #[test]
    fn values_that_would_run_backwards_count_zero() {
        let counts = difference(&reading(&[perf(5, 100, 10, 10)]), &reading(&[perf(5, 90, 5, 5)]));
        assert_eq!(counts.get(5), Some(0));
    }

    #[test]
    fn what_one_end_does_not_know_is_unknown() {
        let mut start = reading(&[perf(5, 1, 1, 1), perf(6, 1, 1, 1)]);
        let mut end = reading(&[perf(5, 9, 9, 9), PerfReading { known: false, ..perf(6, 9, 9, 9) }]);
        (start.cheap_known, end.cheap_known) = (0b01, 0b11);
        (start.cheap[0], end.cheap[0]) = (5, 8);
        let counts = difference(&start, &end);
        assert_eq!((counts.get(CPU_NS), counts.get(PAGE_FAULTS_MINOR)), (Some(3), None));
        assert_eq!((counts.get(5), counts.get(6)), (Some(8), None));
    }

    #[test]
    fn readings_of_two_threads_have_no_difference() {
        let mut start = Reading { thread: 1, cheap_known: 1, ..Reading::new() };
        let end = Reading { thread: 2, cheap_known: 1, ..Reading::new() };
        assert_eq!(difference(&start, &end).known, 0);
        start.thread = 2;
        assert_eq!(difference(&start, &end).known, 1);
        assert_eq!(difference(&Reading::new(), &Reading::new()).known, 0);
    }

    #[test]
    fn events_opened_anew_in_between_are_unknown_while_the_clock_goes_on() {
        let start = Reading { cheap_known: 1, ..reading(&[perf(5, 1, 1, 1)]) };
        let end = Reading { cheap_known: 1, opening: 2, ..reading(&[perf(5, 9, 9, 9)]) };
        assert_eq!(difference(&start, &end).known, 1);
    }

    #[test]
    fn what_getrusage_said_at_one_end_can_serve_as_the_next_start_without_the_clock() {
        let mut end = Reading { thread: 1, cheap_known: 0b11111, cheap: [9, 1, 2, 3, 4], ..Reading::new() };
        let mut start = Reading { thread: 1, ..Reading::new() };
        start.begin_from(&end);
        assert_eq!((start.thread, start.cheap_known, start.perf()), (1, 0b11110, &[][..]));
        assert_eq!((end.take_cpu_ns(), end.take_cpu_ns()), (Some(9), None));
        assert_eq!(difference(&start, &end).known, 0b11110);
    }
}
